// Package keyunits starts the units that stand for keys, and what waits for them.
package keyunits

import (
	"context"
	"errors"

	"bellhop/internal/bundle"
	"bellhop/internal/host/blame"
	"bellhop/internal/host/machine"
	"bellhop/internal/host/state"
)

// Start starts the key units that are not active, and what a missing key kept from
// starting though its unit was. A key unit wants its apps, so while
// some of those were stopped by hand it is started alone: what else is to run is started by
// its own name.
func Start(ctx context.Context, m state.Dir, units []bundle.Unit, drifted []string) (started []string, err error) {
	var names []string
	for _, u := range units {
		if u.KeyUnit {
			names = append(names, u.Name)
		}
	}

	if len(names) == 0 {
		return nil, nil
	}

	states, err := m.Glance(ctx, names)
	if err != nil {
		return nil, err
	}

	for _, n := range names {
		if states[n].Active != "active" {
			started = append(started, n)
		}
	}

	ctx, cancel := context.WithTimeout(ctx, machine.JobDeadline)
	defer cancel()

	if len(started) == 0 {
		return startBarred(ctx, m, units)
	}

	verb := "start"
	if len(drifted) > 0 {
		verb = "start-alone"
	}

	jobs := m.Systemd.Job(ctx, verb, started)
	if states, err = m.Units(ctx, started); err != nil {
		return started, err
	}

	var errs []error
	for _, n := range started {
		if s := states[n]; s.Active != "active" {
			errs = append(errs, blame.Unit(n, "%w", s.Why(jobs[n])))
		}
	}

	return started, errors.Join(errs...)
}

// startBarred starts what an assertion barred while all its key units are active: a key was not
// there at the time, which nothing tells the unit when the key has come.
func startBarred(ctx context.Context, m state.Dir, units []bundle.Unit) (started []string, err error) {
	var names []string
	for _, u := range units {
		if !u.KeyUnit && u.Start && u.WaitsForKeys() {
			names = append(names, u.Name)
		}
	}

	states, err := m.Units(ctx, names)
	if err != nil {
		return nil, err
	}

	for _, n := range names {
		if s := states[n]; s.Active == "inactive" && s.Barred {
			started = append(started, n)
		}
	}

	if len(started) == 0 {
		return nil, nil
	}

	var errs []error
	for _, err := range m.Systemd.Job(ctx, "start", started) {
		errs = append(errs, err)
	}

	return started, errors.Join(errs...)
}
