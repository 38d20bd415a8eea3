package host

import (
	"context"
	"slices"
	"time"

	"bellhop/internal/host/blame"
	"bellhop/internal/host/containers"
)

// stackHealth waits until the containers of the stacks that the run touched count.
func (r *run) stackHealth(ctx context.Context) error {
	var watched []containers.Watched
	for _, s := range r.stacks {
		if s.leaves || slices.Contains(r.w.Units.StayDown(), containers.StackUnit(s.Service)) {
			continue
		}
		w := containers.Watched{Stack: s.Stack, Settle: r.judged(s.Service).Settle, Before: map[string]int{}}
		if !slices.Contains(slices.Concat(r.res.Started, r.res.Restarted), containers.StackUnit(s.Service)) {
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
		return blame.Containers(ctx, r.engine(), r.units.starting, r.offer.Manifest.Host, failures)
	}
	return nil
}
