package host

import (
	"context"
	"errors"
	"os"
	"slices"

	"bellhop/internal/bundle"
	"bellhop/internal/host/blame"
	"bellhop/internal/host/check"
	"bellhop/internal/host/confirm"
	"bellhop/internal/host/keyfiles"
	"bellhop/internal/host/nixsystem"
	"bellhop/internal/host/stamps"
	"bellhop/internal/host/state"
	"bellhop/internal/host/undo"
)

// How a run ends: done, refused, or back where it began. In each case its result is saved
// before the journal closes, so that whoever watches hears of it.

// done is the one moment at which the run becomes true.
func (r *run) done(ctx context.Context) error {
	if r.confirmed {
		r.m.Runs().Release(r.offer.Run)
		return r.m.CommitNext(r.offer.Run, r.w.Old)
	}
	if err := r.ready(ctx); err != nil {
		return err
	}
	return r.m.Commit(*r.next, r.w.Old)
}

// ready makes what will stand, and the result of the run.
func (r *run) ready(ctx context.Context) error {
	boot, err := r.m.BootID()
	if err != nil {
		return err
	}

	s := state.Generation{Record: bundle.Record{Network: r.offer.Manifest.Network, Host: r.offer.Manifest.Host,
		Deployer: r.offer.Deployer, Generation: r.w.Old.Generation + 1, Digest: r.w.Digest(), BootID: boot,
		Origins: r.offer.Origins},
		Run: r.offer.Run, Manifest: r.offer.Manifest, Owned: r.w.Next, Edited: r.w.Edited, Images: r.imagesRan(ctx), GaveUp: r.giveUp}
	r.m.Runs().Release(r.offer.Run)
	if held := r.w.Held(); held != nil {
		r.fill(bundle.OutcomeFailed, held)
	} else {
		r.fill(bundle.OutcomeDone, nil)
	}

	r.res.Record = &s.Record
	r.res.Keys = keyfiles.Of(r.m).States(ctx, &s)
	r.next = &s
	return r.m.Runs().SaveDraft(r.res)
}

// fill completes the result but for the record.
func (r *run) fill(outcome string, err error) {
	r.res.Outcome = outcome
	if outcome != bundle.OutcomeDone { // units do as they did before, or nobody knows how
		r.res.Units = nil
	}
	if err != nil {
		r.res.Error = r.plainText(err)
	}
	if r.w != nil {
		r.res.Changed, r.res.Restored, r.res.Edits, r.res.Kept = r.w.Names(), r.w.Restored, r.w.Edits, r.w.Kept
		r.res.Drifted = r.w.Units.Drifted
		r.fillWarnings()
	}

	r.res.TookMillis = r.m.Now().Sub(r.started).Milliseconds()
}

// fillWarnings adds to the result what the plan and the run warn of.
func (r *run) fillWarnings() {
	all := slices.Concat(r.res.Warnings, r.w.Warnings)
	if len(all) > 0 {
		all = blame.MaskWarnings(all, r.mask())
	}
	r.res.Warnings = unique(all) // a run that goes back was filled before
}

// tidy ends a run that is done. Nothing here can undo it any more; the journal goes last, so
// that one killed on the way is tidied by whoever settles.
func (r *run) tidy() error {
	if r.giveUp {
		r.res.Record = nil
	}
	tidyStacks := stackTidier(r.m, r.stacksWere(), slices.Concat(r.w.Old.Manifest.Keys, r.offer.Manifest.Keys))
	if err := tidy(r.m, r.offer.Run, r.w.Keys, r.giveUp); err != nil {
		r.res.Warnings = append(r.res.Warnings, "tidy: "+err.Error())
	}

	if !r.giveUp {
		stamps.Save(r.m, r.w, r.written)
	}
	tidyStacks(&r.offer.Manifest, r.w.Old.Generation+1, r.res)
	r.res.Warnings = append(r.res.Warnings, r.quadlets.Tidy(r.w.Old.Generation+1)...)

	r.m.Mark("tidied")
	r.res.TookMillis = r.m.Now().Sub(r.started).Milliseconds()
	if err := r.m.Runs().Save(r.res); err != nil {
		return err
	}

	r.m.Mark("told")
	if err := r.m.CloseJournal(); err != nil {
		return err
	}

	r.m.Mark("closed")
	if !r.giveUp {
		return nil
	}

	return forgetIfGivenUp(r.m)
}

