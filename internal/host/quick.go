package host

import (
	"context"
	"reflect"

	"bellhop/internal/bundle"
	"bellhop/internal/host/keyfiles"
	"bellhop/internal/host/state"
)

// unchanged answers an offer that changes nothing: the record is rewritten, and key units that
// are not active are started. id names the session that brought keys. nil means that there is
// work. The caller holds the lock.
func unchanged(ctx context.Context, dir state.Dir, o *bundle.Offer, now state.Standing, id string) (*bundle.Result, error) {
	started := dir.Now()
	if err := state.CheckBase(o, now); err != nil {
		return nil, err
	}
	var w *plan
	var err error
	if o.Mode == bundle.ModeKeys {
		w, err = makeKeysPlan(dir, o, now, keyfiles.Of(dir).Staged(id))
	} else {
		w, err = makePlan(ctx, dir, o, now, keyfiles.Of(dir).Staged(id))
	}
	if err != nil || !w.nothing() {
		return nil, err
	}
	w.tellPlace(ctx)
	res := &bundle.Result{Run: o.Run, Outcome: bundle.OutcomeNothing, Warnings: w.warnings}
	m := state.Of(dir.Counting(&res.Fsyncs))
	if o.Mode == bundle.ModeKeys {
		o.Manifest, o.Digest, w.next = now.Manifest, now.Digest, now.Owned
	} else {
		o.Manifest, o.Digest = w.offer.Manifest, w.digest()
		if err := w.planUnits(ctx); err == nil {
			res.Drifted = w.units.drifted
		}
	}
	if res.Started, err = healKeyUnits(ctx, m, o.Manifest.Units, w.units.drifted); err != nil {
		res.Warnings = append(res.Warnings, err.Error())
	}
	if len(w.held) > 0 {
		res.Outcome, res.Error = bundle.OutcomeFailed, w.heldError().Error()
	}
	next, err := rewrite(m, o, w, now)
	if err != nil {
		return nil, err
	}
	res.Record = &next.Record
	res.Keys = keyfiles.Of(m).States(ctx, &next)
	res.TookMillis = m.Now().Sub(started).Milliseconds()
	return res, nil
}

// rewrite brings the record up to date where nothing else changed. A host that holds things,
// and whose record was lost, gets a first generation.
func rewrite(m state.Dir, o *bundle.Offer, w *plan, now state.Standing) (state.Standing, error) {
	next := now
	next.Network, next.Host = o.Manifest.Network, o.Manifest.Host
	next.Deployer, next.Digest = o.Deployer, o.Digest
	next.Manifest, next.Owned = o.Manifest, w.next
	if !now.Exists && !o.Manifest.Empty() {
		next.Generation, next.Run = 1, o.Run
	}
	var err error
	if next.BootID, err = m.BootID(); err != nil {
		return next, err
	}
	if err := w.saveMade(); err != nil {
		return next, err
	}
	if now.Exists && next.Record == now.Record && reflect.DeepEqual(next.Manifest, now.Manifest) {
		return next, nil // not a byte to write
	}
	if next.Generation == now.Generation {
		return next, m.Commit(next, next)
	}
	return next, m.Commit(next, now)
}
