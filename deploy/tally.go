package deploy

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"

	"bellhop/deploy/plan"
	"bellhop/internal/bundle"
	"bellhop/internal/history"
	"bellhop/internal/history/results"
	"bellhop/internal/history/services"
	"bellhop/internal/plain"
)

// A tally is what came of the hosts of a run so far, for those that come later.
type tally struct {
	max int // of failed hosts

	mu       sync.Mutex
	failed   []string          // hosts that failed as a whole, each as people read it
	cut      []string          // hosts where the run was cut off, by name: they are tried again
	services map[string]string // services that failed on a host, and where and why
}

func newTally(max int) *tally { return &tally{max: max, services: map[string]string{}} }

// count takes in what came of one host.
func (t *tally) count(hp *plan.HostPlan, e history.End) {
	t.mu.Lock()
	defer t.mu.Unlock()

	host := hp.Name
	for _, f := range e.FailedServices {
		if t.services[f.Service] == "" {
			t.services[f.Service] = fmt.Sprintf("it failed on %s: %s", host, f.Error)
		}
	}

	isCut := e.Outcome == history.OutcomeRolledBack && e.State == history.Behind
	switch {
	case isCut:
		t.cut = append(t.cut, host)
	case failedAsWhole(e):
		t.failed = append(t.failed, failure(hp.Failing(e), host))
	}
}

// failedAsWhole says that a host counts for max_failures: not one that could not be reached, nor one
// whose other services were brought.
func failedAsWhole(e history.End) bool {
	if e.Untouched { // it failed in an earlier run
		return false
	}
	switch e.State {
	case history.RolledBack, history.Failed:
		return !e.Stood()
	case history.Unconfirmed:
		return e.Reason == results.ReasonCutOff
	}
	return false
}

// stops says why no other wave is begun; "" when the run goes on. isFirm says that the bundle is at
// fault: a host where the run was cut off is tried again first, and the others with it.
func (t *tally) stops() (why string, isFirm bool) {
	t.mu.Lock()
	defer t.mu.Unlock()

	switch {
	case len(t.failed) > t.max:
		return fmt.Sprintf("stopped: %s (max_failures %d)", plain.Few(t.failed), t.max), true
	case len(t.failed)+len(t.cut) > t.max:
		return fmt.Sprintf("not begun: the run was cut off on %s, which is tried again first", plain.Few(t.cut)), false
	}
	return "", false
}

// failures are the services that failed, and where and why.
func (t *tally) failures() map[string]string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.services)
}

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
	failures := b.sum.failures()
	isWhole := hp.Bundle == nil || hp.Hold != nil // what goes back does so exactly, or not at all
	if len(failures) == 0 || !b.plan.Fleet.Isolate || isWhole {
		return known
	}

	past := b.d.archive()
	good, err := past.Standing(ctx, hp.Last, hp.Elsewhere)
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
			Services: hp.Isolation.Failed(), Error: hp.Isolation.Untried(*known.before),
		}, false, true
	default:
		return e, false, false
	}
	return history.End{
		Outcome: history.OutcomeHeldBack, State: history.HeldBack, Untouched: true, Whole: hp.Wanted(),
		Services: hp.Isolation.Services(p.Snapshot.Commit), Error: hp.Isolation.Why() + "\n" + plan.Again,
	}, false, true
}

// failure is what people read of a host that failed: "web failed on a".
func failure(services []string, host string) string {
	if len(services) == 0 {
		return host + " failed"
	}
	return strings.Join(services, ", ") + " failed on " + host
}
