package host

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"bellhop/internal/bundle"
	"bellhop/internal/host/keyfiles"
	"bellhop/internal/host/owned"
)

// putKeysBack is a run of ModeKeys: the ramfs is filled again, and what waited for its keys
// starts. Nothing on disk changes, so there is nothing to undo: the next contact goes on.
func (r *run) putKeysBack(ctx context.Context) error {
	if err := keyfiles.Of(r.m).Place(ctx, &r.offer, r.w.Keys, r.renamed); err != nil {
		return r.refused(err)
	}

	keyfiles.Of(r.m).NotePushed(r.w.Keys)
	if err := r.putUnitsBack(ctx); err != nil {
		return r.refused(err)
	}
	if err := r.units.startKeyUnits(ctx); err != nil {
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

// putUnitsBack puts back the unit files below /run, which a boot empties: on NixOS they are there, since
// the folder in /etc is read-only.
func (r *run) putUnitsBack(ctx context.Context) error {
	now, err := r.m.Current()
	if err != nil {
		return err
	}
	in := r.m.Tree().Looker(ctx)
	defer in.Close()

	var puts []owned.Change
	for p, o := range now.Owned.Paths {
		if !strings.HasPrefix(p, bundle.RunUnitDir+"/") {
			continue
		}
		is, err := in.Look(p)
		if err != nil {
			return err
		}
		if is.Kind == owned.Nothing && o.Now.Kind != owned.Nothing {
			puts = append(puts, owned.Change{Path: p, Want: o.Now})
		}
	}
	if len(puts) == 0 {
		return nil
	}

	slices.SortFunc(puts, func(a, b owned.Change) int { return cmp.Compare(a.Path, b.Path) })
	if err := r.m.ReplaceFiles(puts, r.replaced); err != nil {
		return err
	}
	return r.m.Systemd.Reload(ctx)
}
