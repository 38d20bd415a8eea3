package deploy

import (
	"context"
	"maps"

	"bellhop/deploy/plan"
	"bellhop/internal/bundle"
	"bellhop/internal/history"
	"bellhop/internal/history/services"
)

// A leftOut is the plan of a host without the services that failed on another host of the run.
type leftOut struct {
	hp     *plan.HostPlan     // as planned, where none of them changes there
	failed []services.Failure // what is left out
	before *history.Failure   // how the rest failed there before; nil: it did not
}

// leaveOut finds out which services of a host change that failed on another host of the run. They are
// remembered as if they had failed here: nothing starts them until they change, or a person asks.
func (b *batch) leaveOut(ctx context.Context, hp *plan.HostPlan) leftOut {
	known := leftOut{hp: hp}
	failures := b.sum.Failures()
	isWhole := hp.Bundle == nil || hp.Hold != nil // what goes back does so exactly, or not at all
	if len(failures) == 0 || !b.plan.Fleet.Isolate || isWhole {
		return known
	}

	past := b.d.archive()
	good, err := past.LastGood(ctx, hp.Last, hp.Elsewhere)
	if err != nil {
		b.d.log().Error("read what the host holds", "host", hp.Name, "err", err)
	}
	if good == nil {
		return known
	}

	whole, failing := hp.Bundle, map[string]string{}
	if hp.Isolation != nil {
		whole = hp.Isolation.Whole
		maps.Copy(failing, hp.Isolation.Failing)
	}

	for _, service := range whole.ServiceNames() {
		digest := bundle.ServiceDigest(&whole.Manifest, service)
		isNews := failures[service] != "" && !hp.Isolation.Holds(service) && digest != bundle.ServiceDigest(&good.Manifest, service)
		if isNews {
			failing[service] = failures[service]
			known.failed = append(known.failed, services.Failure{Service: service, Digest: digest, Run: b.run.head.ID, Error: failures[service]})
		}
	}

	if len(known.failed) == 0 {
		return known
	}

	if err := b.d.History.ServicesFailed(context.Background(), b.run.head.ID, hp.Name, known.failed); err != nil {
		b.d.log().Error("remember failed services", "host", hp.Name, "err", err)
	}

	next := *hp
	next.Isolation = plan.Isolate(ctx, past, whole, good, failing)
	next.Bundle = next.Isolation.Bundle
	known.hp = &next
	if f, failed := b.d.failedBefore(b.plan, &next); failed {
		known.before = &f
	}

	return known
}

// end is the end of a host to which nothing is left to bring, or nothing that did not fail there before;
// isEnd is false when there is more.
func (known leftOut) end(p *plan.Plan) (e history.End, open, isEnd bool) {
	hp := known.hp
	nothing := len(known.failed) > 0 && hp.Isolation.BringsNothing()
	switch {
	case nothing:
	case known.before != nil:
		return history.End{
			Outcome: known.before.State.Outcome(), State: known.before.State, Reason: known.before.Reason, Untouched: true, Whole: hp.Wanted(),
			Services: hp.Isolation.Failed(), Error: hp.Isolation.WhyUntried(*known.before),
		}, false, true
	default:
		return e, false, false
	}
	return history.End{
		Outcome: history.OutcomeHeldBack, State: history.HeldBack, Untouched: true, Whole: hp.Wanted(),
		Services: hp.Isolation.Services(p.Snapshot.Commit), Error: hp.Isolation.Why() + "\n" + plan.Again,
	}, false, true
}
