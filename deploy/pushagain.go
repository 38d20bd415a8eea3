package deploy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"bellhop/deploy/follow"
	"bellhop/deploy/outcome"
	"bellhop/deploy/plan"
	"bellhop/internal/bundle"
	"bellhop/internal/fleet"
	"bellhop/internal/history"
	"bellhop/internal/history/services"
	"bellhop/internal/push"
)

// A push of one host may take more than one try: after one that was undone by services that are known,
// the rest is tried without them.

// A hostTries is what one run does with one host: all of its tries.
type hostTries struct {
	d      *Deployer
	run    *run
	plan   *plan.Plan
	clock  *push.Clock // of all tries
	record *plan.RecordCheck
}

// A try is one push of a host within a run.
type try struct {
	hp *plan.HostPlan
	as string // the id of the run on the host, where it is not that of the run
	// alone says that the host leaves by itself what its users bar: the deployer can't offer the rest anew.
	alone bool

	// What came of it:
	end       history.End
	open      bool     // the host continues without a connection
	failing   []string // services that it was undone or refused for, as far as they are known
	why       string
	plansAnew bool // the failing services are known by the record of the host: see plan.RecordCheck
	mayPass   bool // what failed may be well tomorrow: a package that could not be fetched
	// lacksKey says that a service which stays as it was has a key that is not on the host, and that can't be
	// had any more.
	lacksKey bool
}

// inTries pushes a host, and tries again without what failed. open says that the host continues
// without a connection, and that its result is to be fetched at the next start.
func (h *hostTries) inTries(ctx context.Context, hp *plan.HostPlan) (e history.End, open bool) {
	t, n := h.first(ctx, hp)
	for ; !t.open; n++ {
		next := h.withoutFailing(ctx, t)
		if next == nil {
			return h.lastTry(t), false
		}
		before, failedBefore := h.d.failedBefore(h.plan, next)
		isKnown := h.record.FromRecord == nil // else the push of what stands has history know it
		isIdle := isKnown && next.Isolation.BringsNothing()
		isLast := isIdle || failedBefore || n > 1+plan.MaxAgain
		if isLast && t.mayPass {
			t.end.Services = next.Isolation.Failed()
			return t.end, false
		}
		h.rememberFailed(t, next)
		if isLast {
			e := h.wentBack(next, t.end, n > 2)
			if failedBefore {
				e.Error += "; " + next.Isolation.WhyUntried(before)
			}
			return e, false
		}

		h.run.event(follow.Event{Host: hp.Name, Step: "note", Text: next.RetryNote()})
		tried := t.end
		t = &try{hp: next, as: tryID(h.run.head.ID, n)}
		h.once(ctx, t)
		t.end = outcome.AfterTries(tried, t.end)
	}
	return t.end, true
}

// first is the first try, and the number of the next one. A host that refuses services, and of which nobody knows what to leave there in
// their place, is asked once more where users bar the way, to leave that by itself: they must not be able to stop the others.
func (h *hostTries) first(ctx context.Context, hp *plan.HostPlan) (t *try, next int) {
	t = &try{hp: hp}
	h.once(ctx, t)
	if !isolates(h.plan, hp) || !isRefusedForServices(t.end) || len(barred(t.end)) == 0 || h.withoutFailing(ctx, t) != nil {
		return t, 2
	}

	again := &try{hp: hp, as: tryID(h.run.head.ID, 2), alone: true}
	h.once(ctx, again)
	if again.end.Outcome == history.OutcomeRefused && !again.open {
		return t, 3
	}
	return again, 3
}

// tryID is the id by which a host knows the try n of a run; the first has that of the run.
func tryID(run string, n int) string {
	if n == 1 {
		return run
	}
	return fmt.Sprintf("%s-%d", run, n)
}

// tryIDs are those of all tries that a run may have on one host.
func tryIDs(run string) (ids []string) {
	for n := range 1 + plan.MaxAgain {
		ids = append(ids, tryID(run, n+1))
	}
	return ids
}

// isRefusedForServices says that a host refused for services that it names: nothing was touched, and
// those count like ones that failed.
func isRefusedForServices(e history.End) bool {
	res, _ := e.Details.(*bundle.Result)
	if e.Outcome != history.OutcomeRefused || res == nil {
		return false
	}
	isTheirs := res.Refused == bundle.RefusedBundle || res.Refused == bundle.RefusedBefore
	return isTheirs && len(res.Failing) > 0
}

// lastTry is the end of a host that is not tried again in this run. A refusal that is not held against
// the bundle, for the key of the host or another deployer, says nothing of the services.
func (h *hostTries) lastTry(t *try) history.End {
	e := t.end
	isUndone := t.hp.Isolation != nil && e.State == history.RolledBack
	isTheirs := e.Remember || t.lacksKey
	isRefused := t.as != "" && e.Outcome == history.OutcomeRefused && isTheirs
	if isUndone || isRefused {
		return h.wentBack(t.hp, e, true)
	}
	return e
}

