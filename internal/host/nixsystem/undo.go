package nixsystem

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"bellhop/internal/bundle"
	"bellhop/internal/host/machine"
	"bellhop/internal/host/state"
)

// An Undoer brings back the system that a run found. It looks before it acts, so it may be cut off and
// called again.
type Undoer struct {
	M    *machine.Machine
	Run  string
	Move *state.SystemMove
	// Begun says that the run came so far, in this boot: a switch that was killed half-way shows in no
	// link, and only another switch mends it.
	Begun  bool
	Owners Owners
}

// Undo puts profile, generations and the running system back. whole is what could not be put back; units
// is what failed of those that the former system runs.
func (u *Undoer) Undo(ctx context.Context) (whole, units error) {
	c := commands{u.M, u.Run}
	is := ReadLinks(u.M)
	moved := is.Profile != u.Move.Profile || is.Number != u.Move.Number
	gone := is.Current != u.Move.Current
	if !u.Begun && !moved && !gone {
		return nil, nil
	}

	if err := c.end(ctx); err != nil {
		return err, nil
	}
	if moved {
		if err := u.profile(ctx, c); err != nil {
			return fmt.Errorf("set the system profile back to generation %d: %w", u.Move.Number, err), nil
		}
		u.M.Mark("undo profile")
	}

	if whole, units = u.switchBack(ctx, c, moved, gone); whole != nil {
		return whole, units
	}
	u.M.Mark("undo switch")
	return u.dropGenerations(ctx, c), units
}

// profile goes back to the generation that was there, or to its path where somebody deleted that.
func (u *Undoer) profile(ctx context.Context, c commands) error {
	all, err := generations(u.M)
	if err != nil {
		return err
	}
	if all[u.Move.Number] == u.Move.Profile {
		return c.must(ctx, fmt.Sprintf("nix-env --profile %s --switch-generation %d", Profile, u.Move.Number))
	}
	return c.must(ctx, "nix-env --profile "+Profile+" --set "+u.Move.Profile)
}

// switchBack makes the former system run, and boot. A unit that was started several times within its
// start limit would stay down, so the counts are cleared first.
func (u *Undoer) switchBack(ctx context.Context, c commands, moved, gone bool) (whole, units error) {
	states, err := u.M.Systemd.Loaded(ctx)
	if err != nil {
		return err, nil
	}
	services := slices.DeleteFunc(slices.Sorted(maps.Keys(states)), func(n string) bool {
		return !strings.HasSuffix(n, ".service") || slices.Contains(u.Move.Failed, n)
	})
	if err := u.M.Systemd.ResetFailed(ctx, services); err != nil {
		return err, nil
	}

	var unowned error // no reason to leave the undo open: the next contact finds that the key is another's
	for _, s := range u.switches(moved, gone) {
		st, keys, err := c.switchWithOwners(ctx, u.Owners, s.Path, s.Action)
		switch {
		case err != nil:
			return err, nil
		case st.Result != "success" && st.Exit.Status != exitUnitsFailed:
			return fmt.Errorf("switch-to-configuration %s of %s, which was there before: %s", s.Action, s.Path, ended(st)), nil
		}
		unowned = keys.err
	}

	if states, err = u.M.Systemd.Loaded(ctx); err != nil {
		return err, nil
	}
	if names := newlyFailed(states, u.Move.Failed); len(names) > 0 {
		units = fmt.Errorf("units of the system that was there before failed: %s", strings.Join(names, ", "))
	}
	return nil, errors.Join(units, unowned)
}

// switches are what brings back what ran and what boots. Mostly both are one system.
func (u *Undoer) switches(moved, gone bool) []bundle.System {
	run := (u.Begun && u.Move.Action != bundle.ActionBoot) || gone
	boot := (u.Begun && u.Move.Action != bundle.ActionTest) || moved
	if run && boot && u.Move.Current == u.Move.Profile {
		return []bundle.System{{Path: u.Move.Current, Action: bundle.ActionSwitch}}
	}

	var all []bundle.System
	if run {
		all = append(all, bundle.System{Path: u.Move.Current, Action: bundle.ActionTest})
	}
	if boot {
		all = append(all, bundle.System{Path: u.Move.Profile, Action: bundle.ActionBoot})
	}
	return all
}

// dropGenerations deletes the generation that the run made, so that no boot menu offers it.
func (u *Undoer) dropGenerations(ctx context.Context, c commands) error {
	all, err := generations(u.M)
	if err != nil {
		return err
	}

	var numbers []string
	for _, n := range slices.Sorted(maps.Keys(all)) {
		if n > u.Move.Newest && all[n] == u.Move.Path {
			numbers = append(numbers, strconv.FormatInt(n, 10))
		}
	}
	if len(numbers) == 0 {
		return nil
	}
	return c.must(ctx, "nix-env --profile "+Profile+" --delete-generations "+strings.Join(numbers, " "))
}
