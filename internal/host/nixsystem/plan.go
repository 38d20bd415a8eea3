// Package nixsystem activates the NixOS system of a host, and goes back to the one before.
//
// The words: a system is a store path, the toplevel of one configuration; the profile says which one the
// next boot brings, current is what runs, and booted what this boot began with. A move is the change of
// these that one run makes. It stands in the journal before anything is touched, so whoever settles a
// run that was cut off knows the exact path and generation to go back to.
//
// Programs of Nix and of the system run in a transient unit, as commands of the config repo do: they
// outlive a process that is killed, and end before anybody goes back.
//
// The promise: a run that fails leaves profile, generations and what runs as they were.
package nixsystem

import (
	"context"
	"fmt"
	"os"

	"bellhop/internal/bundle"
	"bellhop/internal/host/check"
	"bellhop/internal/host/machine"
	"bellhop/internal/host/state"
)

// Plan says how the links of the host must move so that it has the system want; nil when it has it.
// stands says that want is what the host's record names: nothing is new, so a system that could not be
// switched to waits for the next boot.
func Plan(m *machine.Machine, want *bundle.System, stands bool) (*state.SystemMove, error) {
	if want == nil {
		return nil, nil
	}
	if !m.NixOS() {
		return nil, check.Refuse(bundle.RefusedBundle, "the host is no NixOS host: it has no /etc/NIXOS")
	}

	l := ReadLinks(m)
	if l.Profile == "" || l.Current == "" {
		return nil, check.Refuse(bundle.RefusedBundle, "the host runs no system to go back to: %s and %s must lead to one", Profile, currentSys)
	}

	move := &state.SystemMove{Path: want.Path, Action: want.Verb(), Profile: l.Profile, Number: l.Number, Current: l.Current}
	all, err := generations(m)
	if err != nil {
		return nil, err
	}
	for n := range all {
		move.Newest = max(move.Newest, n)
	}

	if want.Verb() != bundle.ActionBoot && l.Current != want.Path {
		why := inhibited(m, l.Current, want.Path)
		switch {
		case why == "":
		case want.Verb() == bundle.ActionTest:
			return nil, check.RefuseServices([]string{bundle.SystemService}, fmt.Errorf("%s can't be tried while the host runs: %s", want.Path, why))
		default:
			move.Action, move.Why = bundle.ActionBoot, why
		}
	}

	isBehind := l.Current == l.Booted && l.Profile == want.Path
	waits := stands && isBehind && move.Action != bundle.ActionTest
	if waits || has(l, want.Path, move.Action) {
		return nil, nil
	}
	return move, nil
}

// has says that links are as an action leaves them.
func has(l Links, path, action string) bool {
	switch action {
	case bundle.ActionBoot:
		return l.Profile == path
	case bundle.ActionTest:
		return l.Current == path
	}
	return l.Profile == path && l.Current == path
}

// Drift is how the system of a host differs from the one that its record names.
func Drift(m *machine.Machine, want *bundle.System) (drift []bundle.Drift) {
	move, err := Plan(m, want, true)
	if err != nil {
		return []bundle.Drift{{Kind: bundle.KindSystem, Name: bundle.SystemService, What: bundle.DriftMissing, Want: want.Path}}
	}
	if move == nil {
		return nil
	}

	differs := func(what, is string) {
		drift = append(drift, bundle.Drift{Kind: bundle.KindSystem, Name: bundle.SystemService, What: what, Want: want.Path, Is: is})
	}
	if move.Action != bundle.ActionBoot && move.Current != want.Path {
		differs(bundle.DriftChanged, move.Current)
	}
	if move.Action != bundle.ActionTest && move.Profile != want.Path {
		differs(bundle.DriftProfile, move.Profile)
	}
	return drift
}

// Preflight refuses what can't be activated, while nothing was touched, and notes in move which units
// had failed before.
func Preflight(ctx context.Context, m *machine.Machine, run string, move *state.SystemMove) error {
	if m.Commands == nil {
		return check.Refuse(bundle.RefusedBundle, "this host runs no commands")
	}
	for _, system := range []string{move.Path, move.Profile, move.Current} {
		if _, err := os.Stat(inSystem(m, system, "bin/switch-to-configuration")); err != nil {
			return check.RefuseServices([]string{bundle.SystemService}, fmt.Errorf("%s has no bin/switch-to-configuration on this host", system))
		}
	}

	c := commands{m, run}
	if st, err := c.nix(ctx, "nix-store --check-validity "+move.Path); err != nil {
		return err
	} else if st.Result != "success" {
		return check.RefuseServices([]string{bundle.SystemService}, fmt.Errorf("the closure of %s is not whole on this host: it must be copied again", move.Path))
	}

	states, err := m.Systemd.Loaded(ctx)
	if err != nil {
		return err
	}
	move.Failed = failedAmong(states)
	return nil
}