// barred are the services that a host refused since their users bar the way to a path of theirs.
func barred(e history.End) []string {
	if res, ok := e.Details.(*bundle.Result); ok {
		return res.Barred
	}
	return nil
}

// checkRecord is what a try does with the record in the hello of the host, after then.
func (h *hostTries) checkRecord(ctx context.Context, t *try, then func(*push.Hello) error) func(*push.Hello) error {
	return func(hello *push.Hello) error {
		if err := then(hello); err != nil {
			return err
		}
		held, err := h.record.Check(ctx, h.plan, t.hp, h.run.head.Commit, hello.Record)
		if err == nil {
			return nil
		}
		if errors.Is(err, plan.ErrPlanAnew) {
			t.failing, t.why, t.plansAnew = held, plan.WasHeldBack, true
		}
		return push.Final(err)
	}
}

// once is one try.
func (h *hostTries) once(ctx context.Context, t *try) {
	j := h.d.job(ctx, h.run, h.plan, t.hp)
	j.Clock = h.clock
	j.Isolates = isolates(h.plan, t.hp) && !t.alone
	j.OnHello = h.checkRecord(ctx, t, j.OnHello)
	j.Origins = t.hp.Recorded(h.run.head.Commit)
	j.Held = t.hp.Isolation.Names()
	for _, o := range j.Origins {
		j.Said = append(j.Said, o.Commit)
	}

	// A host names the services that failed: words of ours, also where the keys of the host can't be
	// opened, and all else that it says is withheld.
	j.Said = append(j.Said, t.hp.Bundle.ServiceNames()...)
	j.OnBegin = func() error {
		if err := h.d.stillListed(t.hp.Name); err != nil {
			return err
		}
		return h.d.History.BegunAs(ctx, history.Begin{Run: h.run.head.ID, As: t.as, Host: t.hp.Name, Digest: t.hp.Bundle.Digest, Origins: t.hp.Isolation.Kept()})
	}
	if t.as != "" {
		j.Run, j.After = t.as, h.run.head.ID
	}

	j.Before = h.d.nixos().Bring(h.run.head.ID, t.hp, j.Target)
	out := h.d.pusher().Push(ctx, j)
	t.end, t.open = h.d.outcomes().Of(h.run.head.ID, t.hp, out)
	t.end.Digest = t.hp.Bundle.Digest
	t.lacksKey = errors.Is(out.Err, fleet.ErrKeptKey)
	t.blame(out)
	if t.hp.Isolation != nil {
		h.heldBack(t.hp, &t.end)
	}
	if hold := t.hp.Hold; hold != nil {
		t.end.Whole, t.end.Origins = hold.Wanted, hold.Origins
	}
	if t.end.Stood() {
		t.end.Mended = h.mended(t.hp)
		h.ringForArch(t.hp)
	}
}

// ringForArch asks for another run where a service waited for the architecture of its host, which is
// known since the host was heard.
func (h *hostTries) ringForArch(hp *plan.HostPlan) {
	wasUnknown := hp.Last.Arch == "" && hp.Host.Arch == ""
	if wasUnknown && hp.Isolation != nil && h.d.arch(hp.Name) != "" {
		h.d.bell.ring("the architecture of " + hp.Name + " is known")
	}
}

// blame notes which services a try failed for, where nothing of it stays on the host.
func (t *try) blame(o push.Outcome) {
	if services, mayPass := push.DueTo(o.Err); o.Fate == push.Refused && len(services) > 0 {
		t.failing, t.why, t.mayPass = services, o.Text, mayPass
	}
	if o.Fate != push.Ended || o.Result.CutOff {
		return
	}

	isUndone := t.end.Outcome == history.OutcomeRolledBack
	if isUndone || isRefusedForServices(t.end) {
		t.failing, t.why = o.Result.Failing, o.Result.Error
	}
}

// heldBack makes e the end of a push of a composed bundle.
func (h *hostTries) heldBack(hp *plan.HostPlan, e *history.End) {
	e.Whole = hp.Isolation.Whole.Digest
	if !e.Stood() {
		return
	}
	e.Outcome, e.Origins = history.OutcomeHeldBack, hp.Isolation.Origins()
	e.Services = hp.Isolation.Services(h.plan.Snapshot.Commit)
	e.Error = hp.Isolation.Why() + "\n" + plan.Again
}

// reason is why one service failed: of several, by what was seen of it.
func (t *try) reason(service string) string {
	res, _ := t.end.Details.(*bundle.Result)
	if len(t.failing) < 2 || res == nil {
		return t.why
	}

	var seen []string
	for _, e := range res.Evidence {
		if e.Service == service {
			seen = append(seen, bundle.EvidenceLine(e))
		}
	}
	if len(seen) == 0 {
		return t.why
	}
	return strings.Join(seen, "; ")
}

