package health

import (
	"context"
	"slices"
	"time"

	"bellhop/internal/host/machine"
)

// DuringStart watches the units while the jobs that start them are under way, since one job may take as long as
// its unit likes. It returns once a unit is dead and the others had the longest settle time to come up or
// to die too, with all that are dead by then; nil when ctx ends before that, or the units can't be read.
// A unit is judged when its own job is over, from its life after before, its invocation by name. Probes are
// not asked.
func (w *Watch) DuringStart(ctx context.Context, before map[string]string) *Report {
	g := w.start()
	seen := map[string]machine.UnitState{}
	grace := g.grace()
	var deadSince time.Time

	for wait(ctx, g.every) {
		glances, err := g.Systemd.Glance(ctx, g.open())
		if err != nil {
			return nil
		}
		states, err := g.begun(ctx, glances, seen, before)
		if err != nil {
			return nil
		}
		g.judge(states)
		g.closeDead()

		isDead := len(g.report.Failures) > 0
		if isDead && deadSince.IsZero() {
			deadSince = time.Now()
		}
		if isDead && time.Since(deadSince) >= grace {
			return &g.report
		}
	}

	return nil
}

// wait returns after d, or false as soon as ctx ends.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()

	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// grace is the longest settle time of all units.
func (g *watching) grace() (longest time.Duration) {
	for _, u := range g.units {
		longest = max(longest, u.settle)
	}
	return longest
}

// begun reads whole those units of glances that changed since they were seen and whose job is over, and
// leaves out those that have not begun a new life.
func (g *watching) begun(ctx context.Context, glances, seen map[string]machine.UnitState, before map[string]string) (map[string]machine.UnitState, error) {
	var names []string
	for n, s := range glances {
		was, known := seen[n]
		isSame := s.Active == was.Active && s.Sub == was.Sub && s.Job == was.Job
		seen[n] = s
		if !s.Job && (!known || !isSame) {
			names = append(names, n)
		}
	}

	if len(names) == 0 {
		return nil, nil
	}

	slices.Sort(names)
	states, err := g.Systemd.Units(ctx, names)
	for n, s := range states {
		if s.Job || s.Invocation == "" || s.Invocation == before[n] {
			delete(states, n)
		}
	}

	return states, err
}

// closeDead takes the dead out of those that are watched: each is told once.
func (g *watching) closeDead() {
	for _, u := range g.units {
		isDead := slices.ContainsFunc(g.report.Failures, func(f Failure) bool { return f.Unit == u.Name })
		u.over = u.over || isDead
	}
}
