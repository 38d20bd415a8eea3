package deploy

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"bellhop/internal/bundle"
	"bellhop/internal/history"
	"bellhop/internal/push"
)

// A push of one host may take more than one try: after one that was undone by services that are known,
// the rest is tried without them.

// A try is one push of a host within a run.
type try struct {
	hp *HostPlan
	as string // the id of the run on the host, where it is not that of the run

	clock *push.Clock // of all tries of the host
}

// pushInTries pushes a host, and tries again without what failed. open says that the host continues
// without a connection, and that its result is to be fetched at the next start.
func (d *Deployer) pushInTries(ctx context.Context, clock *push.Clock, r *run, p *Plan, hp *HostPlan) (e history.End, open bool) {
	e, open = d.pushOnce(ctx, r, p, try{hp: hp, clock: clock})

	for n := 2; !open; n++ {
		next := d.withoutFailing(ctx, p, hp, e)
		if next == nil {
			return d.lastTry(p, hp, e), false
		}
		d.rememberFailed(r, hp, &e, next)
		if next.held.bringsNothing() || n > 1+maxAgain {
			return d.wentBack(p, next, e, n > 2), false
		}

		r.event(Event{Host: hp.Name, Step: "note", Text: next.tells()})
		before := e
		e, open = d.pushOnce(ctx, r, p, try{hp: next, as: fmt.Sprintf("%s-%d", r.head.ID, n), clock: clock})
		e = afterTries(before, e)
		if e.Outcome == history.OutcomeRefused && !stepFailed(e) {
			return d.wentBack(p, next, e, true), false
		}
		hp = next
	}
	return e, true
}

// stepFailed says that the host refused since a step before a service failed: nothing was touched, and
// the service counts like one that failed.
func stepFailed(e history.End) bool {
	res, _ := e.Details.(*bundle.Result)
	return e.Outcome == history.OutcomeRefused && res != nil && res.Refused == bundle.RefusedBefore
}

// lastTry is the end of a host that is not tried again in this run.
func (d *Deployer) lastTry(p *Plan, hp *HostPlan, e history.End) history.End {
	restFailed := hp.held != nil && e.State == history.RolledBack
	if restFailed {
		return d.wentBack(p, hp, e, true)
	}
	return e
}

// pushOnce is one try.
func (d *Deployer) pushOnce(ctx context.Context, r *run, p *Plan, t try) (e history.End, open bool) {
	j := d.job(ctx, r, p, t.hp)
	j.Clock = t.clock
	origins := t.hp.held.recorded(r.head.Commit)
	j.Origins = origins
	for _, o := range origins {
		j.Said = append(j.Said, o.Service, o.Commit)
	}
	j.OnBegin = func() error {
		return d.History.BegunAs(ctx, history.Begin{Run: r.head.ID, As: t.as, Host: t.hp.Name, Digest: t.hp.bundle.Digest, Origins: t.hp.held.kept()})
	}
	if t.as != "" {
		j.Run, j.After = t.as, r.head.ID
	}

	e, open = d.outcome(r.head.ID, t.hp, d.pusher().Push(ctx, j))
	e.Digest = t.hp.bundle.Digest
	if t.hp.held != nil {
		d.heldBack(p, t.hp, &e)
	}
	if e.Stood() {
		e.Mended = d.mended(t.hp)
	}
	return e, open
}

// kept are the origins of the services that stay as they were; none for a whole bundle.
func (is *isolation) kept() []bundle.Origin {
	if is == nil {
		return nil
	}
	return is.origins()
}

// heldBack makes e the end of a push of a composed bundle.
func (d *Deployer) heldBack(p *Plan, hp *HostPlan, e *history.End) {
	e.Whole = hp.held.whole.Digest
	if !e.Stood() {
		return
	}
	e.Outcome, e.Origins = history.OutcomeHeldBack, hp.held.origins()
	e.Services = hp.held.services(p.Snapshot.Commit)
	e.Error = hp.held.why() + "\n" + again
}

// withoutFailing is the plan of a host without the services that a push was undone for; nil when they
// are not known, or the bundle is not to be divided.
func (d *Deployer) withoutFailing(ctx context.Context, p *Plan, hp *HostPlan, e history.End) *HostPlan {
	res, _ := e.Details.(*bundle.Result)
	isUndone := e.Outcome == history.OutcomeRolledBack && res != nil && !res.CutOff
	isUndone = isUndone || stepFailed(e)
	if !isUndone || !p.Fleet.Isolate {
		return nil
	}

	whole, failing := hp.bundle, map[string]string{}
	if hp.held != nil {
		whole = hp.held.whole
		for service, why := range hp.held.failing {
			failing[service] = why
		}
	}
	known := whole.ServiceNames()
	before := len(failing)
	for _, service := range res.Failing { // the host's words choose among ours
		if slices.Contains(known, service) && !hp.held.holds(service) {
			failing[service] = res.Error
		}
	}
	if len(failing) == before {
		return nil
	}

	past := d.archive()
	good, err := past.standing(ctx, hp.last, hp.elsewhere)
	if err != nil {
		d.log().Error("read what the host holds", "host", hp.Name, "err", err)
	}
	if good == nil || e.Record != nil && e.Record.Generation > 0 && e.Record.Digest != good.digest {
		return nil // what stands there is not what is remembered
	}

	next := *hp
	next.held = past.isolate(ctx, whole, good, failing)
	next.bundle = next.held.bundle
	return &next
}

