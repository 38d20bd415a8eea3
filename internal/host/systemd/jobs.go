package systemd

import (
	"context"
	"fmt"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
)

const (
	// patience bounds a wait whose caller set no deadline.
	patience = 5 * time.Minute
	// glance is how often a wait looks whether its connection still stands.
	glance = 100 * time.Millisecond
)

// A job is one that was queued; its result comes on ch.
type job struct {
	verb, name string
	ch         chan string
}

type enqueue func(c *dbus.Conn, ctx context.Context, name, mode string, ch chan<- string) (int, error)

var verbs = map[string]enqueue{
	"start": func(c *dbus.Conn, ctx context.Context, n, m string, ch chan<- string) (int, error) {
		return c.StartUnitContext(ctx, n, m, ch)
	},
	"start-alone": func(c *dbus.Conn, ctx context.Context, n, _ string, ch chan<- string) (int, error) {
		return c.StartUnitContext(ctx, n, "ignore-dependencies", ch)
	},
	"stop": func(c *dbus.Conn, ctx context.Context, n, m string, ch chan<- string) (int, error) {
		return c.StopUnitContext(ctx, n, m, ch)
	},
	"restart": func(c *dbus.Conn, ctx context.Context, n, m string, ch chan<- string) (int, error) {
		return c.RestartUnitContext(ctx, n, m, ch)
	},
	"try-restart": func(c *dbus.Conn, ctx context.Context, n, m string, ch chan<- string) (int, error) {
		return c.TryRestartUnitContext(ctx, n, m, ch)
	},
	"reload": func(c *dbus.Conn, ctx context.Context, n, m string, ch chan<- string) (int, error) {
		return c.ReloadUnitContext(ctx, n, m, ch)
	},
}

// Job queues verb for all names, then waits for all results. Stopping what is not loaded is
// done already.
func (s *Systemd) Job(ctx context.Context, verb string, names []string) map[string]error {
	errs := map[string]error{}
	if len(names) == 0 {
		return errs
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, patience)
		defer cancel()
	}

	conn, err := s.connect(ctx)
	var jobs []job
	for _, n := range names {
		j := job{verb, n, make(chan string, 1)}
		if err == nil {
			errs[n] = queue(ctx, conn, j, j.ch)
		} else {
			errs[n] = fmt.Errorf("%s %s: %w", verb, n, err)
		}
		if errs[n] == nil {
			jobs = append(jobs, j)
		}
	}

	for _, j := range jobs {
		if err := s.wait(ctx, conn, j); err != nil {
			errs[j.name] = fmt.Errorf("%s %s: %w", verb, j.name, err)
		}
	}

	for n, err := range errs {
		if err == nil {
			delete(errs, n)
		}
	}

	return errs
}

// Queue asks for a job and returns once systemd has it.
func (s *Systemd) Queue(ctx context.Context, verb, name string) error {
	conn, err := s.connect(ctx)
	if err != nil {
		return fmt.Errorf("%s %s: %w", verb, name, err)
	}
	return queue(ctx, conn, job{verb: verb, name: name}, nil)
}

func queue(ctx context.Context, conn *dbus.Conn, j job, ch chan<- string) error {
	ask, ok := verbs[j.verb]
	if !ok {
		return fmt.Errorf("systemd knows no verb %q", j.verb)
	}
	if _, err := ask(conn, ctx, j.name, "replace", ch); err != nil {
		return fmt.Errorf("%s %s: %w", j.verb, j.name, err)
	}
	return nil
}

// wait returns when the job has its result, the time is over, or the connection was lost and
// the unit's state tells.
func (s *Systemd) wait(ctx context.Context, conn *dbus.Conn, j job) error {
	look := time.NewTicker(glance)
	defer look.Stop()
	for {
		select {
		case result := <-j.ch:
			return verdict(result)
		case <-ctx.Done():
			return fmt.Errorf("no result in time: %w", ctx.Err())
		case <-look.C:
			if conn.Connected() {
				continue
			}
			select { // it may have come just before
			case result := <-j.ch:
				return verdict(result)
			default:
				return s.settled(ctx, j)
			}
		}
	}
}

func verdict(result string) error {
	if result == "done" {
		return nil
	}
	return jobError(result)
}

// A jobError is how a job ended that did not end well.
type jobError string

func (e jobError) Error() string { return fmt.Sprintf("job ended as %q", string(e)) }

// settled waits over a new connection until no job is left for the unit, and judges by its
// state.
func (s *Systemd) settled(ctx context.Context, j job) error {
	for {
		states, err := s.Units(ctx, []string{j.name})
		if err != nil {
			return err
		}

		st := states[j.name]
		if !st.Job {
			ranWell := st.Oneshot && st.Result == "success"
			up := st.Running() || ranWell
			if up == (j.verb != "stop") || j.verb == "try-restart" {
				return nil
			}
			return fmt.Errorf("the connection was lost, and the unit is %s (%s)", st.Active, st.Result)
		}

		select {
		case <-ctx.Done():
			return fmt.Errorf("no result in time: %w", ctx.Err())
		case <-time.After(glance):
		}
	}
}
