package plan

import (
	"context"
	"slices"
	"strings"

	"bellhop/deploy/commits"
	"bellhop/deploy/routes"
	"bellhop/internal/bundle"
	"bellhop/internal/fleet"
	"bellhop/internal/history"
	"bellhop/internal/history/stops"
)

// A host that a person brought back is held: what it is to hold is what the hold names, and no longer what
// the head wants. The hold ends when a person resumes the host, or with a commit that wants something else
// of it than the head did when the hold began. A host that could not be brought back yet, since it was
// away, is brought back by the runs that follow, like any other that waits.

// A heldPlans plans hosts that are held, for one plan.
type heldPlans struct {
	d    Comparer
	p    *Plan
	past *commits.Fleets
}

func (d Comparer) heldPlans(p *Plan) *heldPlans {
	return &heldPlans{d: d, p: p, past: commits.NewFleets(d.Archive)}
}

// endOfHold is why the hold of a host ends with the plan p; "" while it goes on.
func (d Comparer) endOfHold(p *Plan, w *wanted, last history.Host, hold *stops.Hold) string {
	isOther := w.err == nil && w.bundle.Digest != hold.Wanted
	isLookedFor := hold.IsTest() && d.Tests != nil
	switch {
	case last.Reach.Elsewhere(routes.Reach(w.host)):
		return "another machine has its name"
	case isLookedFor:
		return d.Tests.Ended(w.host.Name, hold.Test)
	case p.Request.Resume && p.Chose(w.host.Name):
		return "somebody resumed it"
	case isOther:
		return "this commit changes what it is to hold"
	}
	return ""
}

// one plans a host, which may be held. It is called under steps.
func (h *heldPlans) one(ctx context.Context, w *wanted) (*HostPlan, error) {
	d, p, host := h.d, h.p, w.host.Name
	known, hold, ends := d.factsOf(host, p.Snapshot.Commit), d.History.Holds().Of(host), ""
	test := d.Tests.Of(host)
	if hold != nil {
		ends = d.endOfHold(p, w, known.last, hold)
		isNext := test != nil && hold.IsTest() && (hold.Digest == "" || !isStillMade(test))
		if ends == "" && !isNext {
			return h.plan(ctx, w, known, hold), nil
		}
	}
	if test != nil && !isStillMade(test) {
		hp := h.test(w, known, hold, test)
		if hold.GoesBack() {
			hp.WhyHoldEnds, hp.EndedHold = ends, hold
		}
		return hp, nil
	}

	var err error
	if known.held, err = d.isolated(ctx, p, w, known.last); err != nil {
		return nil, err
	}
	hp := decide(p, w, known)
	if hold != nil {
		hp.WhyHoldEnds, hp.EndedHold = ends, hold
	}
	return hp, nil
}

// plan plans a host that is held and stays so.
func (h *heldPlans) plan(ctx context.Context, w *wanted, known facts, hold *stops.Hold) *HostPlan {
	p, last := h.p, known.last
	hp := &HostPlan{Name: w.host.Name, Host: w.host, Bundle: w.bundle, Last: last, Hold: hold, Units: noUnits()}
	asked := p.Chose(hp.Name) && p.Request.All
	switch {
	case known.pushing:
		hp.State = history.Deploying
		return hp
	case holdsWhat(last, hold) && !asked:
		hp.State = history.Held
		return hp
	}

	b, err := h.past.OfHold(ctx, hp.Name, hold)
	if err != nil {
		hp.State, hp.Error = waiting(last), fleet.ErrorText(err)
		return hp
	}
	known.stopBy(h.d.History.Stops().At(hp.Name), hold.Commit)
	if known.last.Wanted == hold.Wanted { // what it waits for is what the hold names
		known.last.Wanted = hold.Digest
	}

	hp = decide(p, &wanted{host: w.host, bundle: b}, known)
	hp.Hold = hold
	if hp.State == history.Current {
		hp.State, hp.Follows = history.Held, false
	}
	return hp
}

// holdsWhat says that a host holds what its hold names, as far as history knows.
func holdsWhat(last history.Host, hold *stops.Hold) bool {
	isKnown := last.State != history.Unknown && last.State != history.Deploying
	return isKnown && last.Digest != "" && last.Digest == hold.Digest
}

// IsHeld says that the host stays at what a person brought it back to.
func (hp *HostPlan) IsHeld() bool { return hp.Hold != nil && hp.State == history.Held }

// HeldText says who holds the host, and how that ends.
func (hp *HostPlan) HeldText() string {
	return hp.Hold.EndsText(hp.Name)
}

// Commit is that of the bundle of hp, in a run of head.
func (hp *HostPlan) Commit(head string) string {
	if hp.Hold != nil {
		return hp.Hold.Commit
	}
	return head
}

// Recorded are the commits of all services of the bundle, where it is composed, for the record of the
// host. head is the commit of the run.
func (hp *HostPlan) Recorded(head string) []bundle.Origin {
	if hp.Hold == nil || len(hp.Hold.Origins) == 0 {
		return hp.Isolation.recorded(head)
	}

	all := slices.DeleteFunc(slices.Clone(hp.Hold.Origins), func(o bundle.Origin) bool { return o.Commit == "" })
	for _, service := range hp.Bundle.ServiceNames() {
		isThere := slices.ContainsFunc(all, func(o bundle.Origin) bool { return o.Service == service })
		if !isThere {
			all = append(all, bundle.Origin{Service: service, Commit: hp.Hold.Commit})
		}
	}
	slices.SortFunc(all, func(a, b bundle.Origin) int { return strings.Compare(a.Service, b.Service) })
	return all
}
