package host

import (
	"context"

	"bellhop/internal/bundle"
	"bellhop/internal/host/keyfiles"
)

// putKeysBack is a run of ModeKeys: the ramfs is filled again, and what waited for its keys
// starts. Nothing on disk changes, so there is nothing to undo: the next contact goes on.
func (r *run) putKeysBack(ctx context.Context) error {
	if err := keyfiles.Of(r.m).Place(ctx, &r.offer, r.w.Keys, r.renamed); err != nil {
		return r.refused(err)
	}

	keyfiles.Of(r.m).NotePushed(r.w.Keys)
	if err := r.startKeyUnits(ctx); err != nil {
		r.res.Warnings = append(r.res.Warnings, err.Error())
	}

	s, err := r.m.Current()
	if err != nil {
		return err
	}
	if s.BootID, err = r.m.BootID(); err != nil {
		return err
	}
	if err := r.m.Commit(s, s); err != nil {
		return err
	}

	r.fill(bundle.OutcomeNothing, nil)
	r.res.Record = &s.Record
	r.res.Keys = keyfiles.Of(r.m).States(ctx, &s)
	keyfiles.Of(r.m).Drop(r.offer.Run, r.w.Keys)
	r.m.Unstage(r.offer.Run)
	return r.m.Runs().Save(r.res)
}
