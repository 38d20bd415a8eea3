package host

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"bellhop/internal/bundle"
	"bellhop/internal/host/confirm"
	"bellhop/internal/host/machine"
	"bellhop/internal/host/stacks"
	"bellhop/internal/host/state"
	"bellhop/internal/host/undo"
)

// Settle ends a run that was cut off: one that was past its commit is tidied up, any other is
// undone. It is what systemd runs at boot, and what every start and contact does first. With
// nothing open, or somebody at work, it does nothing.
func Settle(ctx context.Context, host *machine.Machine) error {
	m := state.Of(host)
	unlock, err := m.Lock(0)
	if errors.Is(err, machine.ErrBusy) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unlock()

	return SettleLocked(ctx, m)
}

// SettleLocked is Settle under the lock.
func SettleLocked(ctx context.Context, m state.Dir) error {
	j, err := m.ReadJournal()
	if err != nil {
		return err
	}
	if j == nil {
		stacks.Settle(ctx, m, stacks.AtContact)
		return forgetIfGivenUp(m)
	}

	now, err := m.Current()
	if err != nil {
		return err
	}

	res := &bundle.Result{Run: j.Run}
	if now.Run == j.Run {
		return settleDone(m, j, now, res)
	}

	confirmed, err := confirm.Decide(m.Runs().Folder(j.Run))
	if err != nil {
		return err
	}
	if confirmed {
		err := settleConfirmed(m, j, now, res)
		if !errors.Is(err, state.ErrNextLost) {
			return err
		}

		j.Cause = fmt.Sprintf("the run was confirmed, and could not be ended: %v", err)
	}

	m.Runs().Event(j.Run, "undo", cmp.Or(j.Cause, "the run was cut off"))
	res.Outcome, res.Error, res.CutOff = cmp.Or(j.Outcome, bundle.OutcomeRolledBack), j.Cause, j.Cause == ""
	if res.CutOff {
		res.Error = "the run was cut off"
	}
	res.Failing, res.Evidence = j.Failing, j.Evidence
	if told, err := m.Runs().Result(j.Run); err == nil && told != nil { // undone before, but not whole
		res.Error, res.CutOff = cmp.Or(told.Cause, told.Error), told.CutOff
	}

	return undo.Run(ctx, m, j, res)
}

// settleDone ends a run that was killed between its commit and its end.
func settleDone(m state.Dir, j *state.Journal, now state.Generation, res *bundle.Result) error {
	if draft, err := m.Runs().Draft(j.Run); err == nil && draft != nil {
		res = draft
	} else {
		res.Outcome, res.Record = bundle.OutcomeDone, &now.Record
	}
	if now.GaveUp {
		res.Record = nil
	}
	tidyStacks := stackTidier(m, j.Stacks, now.Manifest.Keys)
	if err := tidy(m, j.Run, j.Keys, now.GaveUp); err != nil {
		res.Warnings = append(res.Warnings, "tidy: "+err.Error())
	}
	tidyStacks(&now.Manifest, now.Generation, res)
	if err := m.Runs().Save(res); err != nil {
		return err
	}
	if err := m.CloseJournal(); err != nil {
		return err
	}

	return forgetIfGivenUp(m)
}
