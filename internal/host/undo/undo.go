// Package undo brings a host back to where a run began.
//
// It works from the run's journal alone, so that a run that failed and one that was killed go back by the same
// way: what the run started stops, what stood at each path returns, accounts and homes become what they were,
// keys and the NixOS system too, and what ran before runs again. Each step looks before it acts: an undo may be
// cut off anywhere and be done again. What can't be put back does not stop the rest.
package undo

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"bellhop/internal/bundle"
	"bellhop/internal/host/blame"
	"bellhop/internal/host/keyfiles"
	"bellhop/internal/host/quadlets"
	"bellhop/internal/host/state"
)

// An undoer puts one run back.
type undoer struct {
	m          state.Dir
	j          *state.Journal
	sameBoot   bool // else nothing of the run lives any more, and boot starts what is enabled
	names      []string
	restored   []string // paths that somebody edited since the run wrote them
	systemBack bool     // the NixOS system is back
	edits      []string // for each of those, where the host keeps what it held; "" when it is lost
	warnings   []string // about what a host does without
}

// Run brings the machine back to where the run j began, and saves its result. It looks
// before it acts, so it may be cut off and done again. What can't be put back does not stop
// the rest; the journal then stays open, nothing else may begin, and the next contact tries
// again.
func Run(ctx context.Context, m state.Dir, j *state.Journal, res *bundle.Result) error {
	boot, err := m.BootID()
	if err != nil {
		return err
	}

	u := &undoer{m: m, j: j, sameBoot: boot == j.BootID, names: j.UnitNames()}
	take := u.mask() // now: the values that this run brought go with it
	whole, units := u.everything(ctx)
	m.Mark("undo units")
	m.KeepStoppedByUndo(ctx, j)
	m.Runs().Release(j.Run)
	res.Edits, res.Restored = u.edits, u.restored
	res.Changed, res.Started, res.Restarted, res.Reloaded, res.Stopped = nil, nil, nil, nil, nil
	res.Record, res.Kept = nil, u.made()
	if now, err := m.Current(); err == nil && now.Exists {
		res.Record = &now.Record
		res.Keys = keyfiles.Of(m).States(ctx, &now)
	}
	for _, w := range u.warnings {
		if !slices.Contains(res.Warnings, w) { // of the undo that was cut off
			res.Warnings = append(res.Warnings, w)
		}
	}
	if whole != nil || units != nil {
		res.Outcome = bundle.OutcomeFailed
		res.Cause = res.Error
		res.Error = fmt.Sprintf("%s; and undoing it: %s", res.Cause, take(errors.Join(whole, units).Error()))
	}
	res.Warnings = blame.MaskWarnings(res.Warnings, take)
	if whole != nil {
		return errors.Join(fmt.Errorf("undo run %s: %w", j.Run, whole), m.Runs().Save(res))
	}
	if err := m.Runs().Save(res); err != nil {
		return err
	}

	keyfiles.Of(m).Drop(j.Run, j.Keys)
	m.Unstage(j.Run)
	if err := m.DropNext(); err != nil {
		return err
	}
	if err := m.CloseJournal(); err != nil {
		return err
	}

	return m.SyncDir(bundle.StateDir)
}

// mask takes the values of the keys that stand or wait on the host out of a text.
func (u *undoer) mask() func(string) string {
	now, err := u.m.Current()
	if err != nil {
		return keyfiles.Of(u.m).MaskOrWithhold() // by the names of their files
	}
	return keyfiles.Of(u.m).MaskOrWithhold(now.Manifest.Keys...)
}

// everything puts all back, and runs what ran. It is done again while something can't be put back
// or the result can't be written, as on a full disk: units that run again by then are left in peace.
func (u *undoer) everything(ctx context.Context) (whole, units error) {
	ran := u.j.Steps["ran"] && u.sameBoot
	if ran && u.j.Steps["undone"] {
		return nil, nil
	}
	if !ran {
		whole = u.takeDown(ctx)
	}

	whole = errors.Join(whole, u.paths(ctx), u.accounts(ctx), u.homes(ctx), keyfiles.Of(u.m).Return(u.j.Run, u.j.Keys, u.sameBoot))
	u.m.Mark("undo paths")
	system, units := u.system(ctx)
	whole = errors.Join(whole, system)
	if err := quadlets.TagBack(ctx, u.m, u.j.Quadlets); err != nil {
		u.warnings = append(u.warnings, err.Error()) // a unit that starts without is what counts
	}

	if units = errors.Join(units, u.bringUp(ctx), u.stacks(ctx)); units == nil && !ran {
		u.m.Note(state.JournalLine{Step: "ran"}, false)
	}
	if whole == nil && units == nil {
		u.m.Note(state.JournalLine{Step: "undone"}, false)
	}

	return whole, units
}