// isolates says that the services of a host which fail are held back without the others. A host that goes back to what it held goes
// there exactly, or not at all.
func isolates(p *plan.Plan, hp *plan.HostPlan) bool { return p.Fleet.Isolate && hp.Hold == nil }

// withoutFailing is the plan of a host without the services that a try failed for; nil when they are
// not known, or the bundle is not to be divided.
func (h *hostTries) withoutFailing(ctx context.Context, t *try) *plan.HostPlan {
	if len(t.failing) == 0 || !isolates(h.plan, t.hp) {
		return nil
	}

	hp, e := t.hp, &t.end
	whole, failing := hp.Bundle, map[string]string{}
	if hp.Isolation != nil {
		whole, failing = hp.Isolation.Whole, maps.Clone(hp.Isolation.Failing)
	}
	known := whole.ServiceNames()
	before := len(failing)
	if t.plansAnew {
		before = -1
	}
	for _, service := range t.failing { // the host's words choose among ours
		if slices.Contains(known, service) && !hp.Isolation.Holds(service) {
			failing[service] = t.reason(service)
		}
	}
	if len(failing) == before {
		return nil
	}

	past := h.d.archive()
	good := h.record.LastGood(ctx, hp, e.Record)
	if good == nil {
		return nil
	}

	next := *hp
	next.Isolation = plan.Isolate(ctx, past, whole, good, failing)
	next.Bundle = next.Isolation.Bundle
	return &next
}

// rememberFailed remembers the services that failed in this try, before another one is begun.
func (h *hostTries) rememberFailed(t *try, next *plan.HostPlan) {
	hp, e := t.hp, &t.end
	whole := &next.Isolation.Whole.Manifest
	for service, why := range next.Isolation.Failing {
		isNew := hp.Isolation == nil || hp.Isolation.Failing[service] == ""
		if isNew {
			e.FailedServices = append(e.FailedServices, services.Failure{Service: service, Digest: bundle.ServiceDigest(whole, service), Run: h.run.head.ID, Error: why, Barred: slices.Contains(barred(t.end), service)})
		}
	}
	slices.SortFunc(e.FailedServices, func(a, b services.Failure) int { return strings.Compare(a.Service, b.Service) })

	if err := h.d.History.ServicesFailed(context.Background(), h.run.head.ID, hp.Name, e.FailedServices); err != nil {
		h.d.log().Error("remember failed services", "host", hp.Name, "err", err)
	}
}

// mended are the services that are remembered as failed by the digest that stands now.
func (h *hostTries) mended(hp *plan.HostPlan) []services.Failure {
	var all []services.Failure
	for _, f := range h.d.hosts.FailedServices(hp.Name) {
		if !hp.Isolation.Holds(f.Service) && bundle.ServiceDigest(&hp.Bundle.Manifest, f.Service) == f.Digest {
			all = append(all, f)
		}
	}
	return all
}

// wentBack is the end of a host that stands as it did before the run: nothing is left to bring without
// the services that failed, or what was left failed too.
func (h *hostTries) wentBack(next *plan.HostPlan, e history.End, tried bool) history.End {
	is := next.Isolation
	res, _ := e.Details.(*bundle.Result)
	stepFailed := res != nil && res.Refused == bundle.RefusedBefore
	if tried || stepFailed || e.Outcome != history.OutcomeRefused {
		e.Outcome, e.State = history.OutcomeRolledBack, history.RolledBack
	}
	if e.Remember && e.Digest != is.Whole.Digest { // what was left without them may be wanted by itself
		e.Tried = e.Digest
	}

	e.Whole, e.Digest, e.Remember = is.Whole.Digest, is.Whole.Digest, true
	e.Services = is.Failed()
	if is.BringsNothing() && is.HoldsComposed() {
		e.State, e.Remember = history.HeldBack, false // the others are at the commit already
		e.Services = is.Services(h.plan.Snapshot.Commit)
		if !tried {
			e.Error = is.Why() + "\n" + plan.Again // as before the service was tried once more
		}
	}
	if tried {
		e.Error = "the other services could not be brought without " + strings.Join(is.FailingNames(), ", ") + ": " + e.Error + "\n" + is.Why()
	}

	return e
}

// failedBefore is how the composed bundle of a host failed there before: an older commit may have been that
// very bundle. ok is false when it did not, or when a person asked to try again.
func (d *Deployer) failedBefore(p *plan.Plan, hp *plan.HostPlan) (f history.Failure, ok bool) {
	isAsked := p.Chose(hp.Name) && (p.Request.Retry || p.Request.TakeOver)
	if isAsked {
		return f, false
	}
	return d.hosts.Failure(hp.Name, hp.Bundle.Digest)
}
