package host

import (
	"context"
	"errors"
	"reflect"

	"bellhop/internal/bundle"
)

// quick answers an offer that changes nothing: the record is rewritten, and key units that
// are not active are started. nil means that there is work.
func (s *session) quick(ctx context.Context, o *bundle.Offer, id string) (*bundle.Result, error) {
	end, err := s.m.claim(s.at, false)
	if err != nil {
		return nil, err
	}
	defer end()
	unlock, err := s.m.lock(0)
	if errors.Is(err, ErrBusy) {
		return nil, refuse(bundle.RefusedBusy, "%w", err)
	}
	if err != nil {
		return nil, err
	}
	defer unlock()
	started := s.m.now()
	now, err := s.stands()
	if err == nil {
		err = checkBase(o, now)
	}
	if err != nil {
		return nil, err
	}
	var w *plan
	if o.Mode == bundle.ModeKeys {
		w, err = s.m.planKeysOnly(o, now, s.m.stagedKeys(id))
	} else {
		w, err = s.m.plan(ctx, o, now, s.m.stagedKeys(id))
	}
	if err != nil || !w.nothing() {
		return nil, err
	}
	w.tellPlace(ctx)
	res := &bundle.Result{Run: o.Run, Outcome: bundle.OutcomeNothing, Warnings: w.warnings}
	m := s.m.counting(&res.Fsyncs)
	if o.Mode == bundle.ModeKeys {
		o.Manifest, o.Digest, w.next = now.Manifest, now.Digest, now.Owned
	} else {
		o.Manifest, o.Digest = w.offer.Manifest, w.digest()
		if err := w.planUnits(ctx); err == nil {
			res.Drifted = w.units.drifted
		}
	}
	if res.Started, err = m.healKeyUnits(ctx, o.Manifest.Units, w.units.drifted); err != nil {
		res.Warnings = append(res.Warnings, err.Error())
	}
	if len(w.held) > 0 {
		res.Outcome, res.Error = bundle.OutcomeFailed, w.heldError().Error()
	}
	next, err := m.rewrite(o, w, now)
	if err != nil {
		return nil, err
	}
	res.Record = &next.Record
	res.Keys = m.keyStates(ctx, &next)
	res.TookMillis = m.now().Sub(started).Milliseconds()
	return res, nil
}

// rewrite brings the record up to date where nothing else changed. A host that holds things,
// and whose record was lost, gets a first generation.
func (m *Machine) rewrite(o *bundle.Offer, w *plan, now standing) (standing, error) {
	next := now
	next.Network, next.Host = o.Manifest.Network, o.Manifest.Host
	next.Deployer, next.Digest = o.Deployer, o.Digest
	next.Manifest, next.Owned = o.Manifest, w.next
	if !now.exists && !o.Manifest.Empty() {
		next.Generation, next.Run = 1, o.Run
	}
	var err error
	if next.BootID, err = m.BootID(); err != nil {
		return next, err
	}
	if err := w.saveMade(); err != nil {
		return next, err
	}
	if now.exists && next.Record == now.Record && reflect.DeepEqual(next.Manifest, now.Manifest) {
		return next, nil // not a byte to write
	}
	if next.Generation == now.Generation {
		return next, m.commit(next, next)
	}
	return next, m.commit(next, now)
}
