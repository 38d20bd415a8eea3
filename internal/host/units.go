package host

import (
	"context"
	"slices"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/host/blame"
	"bellhop/internal/host/containers"
	"bellhop/internal/host/keyunits"
	"bellhop/internal/host/machine"
)

// units is what a run has systemd do with units.
type units struct {
	*task
	failed   map[string]error // jobs that did not end well, by unit
	asked    []string         // units whose start or restart was asked for
	starting time.Time        // when units began to be started
}

// stopUnits stops units, and remembers which did not end well.
func (r *units) stopUnits(ctx context.Context, names []string) {
	ctx, cancel := context.WithTimeout(ctx, machine.JobDeadline)
	defer cancel()

	for n, err := range r.m.Systemd.Job(ctx, "stop", names) {
		r.failed[n] = err
	}
}

// stop stops and disables what leaves, while its unit file still stands: later, ExecStop
// would not be run.
func (r *units) stop(ctx context.Context) error {
	u := &r.w.Units
	if stop := slices.Concat(u.Stop, u.Quiet); len(stop) > 0 {
		r.stopUnits(ctx, stop)
		states, err := r.m.Units(ctx, stop)
		if err != nil {
			return err
		}

		for _, n := range stop {
			if s := states[n]; s.Running() || s.Active == "deactivating" {
				return blame.Join([]error{blame.Unit(n, "it does not stop: %w", s.Why(r.failed[n]))}, r.w.ServiceWith)
			}
			delete(r.failed, n)
		}

		r.res.Stopped = u.Stop
	}
	if len(u.Disable) > 0 {
		return r.m.Systemd.Disable(ctx, u.Disable)
	}
	return nil
}

// reload enables first, so that one daemon-reload sees unit files and links alike.
func (r *units) reload(ctx context.Context) error {
	u := &r.w.Units
	if len(u.Enable) > 0 {
		if err := r.enable(ctx, u.Enable); err != nil {
			return err
		}
	}
	if !r.w.Reload() && len(u.Enable)+len(u.Disable) == 0 {
		return nil
	}
	if err := r.m.Systemd.Reload(ctx); err != nil {
		return r.rootless().Blame(err)
	}
	if len(u.Stop) > 0 {
		r.m.Systemd.ResetFailed(ctx, u.Stop) // a failed unit without a file is only noise
	}

	return r.usable(ctx)
}

// enable enables units. Where systemd refuses, it says for all of them at once, and which one it is about is
// found by asking for each.
func (r *units) enable(ctx context.Context, names []string) error {
	all := r.m.Systemd.Enable(ctx, names)
	if all == nil {
		return nil
	}

	var bad []error
	for _, n := range names {
		if err := r.m.Systemd.Enable(ctx, []string{n}); err != nil {
			bad = append(bad, blame.Unit(n, "%w", err))
		}
	}
	if len(bad) == 0 {
		return all
	}

	return blame.Join(bad, r.w.ServiceWith)
}

// usable asks whether systemd can use the unit files that changed. What runs goes on running under
// a file that is broken, so nothing else would tell before the next boot.
func (r *units) usable(ctx context.Context) error {
	files := map[string]string{}
	var names []string
	for _, u := range r.offer.Manifest.Units {
		if i := slices.IndexFunc(u.Files, r.changedFile); i >= 0 && !u.KeyUnit && !u.Foreign {
			names, files[u.Name] = append(names, u.Name), u.Files[i]
		}
	}

	states, err := r.m.Glance(ctx, names)
	if err != nil {
		return err
	}

	bad, err := r.notEnabled(ctx)
	if err != nil {
		return err
	}

	for _, n := range names {
		switch load := states[n].Load; {
		case load == "" || load == "loaded": // "": an alias, which is told by its own name
		case load == "not-found" && isQuadlet(files[n]):
			bad = append(bad, blame.Unit(n, "podman made none of %s: podman 4.4 or newer must be there, and like the file (%s --dryrun tells)", files[n], containers.Generator))
		case load == "masked":
			bad = append(bad, blame.Unit(n, "systemd takes it for masked: its file is empty, or a mask of that name stands in /etc/systemd or /run/systemd"))
		default:
			bad = append(bad, blame.Unit(n, "systemd can't use it as it is written: %s (why: bellhop logs %s %s)", load, r.offer.Manifest.Host, n))
		}
	}

	return blame.Join(bad, r.w.ServiceWith)
}

func isQuadlet(p string) bool { _, _, is := bundle.SplitQuadlet(p); return is }

// notEnabled are the units that were just enabled and for which systemd made no link: they would
// run now and be gone after the next boot.
func (r *units) notEnabled(ctx context.Context) (bad []error, err error) {
	ours := slices.DeleteFunc(slices.Clone(r.w.Units.Enable), func(n string) bool {
		return !slices.ContainsFunc(r.offer.Manifest.Units, func(u bundle.Unit) bool { return u.Name == n && u.Enable && !u.Foreign })
	})
	states, err := r.m.Units(ctx, ours)
	if err != nil {
		return nil, err
	}

	for _, n := range ours {
		s := states[n]
		if lost := s.File == "static" || s.File == "disabled"; lost && s.Load == "loaded" {
			bad = append(bad, blame.Unit(n, "it was enabled, and systemd made no link for it (it is %s): nothing would start it at the next boot. Look at its [Install]", s.File))
		}
	}

	return bad, nil
}

// startKeyUnits starts those that are not active. One that is stays as it is: to start it
// would start an app that was stopped by hand, to restart it would take its apps down. Where
// all were active in preflight and nothing was stopped since, they are.
func (r *units) startKeyUnits(ctx context.Context) error {
	u := &r.w.Units
	up := u.Before != nil && len(u.Stop)+len(u.Quiet) == 0
	for _, n := range u.KeyUnits {
		up = up && u.Before[n].Active == "active"
	}

	if up {
		return nil
	}

	started, err := keyunits.Start(ctx, r.m, r.offer.Manifest.Units, r.w.Units.StayDown())
	r.res.Started = append(r.res.Started, started...)
	if several, ok := err.(interface{ Unwrap() []error }); ok {
		return blame.Join(several.Unwrap(), r.w.ServiceWith)
	}
	return err
}

// chooseReload restarts what can't reload, or is down by now.
func (r *units) chooseReload(ctx context.Context) error {
	u := &r.w.Units
	if len(u.Reload) == 0 {
		return nil
	}

	states, err := r.m.Units(ctx, u.Reload)
	if err != nil {
		return err
	}

	u.Reload = slices.DeleteFunc(u.Reload, func(n string) bool {
		s := states[n]
		if s.CanReload && s.Running() {
			return false
		}

		u.Restart = append(u.Restart, n)
		return true
	})

	return nil
}

// takenDown are units that ran before, need nothing themselves, and are down now: the stop
// of something else took them along.
func (r *units) takenDown(ctx context.Context) ([]string, error) {
	u := &r.w.Units
	if len(u.Again) == 0 || len(u.Stop)+len(u.Quiet)+len(u.Restart) == 0 {
		return nil, nil
	}

	states, err := r.m.Alive(ctx, u.Again)
	if err != nil {
		return nil, err
	}

	var down []string
	for _, n := range u.Again {
		if s := states[n]; s.Active == "inactive" || s.Active == "failed" {
			down = append(down, n)
		}
	}

	return down, nil
}
