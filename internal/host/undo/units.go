package undo

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"bellhop/internal/host/machine"
	"bellhop/internal/host/usersystemd"
)

// takeDown stops what the run started, and takes back its enablement while the unit files
// that say so still stand.
func (u *undoer) takeDown(ctx context.Context) error {
	states, err := u.m.Units(ctx, u.names)
	if err != nil {
		return err
	}

	var stop, disable []string
	for _, w := range u.j.Units {
		s := states[w.Name]
		up := s.Running() || s.Active == "failed" || s.Job // its start may still wait for another unit
		started := w.New || w.Acted && !w.Key              // by the run
		isNews := up && started && !w.Ran
		isStale := w.Replaced || w.Quiet && u.accountsDiffer() // the former file does not stop what it started, or its user changes
		if isNews || isStale && s.Running() {
			stop = append(stop, w.Name)
		}

		wasEnabled := w.File == "enabled" || w.File == "enabled-runtime"
		if s.Enabled() && (w.Install || !wasEnabled) {
			disable = append(disable, w.Name)
		}
	}

	if len(stop) > 0 && u.sameBoot {
		ctx, cancel := context.WithTimeout(ctx, machine.JobDeadline)
		defer cancel()

		u.m.Systemd.Job(ctx, "stop", stop)
		u.m.Systemd.ResetFailed(ctx, stop)
	}
	if len(disable) > 0 {
		return u.m.Systemd.Disable(ctx, disable)
	}

	return nil
}

// bringUp gives enablement back and runs again what ran.
func (u *undoer) bringUp(ctx context.Context) error {
	states, err := u.m.Units(ctx, u.names)
	if err != nil {
		return err
	}

	var enable []string
	for _, w := range u.j.Units {
		if w.File == "enabled" && !states[w.Name].Enabled() {
			enable = append(enable, w.Name)
		}
	}

	if len(enable) > 0 {
		if err := u.m.Systemd.Enable(ctx, enable); err != nil {
			return err
		}
	}
	if u.j.Reload || len(enable) > 0 {
		if err := u.m.Systemd.Reload(ctx); err != nil && !usersystemd.IsOfUsers(err) {
			return err
		}
	}
	if !u.sameBoot {
		return u.queue(ctx)
	}

	return u.runAgain(ctx)
}

func (u *undoer) runAgain(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, machine.JobDeadline)
	defer cancel()

	states, err := u.m.Units(ctx, u.names)
	if err != nil {
		return err
	}

	var keys, reload, restart, start []string
	touched := u.j.Steps["start"] && !u.j.Steps["ran"] // by the run, and not by an undo yet
	for _, w := range u.j.Units {
		s := states[w.Name]
		sameLife := s.Running() && s.Invocation == w.Life
		switch {
		case !w.Ran:
		case w.Key:
			if s.Active != "active" {
				keys = append(keys, w.Name)
			}
		case w.Reload && sameLife && s.CanReload:
			if touched {
				reload = append(reload, w.Name) // with what it had before: its connections live
			}
		case w.Acted && touched:
			restart = append(restart, w.Name)
		case !s.Running():
			start = append(start, w.Name)
		}
	}

	jobs := map[string]error{}
	ask := func(verb string, names []string) {
		if len(names) == 0 {
			return
		}

		u.m.Systemd.ResetFailed(ctx, names)
		for n, err := range u.m.Systemd.Job(ctx, verb, names) {
			jobs[n] = err
		}
	}

	ask("start", keys)
	ask("reload", reload)
	ask("restart", restart)
	ask("start", start)
	if states, err = u.m.Units(ctx, u.names); err != nil {
		return err
	}

	var errs []error
	for _, n := range slices.Concat(keys, restart, start) {
		if s := states[n]; jobs[n] != nil && !s.Running() {
			errs = append(errs, fmt.Errorf("unit %s ran before: %w", n, jobs[n]))
		}
	}

	return errors.Join(errs...)
}

// queue asks for what ran before the reboot. Boot has made up its mind already, without the
// units that were just enabled again; and to wait for a job here would be a deadlock. A unit that the run
// brought may have failed by now: without its file it is only noise.
func (u *undoer) queue(ctx context.Context) error {
	var gone []string
	for _, w := range u.j.Units {
		if w.New && !w.Ran {
			gone = append(gone, w.Name)
		}
	}
	errs := []error{u.m.Systemd.ResetFailed(ctx, gone)}

	for _, w := range u.j.Units {
		if w.Ran && w.Start && !w.Key {
			errs = append(errs, u.m.Systemd.Queue(ctx, "start", w.Name))
		}
	}
	return errors.Join(errs...)
}