// tidy drops what a run that is done needs no more.
func tidy(m state.Dir, run string, keys []state.KeyMove, gaveUp bool) error {
	keyfiles.Of(m).NotePushed(keys)
	keyfiles.Of(m).Drop(run, keys)
	m.Unstage(run)
	if gaveUp {
		return nil
	}
	return errors.Join(m.Prune(), nixsystem.KeepSystems(m))
}

// forgetIfGivenUp removes what bellhop remembers of a host that was given back. The runs
// stay, so that the last result can be read.
func forgetIfGivenUp(m state.Dir) error {
	if !m.MayHaveGivenUp() {
		return nil
	}
	now, err := m.Current()
	if err != nil || !now.GaveUp {
		return nil // whoever needs the record says what is wrong with it
	}

	err = m.RemoveOthers(state.BlobDir, m.AllEdits(now))
	os.Remove(m.At(state.BlobDir)) // where it is empty
	m.ForgetUndone()
	for _, d := range []string{state.GenDir, bundle.SealedDir} {
		err = errors.Join(err, os.RemoveAll(m.At(d)))
	}

	return errors.Join(err, m.RemoveOthers(bundle.StoreDir, nil), m.ForgetStamps(), nixsystem.KeepRoots(m.Machine, nil), os.Remove(m.At(bundle.RecordPath)))
}

// refused ends a run that touched nothing.
func (r *run) refused(cause error) error {
	var no *check.Refusal
	if errors.As(cause, &no) {
		r.fill(bundle.OutcomeRefused, cause)
		r.res.Refused = no.Why
	} else {
		r.fill(bundle.OutcomeRolledBack, cause)
	}
	r.blame(cause)
	r.tagStacksBack()

	r.res.Changed, r.res.Restored, r.res.Edits, r.res.Kept = nil, nil, nil, nil
	if now, err := r.m.Current(); err == nil && now.Exists {
		r.res.Record = &now.Record
	}

	keyfiles.Of(r.m).Drop(r.res.Run, nil)
	r.m.Unstage(r.res.Run)
	return r.m.Runs().Save(r.res)
}

// goBack undoes a run that failed, by the same way that a killed one is undone. Should the
// journal be gone or unreadable by now, what it said when it was opened serves.
func (r *run) goBack(ctx context.Context, cause error) error {
	// A window that was left open, by an error, must close before anything goes back.
	if confirmed, err := confirm.Decide(r.m.Runs().Folder(r.offer.Run)); confirmed || err != nil {
		return &heldUpError{r.offer.Run, errors.Join(cause, err)}
	}

	outcome := bundle.OutcomeRolledBack
	var nobody *unconfirmedError
	if errors.As(cause, &nobody) {
		outcome, cause = bundle.OutcomeUnconfirmed, nobody
	}

	text := r.plainText(cause)
	r.event("undo", text)
	r.blame(cause)
	// For who ends it, should this process not. The evidence is long, and there may be no room for it.
	r.m.Note(state.JournalLine{Step: "undo", Cause: text, Outcome: outcome}, false)
	r.m.Note(state.JournalLine{Step: "blame", Failing: r.res.Failing, Evidence: r.res.Evidence}, false)
	j, err := r.m.ReadJournal()
	if err != nil || j == nil {
		j = r.begun
	}

	r.fill(outcome, cause)
	return undo.Run(ctx, r.m, j, r.res)
}
