package host

import (
	"context"
	"slices"
	"time"

	"bellhop/internal/host/health"
)

// A start may take as long as its unit gives it, a first pull of an image for example. What was started
// beside it is watched meanwhile: when that dies, the run goes back without waiting for the rest.

// ask asks systemd to start, restart or reload units, and waits for that. Units that do not come up are left
// to health; an error is that one of those that were asked for is dead while others still start. What
// then is still to be started has its job replaced by the way back, which stops it.
func (r *units) ask(ctx context.Context, verb string, names []string) error {
	if len(names) == 0 {
		return nil
	}
	if verb != "reload" {
		r.asked = unique(slices.Concat(r.asked, names))
	}

	jobs, cancel := context.WithTimeout(ctx, max(r.startLeft(), time.Second))
	defer cancel()
	beside, end := context.WithCancel(jobs)
	defer end()

	found := make(chan *health.Report, 1)
	go func() {
		report := r.startWatch().DuringStart(beside, r.livesBefore())
		if report != nil {
			cancel()
		}
		found <- report
	}()
	errs := r.m.Systemd.Job(jobs, verb, names)
	end()

	report := <-found
	if report != nil {
		return r.unhealthy(ctx, report)
	}
	for n, err := range errs {
		r.failed[n] = err
	}
	return nil
}

// startWatch watches what was asked for until now.
func (r *units) startWatch() *health.Watch {
	w := r.newWatch()
	for _, n := range r.asked {
		u := r.watchedUnit(n)
		u.Fresh = u.Fresh || slices.Contains(r.w.Units.Restart, n)
		w.Units = append(w.Units, u)
		if u.Service != "" {
			w.Services = append(w.Services, health.Service{Name: u.Service, Settle: r.judged(u.Service).Settle})
		}
	}
	return w
}

// livesBefore are the invocations of units before the run, by unit.
func (r *units) livesBefore() map[string]string {
	lives := map[string]string{}
	for n, s := range r.w.Units.Before {
		lives[n] = s.Invocation
	}
	return lives
}
