package host

import (
	"context"
	"errors"
	"fmt"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/host/confirm"
	"bellhop/internal/host/machine"
	"bellhop/internal/host/state"
)

// A run that was applied waits until its deployer confirms over a fresh connection that the host
// can still be reached. While it waits, the record names the generation before, and the record that
// the run makes true lies beside it, synced: so whoever ends the run, this process, the next one
// or the next boot, needs no more than the mark that says that it was confirmed.

// windowReserve is the room on disk, bytes, that is held while a run waits: for its result and the
// last lines of the journal.
const windowReserve = 64 << 10

// An unconfirmedError ends a run that nobody confirmed.
type unconfirmedError struct{ window time.Duration }

func (e *unconfirmedError) Error() string {
	return fmt.Sprintf("nobody confirmed within %v that the host can still be reached", e.window)
}

// confirm waits until the run is confirmed. A run whose offer has no window does not wait.
func (r *run) confirm(ctx context.Context) error {
	window := time.Duration(r.offer.Confirm) * time.Millisecond
	if window <= 0 {
		return nil
	}
	if err := r.ready(ctx); err != nil {
		return err
	}
	if err := r.m.SaveNext(r.next); err != nil {
		return err
	}
	if err := r.m.Runs().Reserve(r.offer.Run, windowReserve); err != nil {
		return fmt.Errorf("make room for the result in %s: %w", bundle.StateDir, err)
	}

	w, err := confirm.Open(r.m.Runs().Folder(r.offer.Run), window)
	if err != nil {
		return err
	}
	defer w.Close()

	r.event("confirm", fmt.Sprintf("waiting up to %v", window))
	r.m.Mark("waiting")

	ok, err := w.Wait(ctx)
	if err == nil && !ok {
		err = &unconfirmedError{window}
	}

	r.confirmed = ok
	return err
}

// A heldUpError says that a run could not be ended, for lack of room on the disk perhaps, though it
// was confirmed, or is what the record names. It can't go back any more: the next process ends it.
type heldUpError struct {
	run   string
	cause error
}

func (e *heldUpError) Error() string {
	return fmt.Sprintf("run %s stays, and can't be ended yet: %v", e.run, e.cause)
}

// stays says that the run can't go back any more.
func (r *run) stays() bool {
	if r.confirmed {
		return true
	}
	now, err := r.m.Current()
	return err == nil && now.Run == r.offer.Run
}

func (e *heldUpError) Unwrap() error { return e.cause }

// Confirm leaves the mark for the run that waits for it. It returns nil, too, when the run is done
// already.
func Confirm(host *machine.Machine, run string) error {
	m := state.Of(host)
	granted, err := confirm.Grant(m.Runs().Folder(run), m.SyncTo().Sync)
	if granted || err != nil {
		return err
	}

	now, err := m.Current()
	if err != nil {
		return err
	}

	res, err := m.Runs().Result(run)
	switch {
	case err != nil:
		return err
	case now.Exists && now.Run == run:
		return nil
	case res != nil && (res.Outcome == bundle.OutcomeDone || res.Outcome == bundle.OutcomeNothing):
		return nil
	case res != nil:
		return fmt.Errorf("run %s can't be confirmed any more: it is %s on this host: %s", run, res.Outcome, res.Error)
	}

	if j, err := m.ReadJournal(); err != nil || j != nil && j.Run == run {
		return errors.Join(err, fmt.Errorf("run %s does not wait to be confirmed: it is at work, or on its way back", run))
	}

	return fmt.Errorf("the host knows no run %s that waits to be confirmed", run)
}

// settleConfirmed ends a run that was killed after it was confirmed: it is done.
func settleConfirmed(m state.Dir, j *state.Journal, now state.Generation, res *bundle.Result) error {
	m.Runs().Release(j.Run)
	if err := m.CommitNext(j.Run, now); err != nil {
		return &heldUpError{j.Run, err}
	}

	m.Mark("committed")
	now, err := m.Current()
	if err != nil {
		return err
	}

	return settleDone(m, j, now, res)
}

// WaitingRun is the run that waits to be confirmed; "" when none does.
func WaitingRun(m state.Dir) string {
	j, err := m.ReadJournal()
	if err != nil || j == nil || !confirm.Waits(m.Runs().Folder(j.Run)) {
		return ""
	}
	return j.Run
}
