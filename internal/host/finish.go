package host

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"

	"bellhop/internal/bundle"
	"bellhop/internal/host/owned"
)

// How a run ends: done, refused, or back where it began. In each case its result is saved
// before the journal closes, so that whoever watches hears of it.

// done is the one moment at which the run becomes true.
func (r *run) done(ctx context.Context) error {
	boot, err := r.m.BootID()
	if err != nil {
		return err
	}
	s := standing{Record: bundle.Record{Network: r.offer.Manifest.Network, Host: r.offer.Manifest.Host,
		Deployer: r.offer.Deployer, Generation: r.w.old.Generation + 1, Digest: r.w.digest(), BootID: boot},
		Run: r.offer.Run, Manifest: r.offer.Manifest, Owned: r.w.next, Edited: r.w.edited, GaveUp: r.giveUp}
	r.m.runs().Release(r.offer.Run)
	if len(r.w.held) > 0 {
		r.fill(bundle.OutcomeFailed, r.w.heldError())
	} else {
		r.fill(bundle.OutcomeDone, nil)
	}
	r.res.Record = &s.Record
	r.res.Keys = r.m.keyStates(ctx, &s)
	if err := r.m.runs().SaveDraft(r.res); err != nil {
		return err
	}
	return r.m.commit(s, r.w.old)
}

// fill completes the result but for the record.
func (r *run) fill(outcome string, err error) {
	r.res.Outcome = outcome
	if err != nil {
		r.res.Error = err.Error()
	}
	if r.w != nil {
		r.res.Changed, r.res.Restored, r.res.Edits, r.res.Kept = r.w.names(), r.w.restored, r.w.edits, r.w.kept
		r.res.Drifted = r.w.units.drifted
		r.res.Warnings = append(r.res.Warnings, r.w.warnings...)
	}
	r.res.TookMillis = r.m.now().Sub(r.started).Milliseconds()
}

// tidy ends a run that is done. Nothing here can undo it any more; the journal goes last, so
// that one killed on the way is tidied by whoever settles.
func (r *run) tidy() error {
	if r.giveUp {
		r.res.Record = nil
	}
	if err := r.m.tidy(r.offer.Run, r.w.keys, r.giveUp); err != nil {
		r.res.Warnings = append(r.res.Warnings, "tidy: "+err.Error())
	}
	r.m.reached("tidied")
	r.res.TookMillis = r.m.now().Sub(r.started).Milliseconds()
	if err := r.m.runs().Save(r.res); err != nil {
		return err
	}
	r.m.reached("told")
	if err := r.m.closeJournal(); err != nil {
		return err
	}
	r.m.reached("closed")
	if !r.giveUp {
		return nil
	}
	return r.m.forgetIfGivenUp()
}

// tidy drops what a run that is done needs no more.
func (m *Machine) tidy(run string, keys []keyMove, gaveUp bool) error {
	m.notePushed(keys)
	m.dropKeys(run, keys)
	m.unstage(run)
	if gaveUp {
		return nil
	}
	return m.prune()
}

// forgetIfGivenUp removes what bellhop remembers of a host that was given back. The runs
// stay, so that the last result can be read.
func (m *Machine) forgetIfGivenUp() error {
	p, err := os.ReadFile(m.at(bundle.RecordPath))
	if err != nil || !bytes.Contains(p, []byte(`"gave_up":true`)) { // within a string the quotes would be escaped
		return nil // whoever needs the record says what is wrong with it
	}
	now, err := m.stands()
	if err != nil || !now.GaveUp {
		return err
	}
	err = m.removeOthers(blobDir, m.allEdits(now))
	os.Remove(m.at(blobDir)) // where it is empty
	for _, d := range []string{genDir, bundle.SealedDir} {
		err = errors.Join(err, os.RemoveAll(m.at(d)))
	}
	return errors.Join(err, m.removeOthers(bundle.StoreDir, nil), os.Remove(m.at(bundle.RecordPath)))
}

// allEdits are the files that people edited and were told are kept: they are not bellhop's to throw
// away.
func (m *Machine) allEdits(now standing) map[string]bool {
	all := []standing{now}
	numbers, _ := m.generations()
	for _, n := range numbers {
		if s, err := m.readStanding(generationPath(n)); err == nil {
			all = append(all, s)
		}
	}
	edits := map[string]bool{}
	for _, s := range all {
		for _, p := range s.Edited {
			if p.Was.Kind == owned.File {
				edits[p.Was.Digest] = true
			}
		}
	}
	return edits
}

func (m *Machine) unstage(run string) { os.RemoveAll(filepath.Join(m.at(stagingDir), run)) }

// refused ends a run that touched nothing.
func (r *run) refused(cause error) error {
	var no *refusal
	if errors.As(cause, &no) {
		r.fill(bundle.OutcomeRefused, cause)
		r.res.Refused = no.why
	} else {
		r.fill(bundle.OutcomeRolledBack, cause)
	}
	r.res.Changed, r.res.Restored, r.res.Edits, r.res.Kept = nil, nil, nil, nil
	if now, err := r.m.stands(); err == nil && now.exists {
		r.res.Record = &now.Record
	}
	r.m.dropKeys(r.res.Run, nil)
	r.m.unstage(r.res.Run)
	return r.m.runs().Save(r.res)
}

// goBack undoes a run that failed, by the same way that a killed one is undone. Should the
// journal be gone or unreadable by now, what it said when it was opened serves.
func (r *run) goBack(ctx context.Context, cause error) error {
	r.event("undo", cause.Error())
	r.m.note(journalLine{Step: "undo", Cause: cause.Error()}, false) // for who ends it, should this process not
	j, err := r.m.openJournal()
	if err != nil || j == nil {
		j = r.begun
	}
	r.fill(bundle.OutcomeRolledBack, cause)
	return r.m.undo(ctx, j, r.res)
}
