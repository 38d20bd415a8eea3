// Package restart restarts the units of one service because a person asks for it.
//
// It makes no generation, and changes nothing that bellhop owns. What it restarts is watched as after a run: for the
// settle time of the service, with good answers to its probes.
package restart

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/host/blame"
	"bellhop/internal/host/check"
	"bellhop/internal/host/containers"
	"bellhop/internal/host/health"
	"bellhop/internal/host/keyfiles"
	"bellhop/internal/host/machine"
	"bellhop/internal/host/state"
)

// A restart is one of the units of a service, asked for by a person. It makes no generation, and changes
// nothing that bellhop owns.
type restart struct {
	m       state.Dir
	now     state.Generation
	service string
	event   func(step, text string) // hears what happens
	before  map[string]machine.UnitState
	res     *bundle.Result
}

// Service restarts the units of a service that this host has, and waits until they are up as after an
// apply: for the service's settle time, with good answers to its probes. It is called under the lock of the host. The
// error is that the service can't be restarted at all: a *check.Refusal where the host does not have it.
// What failed is in the result, with evidence.
func Service(ctx context.Context, m state.Dir, service string, event func(step, text string)) (*bundle.Result, error) {
	now, err := m.Current()
	if err != nil {
		return nil, err
	}
	if names := now.Manifest.ServiceNames(); !slices.Contains(names, service) {
		return nil, check.Refuse(bundle.RefusedBundle, "%w", noService(service, names))
	}

	r := &restart{m: m, now: now, service: service, event: event, res: &bundle.Result{Outcome: bundle.OutcomeNothing}}
	units, err := r.choose(ctx)
	if err != nil {
		return nil, err
	}
	if len(r.res.Restarted)+len(r.res.Started) == 0 {
		r.res.Warnings = append(r.res.Warnings, r.why(units))
		return r.res, nil
	}

	r.tell("restart", r.res.Restarted)
	r.tell("start", r.res.Started)
	return r.res, r.run(ctx)
}

// noService says which services there are instead.
func noService(service string, names []string) error {
	if len(names) == 0 {
		return fmt.Errorf("it has no service %s: it has none", service)
	}
	return fmt.Errorf("it has no service %s: it has %s", service, strings.Join(names, ", "))
}

func (r *restart) tell(step string, units []string) {
	if len(units) > 0 {
		r.event(step, strings.Join(units, ", "))
	}
}

// choose divides the units of the service: a .service that is up, or tries to be, is restarted, and what is to
// run and does not is started. Sockets, timers and the like that are up stay so, since a socket that is closed turns callers
// away. A job that ended well is not run again, and key units are never restarted.
func (r *restart) choose(ctx context.Context) (units []string, err error) {
	var own []bundle.Unit
	for _, u := range r.now.Manifest.Units {
		if u.Service == r.service && !u.KeyUnit {
			own, units = append(own, u), append(units, u.Name)
		}
	}

	if r.before, err = r.m.Units(ctx, units); err != nil {
		return nil, err
	}

	for _, u := range own {
		s := r.before[u.Name]
		isDown := s.Active == "failed" || s.Active == "inactive" && !u.Oneshot
		switch {
		case strings.HasSuffix(u.Name, ".service") && (s.Running() || s.Active == "deactivating"):
			r.res.Restarted = append(r.res.Restarted, u.Name)
		case u.Start && isDown:
			r.res.Started = append(r.res.Started, u.Name)
		}
	}

	return units, nil
}

// why says why there is nothing to restart.
func (r *restart) why(units []string) string {
	if len(units) == 0 {
		return fmt.Sprintf("service %s has no units, so there is nothing to restart", r.service)
	}

	var are []string
	for _, n := range units {
		are = append(are, fmt.Sprintf("%s is %s", n, r.before[n].Active))
	}
	return fmt.Sprintf("service %s has no unit to restart: %s", r.service, strings.Join(are, ", "))
}

