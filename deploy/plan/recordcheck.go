package plan

import (
	"context"
	"errors"
	"log/slog"

	"bellhop/deploy/commits"
	"bellhop/internal/bundle"
)

// A deployer may know less than a host remembers: its state directory is fresh, or an old copy. A service
// that is held back must not leave such a host, and is not tried again without cause.

// ErrPlanAnew ends a push before its offer: what the host holds is known now, and what is offered is made anew.
var ErrPlanAnew = errors.New("the host holds services of other commits")

// A RecordCheck is what is learned of one host in a run, from its record. The zero RecordCheck is nothing.
type RecordCheck struct {
	Archive    func() commits.Archive
	Log        *slog.Logger
	FromRecord *commits.LastGood // what the host holds, where history did not know it and its record tells
}

// Check takes in the record that a host said before it is offered hp, in a run of p at the commit head. With
// ErrPlanAnew, hp is to be made anew without the services that it returns, which are held back there. Any other
// error says why nothing can be done.
func (m *RecordCheck) Check(ctx context.Context, p *Plan, hp *HostPlan, head string, rec *bundle.HostRecord) (held []string, err error) {
	isNew := rec == nil || rec.Generation == 0
	if isNew || hp.Hold != nil || m.FromRecord != nil {
		return nil, nil
	}
	past := m.Archive()
	if past.KnownDigest(p.Fleet, hp.Name, rec.Digest, hp.Bundle.Digest) != "" {
		return nil, nil
	}

	m.FromRecord = past.FromRecord(ctx, hp.Name, head, rec)
	isBlind := hp.Isolation != nil && hp.Isolation.lastGood.Digest == ""
	held = m.held(p, hp)
	switch {
	case m.FromRecord == nil && isBlind:
		return nil, errors.New(hp.Isolation.WhyNothing())
	case m.FromRecord != nil && (isBlind || len(held) > 0):
		return held, ErrPlanAnew
	}
	return nil, nil
}

// WasHeldBack is why the services that Check returns fail.
const WasHeldBack = "it was held back there before this deployer knew the host"

// held are the services that the host holds back, and of which the head wants what the commit wants that the
// others of the host are at. A person may ask to try them again.
func (m *RecordCheck) held(p *Plan, hp *HostPlan) (names []string) {
	isAsked := p.Chose(hp.Name) && (p.Request.Retry || p.Request.TakeOver)
	if m.FromRecord == nil || isAsked || !p.Fleet.Isolate {
		return nil
	}

	whole := &hp.Bundle.Manifest
	if hp.Isolation != nil {
		whole = &hp.Isolation.Whole.Manifest
	}
	for _, o := range m.FromRecord.Origins {
		if bundle.ServiceDigest(whole, o.Service) == bundle.ServiceDigest(m.FromRecord.Head, o.Service) {
			names = append(names, o.Service)
		}
	}
	return names
}

// LastGood is the last good generation of a host, nil when it is not known. rec is what the host said last;
// nil: nothing.
func (m *RecordCheck) LastGood(ctx context.Context, hp *HostPlan, rec *bundle.Record) *commits.LastGood {
	if m.FromRecord != nil {
		return m.FromRecord
	}

	good, err := m.Archive().LastGood(ctx, hp.Last, hp.Elsewhere)
	if err != nil {
		m.Log.Error("read what the host holds", "host", hp.Name, "err", err)
	}
	if good == nil {
		return nil
	}

	holdsAny := rec != nil && rec.Generation > 0
	if holdsAny && (good.Digest == "" || rec.Digest != good.Digest) {
		return nil // what stands there is not what is remembered
	}
	return good
}
