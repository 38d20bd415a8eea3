package host

import (
	"context"
	"slices"
	"time"

	"bellhop/internal/host/machine"
)

// start brings up units, and then the containers that no unit does.
func (r *run) start(ctx context.Context) error {
	if err := r.units.start(ctx); err != nil {
		return err
	}
	return r.startStacks(ctx)
}

// start brings up what is to run. Restarts come before starts: a service that moves to
// another port frees the one that a new service asks for. A job that is to run once is started by
// its own name only when nothing that needs it has started it.
func (r *units) start(ctx context.Context) error {
	u := &r.w.Units
	r.starting = time.Now()
	before, err := r.statesToStart(ctx)
	if err != nil {
		return err
	}

	once := slices.DeleteFunc(slices.Clone(u.Start), func(n string) bool { return !r.oneshot(n) })
	others := slices.DeleteFunc(slices.Clone(u.Start), r.oneshot)
	r.resetFailed(ctx)

	// Before the key units too, which want the services that wait for these jobs.
	if err := r.ask(ctx, "start", r.ahead(once, slices.Concat(u.Restart, others), before)); err != nil {
		return err
	}
	if err := r.startKeyUnits(ctx); err != nil {
		return err
	}
	if err := r.chooseReload(ctx); err != nil {
		return err
	}

	if err := r.ask(ctx, "restart", u.Restart); err != nil {
		return err
	}
	r.m.Mark("restarted")
	if err := r.ask(ctx, "reload", u.Reload); err != nil {
		return err
	}
	again, err := r.takenDown(ctx)
	if err != nil {
		return err
	}

	for _, names := range [][]string{slices.Concat(others, u.Back, again), once} {
		left, err := r.notYet(ctx, names, before)
		if err != nil {
			return err
		}

		if err := r.ask(ctx, "start", left); err != nil {
			return err
		}
	}

	r.res.Started = append(r.res.Started, slices.Concat(others, u.Back, again, once)...)
	r.res.Restarted, r.res.Reloaded = u.Restart, u.Reload
	return nil
}

// statesToStart reads what is to be started. systemd knows what needs a unit only from those that
// it has loaded, which a glance does.
func (r *units) statesToStart(ctx context.Context) (map[string]machine.UnitState, error) {
	u := &r.w.Units
	if slices.ContainsFunc(u.Start, r.oneshot) {
		if _, err := r.m.Glance(ctx, slices.Concat(u.Start, u.Restart)); err != nil {
			return nil, err
		}
	}
	return r.m.Units(ctx, u.Start)
}

// resetFailed clears the start limits of what is to start or to restart: one that was hit, or would be
// by several runs within its interval, refuses what somebody asked for.
func (r *units) resetFailed(ctx context.Context) {
	r.m.Systemd.ResetFailed(ctx, slices.Concat(r.w.Units.Start, r.w.Units.Restart))
}

// notYet are those of names that did not run since before was read: something that needs a unit
// may have started it.
func (r *units) notYet(ctx context.Context, names []string, before map[string]machine.UnitState) ([]string, error) {
	states, err := r.m.Units(ctx, names)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(names), func(n string) bool {
		was, known := before[n]
		is := states[n]
		began := known && is.Invocation != "" && is.Invocation != was.Invocation
		return began && (is.Running() || r.oneshot(n))
	}), nil
}

// ahead are those of the jobs once that units wait for and do not start themselves: they run
// first. states are what systemd says of once.
func (r *units) ahead(once, units []string, states map[string]machine.UnitState) (first []string) {
	waits := func(n string) bool { return slices.Contains(units, n) }
	for _, n := range once {
		if slices.ContainsFunc(states[n].Before, waits) && !startedBy(n, units, states, map[string]bool{}) {
			first = append(first, n)
		}
	}
	return first
}

// startedBy says whether the start of one of units starts n, by itself or through others of which
// states tell.
func startedBy(n string, units []string, states map[string]machine.UnitState, seen map[string]bool) bool {
	if seen[n] {
		return false
	}
	seen[n] = true
	return slices.ContainsFunc(states[n].NeededBy, func(by string) bool {
		return slices.Contains(units, by) || startedBy(by, units, states, seen)
	})
}
