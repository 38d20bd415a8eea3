// Package before runs the steps of services that come before anything of them is touched.
//
// A step is a command: a backup, a check. The steps of one service run in the order of the config,
// those of several services side by side. What came of them is written to a small file, so that a
// process that was killed, and the other runs of one deploy, know it: the steps of a service run once
// for each deploy and digest of the service. The promise: a step that fails touched nothing but what
// it touched itself.
package before

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"bellhop/internal/bundle"
	"bellhop/internal/host/command"
	"bellhop/internal/host/machine"
)

// Unit is the unit that the steps of a service run in, one after the other.
func Unit(service string) string { return bundle.BeforeUnits + service + ".service" }

// An Outcome is what came of the steps of one service.
type Outcome struct {
	Service string `json:"service"`
	Digest  string `json:"digest"`            // of the service, as the bundle has it
	Failed  int    `json:"failed,omitempty"`  // the step that failed, counted from 1; 0: none did
	Command string `json:"command,omitempty"` // that failed, as messages name it
	Wrong   string `json:"wrong,omitempty"`   // what is wrong with it, for people

	Result     string `json:"result,omitempty"` // as systemd names it
	Exit       int    `json:"exit,omitempty"`
	Invocation string `json:"invocation,omitempty"` // of the unit that it ran in: the journal has its output
}

// Err is the outcome as an error; nil when all steps did well.
func (o *Outcome) Err() error {
	if o.Failed == 0 {
		return nil
	}
	return fmt.Errorf("step %d before service %s (%s): %s", o.Failed, o.Service, o.Command, o.Wrong)
}

// A Runner runs steps. Its fields are set before its first use. Its funcs may be nil, and are called
// by the goroutine that called Run.
type Runner struct {
	Commands machine.Commands
	Path     string                         // the file of outcomes
	Write    func(p []byte) error           // writes it, whole or not at all
	Deploy   string                         // id of the deploy: of its first run
	Began    func(service string)           // called before the first step of a service
	Started  func(service string, step int) // called when a step runs, counted from 1
	Wrote    func(service string)           // called when the outcome of a service is written

	done file
}

// A file is the file of outcomes.
type file struct {
	Deploy   string    `json:"deploy"`
	Outcomes []Outcome `json:"outcomes,omitempty"`
}

// Run runs the steps of services, and returns their outcomes in that order; of a service whose steps
// ran for this deploy already, what came of them then. ran says that any step was run now. An error
// is that a step could neither run nor fail, or that ctx ended: what runs goes on, and the next Run
// finds it.
func (r *Runner) Run(ctx context.Context, services []bundle.Service) (outcomes []Outcome, ran bool, err error) {
	if err := r.read(); err != nil {
		return nil, false, err
	}

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	outcomes = make([]Outcome, len(services))
	said := make(chan news)
	left := 0
	for i, s := range services {
		var known bool
		if outcomes[i], known = r.known(s); known {
			// Who wrote it may have died before it could do this.
			if err := r.Commands.Remove(ctx, Unit(s.Name)); err != nil {
				return nil, false, err
			}
			continue
		}

		left++
		r.tell(r.Began, s.Name)
		go r.service(ctx, i, s, said)
	}

	ran = left > 0
	for left > 0 {
		var n news
		select {
		case n = <-said:
		case <-ctx.Done(): // whoever would say something may be gone
			return nil, ran, context.Cause(ctx)
		}

		switch {
		case n.err != nil:
			return nil, ran, n.err
		case n.step > 0:
			if r.Started != nil {
				r.Started(n.outcome.Service, n.step)
			}
		default:
			left--
			outcomes[n.at] = n.outcome
			if err := r.write(ctx, n.outcome); err != nil {
				return nil, ran, err
			}
		}
	}

	return outcomes, ran, nil
}

func (r *Runner) tell(f func(string), service string) {
	if f != nil {
		f(service)
	}
}

