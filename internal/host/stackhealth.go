package host

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/host/blame"
	"bellhop/internal/host/containers"
)

// stackHealth waits until the containers of the stacks that the run touched count.
func (r *run) stackHealth(ctx context.Context) error {
	var watched []containers.Watched
	for _, s := range r.stacks {
		if s.leaves || slices.Contains(r.w.Units.StayDown(), stackUnit(s.Service)) {
			continue
		}
		w := containers.Watched{Stack: s.Stack, Settle: r.judged(s.Service).Settle, Before: map[string]int{}}
		if !slices.Contains(slices.Concat(r.res.Started, r.res.Restarted), stackUnit(s.Service)) {
			w.Stopped = s.change.Stopped
		}
		for _, c := range s.now {
			if !slices.Contains(s.change.Restart, c.Service) { // an explicit restart counts anew
				w.Before[c.ID] = c.Restarts
			}
		}
		watched = append(watched, w)
	}
	if len(watched) == 0 {
		return nil
	}

	failures, err := r.engine().Watch(ctx, watched, max(r.units.startLeft(), time.Second))
	if err != nil {
		return err
	}
	if len(failures) > 0 {
		return unhealthyContainers(ctx, r.engine(), r.units.starting, r.offer.Manifest.Host, failures)
	}
	return nil
}

// unhealthyContainers is the error of containers of host that failed, with what they wrote last since a moment.
func unhealthyContainers(ctx context.Context, e containers.Engine, since time.Time, host string, failures []containers.Failure) *blame.Error {
	due := &blame.Error{}
	seen := &blame.Gatherer{}
	var errs []error
	for _, f := range failures {
		errs = append(errs, f.Err)
		due.Services = unique(append(due.Services, f.Service))
		one := bundle.Evidence{Service: f.Service, Unit: f.Name, Result: f.State.Status, Exit: f.State.Exit}
		seen.Put(one, e.Logs(ctx, f.State.ID, since, blame.MostLines))
	}

	errs = append(errs, fmt.Errorf("what it said: bellhop logs %s %s", host, failures[0].Service))
	due.Err, due.Evidence = errors.Join(errs...), seen.All
	return due
}