// rememberFailed remembers the services that failed in this try, before another one is begun.
func (d *Deployer) rememberFailed(r *run, hp *HostPlan, e *history.End, next *HostPlan) {
	whole := &next.held.whole.Manifest
	for service, why := range next.held.failing {
		isNew := hp.held == nil || hp.held.failing[service] == ""
		if isNew {
			e.FailedServices = append(e.FailedServices, history.FailedService{Service: service, Digest: bundle.ServiceDigest(whole, service), Run: r.head.ID, Error: why})
		}
	}
	slices.SortFunc(e.FailedServices, func(a, b history.FailedService) int { return strings.Compare(a.Service, b.Service) })

	if err := d.History.ServicesFailed(context.Background(), r.head.ID, hp.Name, e.FailedServices); err != nil {
		d.log().Error("remember failed services", "host", hp.Name, "err", err)
	}
}

// mended are the services that are remembered as failed by the digest that stands now.
func (d *Deployer) mended(hp *HostPlan) []history.FailedService {
	var all []history.FailedService
	for _, f := range d.hosts.failedServices(hp.Name) {
		if !hp.held.holds(f.Service) && bundle.ServiceDigest(&hp.bundle.Manifest, f.Service) == f.Digest {
			all = append(all, f)
		}
	}
	return all
}

// wentBack is the end of a host that stands as it did before the run: nothing is left to bring without
// the services that failed, or what was left failed too.
func (d *Deployer) wentBack(p *Plan, next *HostPlan, e history.End, tried bool) history.End {
	is := next.held
	e.Outcome, e.State = history.OutcomeRolledBack, history.RolledBack
	e.Whole, e.Digest, e.Remember = is.whole.Digest, is.whole.Digest, true
	e.Services = is.failed()
	if is.bringsNothing() && is.standsComposed() {
		e.State, e.Remember = history.HeldBack, false // the others are at the commit already
		e.Services = is.services(p.Snapshot.Commit)
	}
	if tried {
		e.Error = "the other services could not be brought without " + strings.Join(is.failingNames(), ", ") + ": " + e.Error
	}
	return e
}

func (is *isolation) failingNames() []string {
	var names []string
	for _, h := range is.held {
		if h.With == "" {
			names = append(names, h.Name)
		}
	}
	return names
}

// tells says that a host is pushed again.
func (hp *HostPlan) tells() string {
	names := hp.held.failingNames()
	return fmt.Sprintf("%s %s failed and %s as before; the others are brought without", plural(len(names), "service"), strings.Join(names, ", "), verb(len(names), "stay"))
}

// afterTries is the end of a host after another try: what was seen of the tries before is kept.
func afterTries(before, e history.End) history.End {
	e.FailedServices = slices.Concat(before.FailedServices, e.FailedServices)
	was, _ := before.Details.(*bundle.Result)
	if was == nil {
		return e
	}

	now, _ := e.Details.(*bundle.Result)
	if now == nil {
		now = &bundle.Result{Run: was.Run, Outcome: was.Outcome}
	}
	both := *now
	both.Evidence = slices.Concat(was.Evidence, now.Evidence)
	both.Failing = slices.Compact(slices.Sorted(slices.Values(slices.Concat(was.Failing, now.Failing))))
	both.Warnings = slices.Concat(was.Warnings, now.Warnings)
	e.Details = &both
	e.Error = cmp.Or(e.Error, before.Error)
	return e
}

// settleServices completes the end of a run that an earlier process left open: what it was composed of,
// and which services it was undone for. The rest is brought without those by the next run.
func (d *Deployer) settleServices(ctx context.Context, o history.Interrupted, res *bundle.Result, e *history.End) {
	past := d.archive()
	if e.Stood() && len(o.Origins) > 0 {
		g := history.Generation{Digest: o.Digest, Commit: o.Commit, Origins: o.Origins}
		e.Outcome, e.Origins = history.OutcomeHeldBack, o.Origins
		b, err := past.composedAt(ctx, o.Host, g)
		if err != nil {
			d.log().Warn("a composed bundle can't be made again", "host", o.Host, "commit", o.Commit, "err", err)
			return
		}
		e.Manifest, e.Whole = &b.Manifest, b.Wanted()
		return
	}

	isUndone := (e.State == history.RolledBack || stepFailed(*e)) && len(res.Failing) > 0
	if !isUndone {
		return
	}
	f, err := past.fleetAt(ctx, o.Commit)
	if err != nil || !f.Isolate {
		return
	}
	whole, err := f.Partial(o.Host)
	if err != nil {
		return
	}
	for _, service := range whole.ServiceNames() {
		if slices.Contains(res.Failing, service) {
			e.FailedServices = append(e.FailedServices, history.FailedService{Service: service, Digest: bundle.ServiceDigest(&whole.Manifest, service), Run: o.Run, Error: res.Error})
		}
	}
	if len(e.FailedServices) > 0 {
		e.State, e.Remember = history.Behind, false
	}
}