// news is what the goroutine of a service says: that a step runs, what came of all, or an error.
type news struct {
	at      int // of the service
	step    int // that runs, counted from 1; 0: the steps have ended
	outcome Outcome
	err     error
}

// read reads what this deploy did already. The file of another deploy counts as none.
func (r *Runner) read() error {
	p, err := os.ReadFile(r.Path)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	} else if err == nil {
		err = json.Unmarshal(p, &r.done)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", r.Path, err)
	}
	if r.done.Deploy != r.Deploy {
		r.done = file{Deploy: r.Deploy}
	}
	return nil
}

func (r *Runner) known(s bundle.Service) (Outcome, bool) {
	for _, o := range r.done.Outcomes {
		if o.Service == s.Name && o.Digest == s.Digest {
			return o, true
		}
	}
	return Outcome{}, false
}

// service runs the steps of one service until one fails. Nobody may hear it any more when ctx has
// ended.
func (r *Runner) service(ctx context.Context, at int, s bundle.Service, said chan<- news) {
	say := func(n news) bool {
		n.at = at
		select {
		case said <- n:
			return true
		case <-ctx.Done():
			return false
		}
	}

	o := Outcome{Service: s.Name, Digest: s.Digest}
	for i, step := range s.Before {
		err := r.step(ctx, &o, i, step, len(s.Before), func() bool { return say(news{step: i + 1, outcome: o}) })
		if err != nil {
			say(news{err: fmt.Errorf("step %d before service %s: %w", i+1, s.Name, err)})
			return
		}
		if o.Failed > 0 {
			break
		}
	}

	say(news{outcome: o})
}

// step runs one step, and notes in o how it failed. The unit of the last one stays until that is
// written.
func (r *Runner) step(ctx context.Context, o *Outcome, i int, step bundle.Step, of int, started func() bool) error {
	c := machine.Command{Unit: Unit(o.Service), Mark: r.mark(o, i+1, of), Text: step.Command, User: step.User, Timeout: step.Limit()}
	past, err := r.isPast(ctx, c, o, i, of)
	if past || err != nil {
		return err
	}
	if err := command.Begin(ctx, r.Commands, c); err != nil {
		return err
	}
	if !started() {
		return ctx.Err()
	}

	st, err := command.Wait(ctx, r.Commands, c)
	if err != nil {
		return err
	}

	o.Invocation = st.Invocation
	if wrong := command.Wrong(c, st); wrong != "" {
		o.Failed, o.Command, o.Wrong = i+1, bundle.Brief(step.Command), wrong
		o.Result, o.Exit = st.Result, max(st.Exit.Signal, st.Exit.Status)
	}

	return nil
}

// isPast says that a later step of the service is in the unit already: a process before this one came
// so far, and was killed.
func (r *Runner) isPast(ctx context.Context, c machine.Command, o *Outcome, i, of int) (bool, error) {
	st, err := r.Commands.CommandState(ctx, c.Unit)
	if err != nil {
		return false, err
	}
	for later := i + 1; later < of; later++ {
		if st.Mark == r.mark(o, later+1, of) {
			return true, nil
		}
	}
	return false, nil
}

// mark tells a step of one deploy from all others that ran in its unit.
func (r *Runner) mark(o *Outcome, step, of int) string {
	return fmt.Sprintf("bellhop: step %d of %d before %s, deploy %s, %.12s", step, of, o.Service, r.Deploy, o.Digest)
}

// write writes an outcome down, and only then forgets the unit that has it too.
func (r *Runner) write(ctx context.Context, o Outcome) error {
	r.done.Outcomes = append(r.done.Outcomes, o)
	p, err := json.Marshal(r.done)
	if err == nil {
		err = r.Write(p)
	}
	if err != nil {
		return err
	}

	r.tell(r.Wrote, o.Service)
	return r.Commands.Remove(ctx, Unit(o.Service))
}
