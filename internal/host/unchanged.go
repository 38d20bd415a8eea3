package host

import (
	"context"
	"errors"
	"reflect"

	"bellhop/internal/bundle"
	"bellhop/internal/host/check"
	"bellhop/internal/host/keyfiles"
	"bellhop/internal/host/keyunits"
	"bellhop/internal/host/plan"
	"bellhop/internal/host/stamps"
	"bellhop/internal/host/state"
)

// Unchanged answers an offer that changes nothing: the record is rewritten, and key units that
// are not active are started. id names the session that brought keys. nil means that there is
// work. The caller holds the lock.
func Unchanged(ctx context.Context, dir state.Dir, o *bundle.Offer, now state.Generation, id string) (*bundle.Result, error) {
	started := dir.Now()
	if err := state.CheckBase(o, now); err != nil {
		return nil, err
	}

	var w *plan.Plan
	var err error
	if o.Mode == bundle.ModeKeys {
		w, err = plan.MakeForKeys(dir, o, now, keyfiles.Of(dir).Staged(id))
	} else {
		w, err = plan.Make(ctx, dir, o, now, keyfiles.Of(dir).Staged(id))
	}
	var no *check.Refusal
	if errors.As(err, &no) && len(no.Services) > 0 {
		return nil, nil // a run looks at more, and names all services that the host refuses
	}

	if err != nil || !w.Nothing() {
		return nil, err
	}

	w.WarnOfKeyPlace(ctx)
	res := &bundle.Result{Run: o.Run, Outcome: bundle.OutcomeNothing, Warnings: w.Warnings}
	m := state.Of(dir.Counting(&res.Fsyncs))
	if o.Mode == bundle.ModeKeys {
		o.Manifest, o.Digest, w.Next = now.Manifest, now.Digest, now.Owned
	} else {
		o.Manifest, o.Digest = w.Offer.Manifest, w.Digest()
		if err := w.PlanUnits(ctx); err == nil {
			res.Drifted = w.Units.Drifted
		}
	}
	if res.Started, err = keyunits.Start(ctx, m, o.Manifest.Units, w.Units.StayDown()); err != nil {
		res.Warnings = append(res.Warnings, err.Error())
	}
	if held := w.Held(); held != nil {
		res.Outcome, res.Error = bundle.OutcomeFailed, held.Error()
	}

	next, err := rewrite(m, o, w, now)
	if err != nil {
		return nil, err
	}
	if o.Mode == bundle.ModeDeploy {
		stamps.Save(m, w, nil)
	}

	res.Record = &next.Record
	res.Keys = keyfiles.Of(m).States(ctx, &next)
	res.TookMillis = m.Now().Sub(started).Milliseconds()
	return res, nil
}

// rewrite brings the record up to date where nothing else changed. A host that holds things,
// and whose record was lost, gets a first generation.
func rewrite(m state.Dir, o *bundle.Offer, w *plan.Plan, now state.Generation) (state.Generation, error) {
	next := now
	next.Network, next.Host = o.Manifest.Network, o.Manifest.Host
	next.Deployer, next.Digest = o.Deployer, o.Digest
	next.Manifest, next.Owned = o.Manifest, w.Next
	if o.Mode == bundle.ModeDeploy {
		next.Origins = o.Origins
	}
	if !now.Exists && !o.Manifest.Empty() {
		next.Generation, next.Run = 1, o.Run
	}

	var err error
	if next.BootID, err = m.BootID(); err != nil {
		return next, err
	}
	if err := w.SaveMade(); err != nil {
		return next, err
	}
	isSame := reflect.DeepEqual(next.Record, now.Record) && reflect.DeepEqual(next.Manifest, now.Manifest)
	if now.Exists && isSame {
		return next, nil // not a byte to write
	}
	if next.Generation == now.Generation {
		return next, m.Commit(next, next)
	}

	return next, m.Commit(next, now)
}