// run restarts what was chosen, and watches it.
func (r *restart) run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, bundle.MaxStart)
	defer cancel()

	began := time.Now()
	all := slices.Concat(r.res.Restarted, r.res.Started)
	r.m.Systemd.ResetFailed(ctx, all) // a start limit that was hit would refuse what somebody asks for

	failed := map[string]error{}
	for _, job := range []struct {
		verb  string
		names []string
	}{{"restart", r.res.Restarted}, {"start", r.res.Started}} {
		if len(job.names) == 0 {
			continue
		}
		for n, err := range r.m.Systemd.Job(ctx, job.verb, job.names) {
			failed[n] = err
		}
	}

	r.event("health", "")
	report, err := r.watch(all, failed, began).Run(ctx)
	if err != nil {
		return err
	}
	if err := r.judge(ctx, report, began); err != nil {
		return err
	}

	r.res.TookMillis = time.Since(began).Milliseconds()
	return nil
}

func (r *restart) watch(units []string, failed map[string]error, began time.Time) *health.Watch {
	s := r.now.Manifest.ServiceOf(r.service)
	w := &health.Watch{Systemd: r.m.Systemd, Prober: r.m.Prober, Settle: bundle.DefaultSettle,
		Limit:    restartLeft(began),
		Services: []health.Service{{Name: r.service, Settle: s.SettleTime(), Probes: s.Probes}}}
	if r.m.Settle > 0 {
		w.Scale = float64(r.m.Settle) / float64(bundle.DefaultSettle)
	}

	for _, n := range units {
		w.Units = append(w.Units, health.Unit{Name: n, Service: r.service, Since: r.before[n].Invocation, Fresh: true, Job: failed[n],
			Oneshot: r.before[n].Oneshot})
	}
	return w
}

// sayTime is kept for what failed to be asked what it wrote.
const sayTime = time.Minute

// restartLeft is how long what is watched may still take.
func restartLeft(began time.Time) time.Duration {
	return max(bundle.MaxStart-sayTime-time.Since(began), time.Second)
}

// judge puts into the result what the watch saw, and what came of the containers where the units are up.
func (r *restart) judge(ctx context.Context, report *health.Report, began time.Time) error {
	r.res.Outcome = bundle.OutcomeDone
	for _, n := range report.Skipped {
		r.res.Warnings = append(r.res.Warnings, fmt.Sprintf("unit %s was not started: a condition of its unit file does not hold", n))
	}

	if len(report.Failures) == 0 {
		return r.watchContainers(ctx, began)
	}
	e := &blame.Gatherer{Journal: r.m.Journal, Since: began}
	var errs []error
	for _, f := range report.Failures {
		errs = append(errs, f.Err)
		e.Add(ctx, f)
	}
	r.fail(&blame.Error{Err: errors.Join(errs...), Services: report.Failing(), Evidence: e.All})
	return nil
}

// watchContainers waits until the containers of a compose service count. Its unit says only that they were
// started, and starts all of them.
func (r *restart) watchContainers(ctx context.Context, began time.Time) error {
	s := r.now.Manifest.ServiceOf(r.service)
	wasStarted := slices.Contains(slices.Concat(r.res.Restarted, r.res.Started), containers.StackUnit(r.service))
	if s.Compose == nil || !wasStarted {
		return nil
	}

	e := containers.Engine{Programs: r.m.Programs}
	w := containers.Watched{Stack: containers.Stack{Service: r.service, ComposeProject: *s.Compose}, Settle: s.SettleTime()}
	failures, err := e.Watch(ctx, []containers.Watched{w}, restartLeft(began))
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil: // the engine does not answer
		r.fail(&blame.Error{Err: fmt.Errorf("service %s: %w", r.service, err), Services: []string{r.service}})
	case len(failures) > 0:
		r.fail(blame.Containers(ctx, e, began, r.now.Manifest.Host, failures))
	}
	return nil
}

// fail puts a failure into the result, without the values of keys.
func (r *restart) fail(why *blame.Error) {
	take := keyfiles.Of(r.m).MaskOrWithhold(r.now.Manifest.Keys...)
	r.res.Outcome, r.res.Error = bundle.OutcomeFailed, take(why.Error())
	r.res.Failing, r.res.Evidence = why.Services, blame.Mask(why.Evidence, take)
}
