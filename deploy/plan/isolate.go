package plan

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"bellhop/deploy/commits"
	"bellhop/deploy/routes"
	"bellhop/internal/bundle"
	"bellhop/internal/fleet"
	"bellhop/internal/history"
	"bellhop/internal/history/services"
	"bellhop/internal/plain"
)

// One bad service does not hold back the others of its host. When a push is undone and the services
// that it is due to are known, or when a service can't be made at all, the host gets a composed bundle:
// what the head has of the others, and of those exactly what the last good generation holds. What
// failed is remembered by host and service digest, and not tried again until that changes or a person
// asks for it.

// MaxAgain is how many more times a host is pushed in one run after services of it failed.
const MaxAgain = 2

// An Isolation is a composed bundle for a host, and why it is composed.
type Isolation struct {
	Whole    *fleet.Bundle     // what is wanted; partial where services can't be made
	lastGood *commits.LastGood // what the services that stay are taken from
	Failing  map[string]string // services that failed or can't be made, and why
	held     []bundle.HeldService
	Bundle   *fleet.Bundle // composed
}

// Isolate composes a bundle for a host without the failing services, which stay as good has them.
func Isolate(ctx context.Context, a commits.Archive, whole *fleet.Bundle, good *commits.LastGood, failing map[string]string) *Isolation {
	c := bundle.Compose(whole.Manifest, good.Manifest, slices.Sorted(maps.Keys(failing)))
	is := &Isolation{Whole: whole, lastGood: good, Failing: failing, held: c.Held}
	is.Bundle = whole.Composed(c.Manifest, is.Names(), a.Older(ctx, whole.Host, is.Origins()))
	return is
}

// Names are the services that stay as they were, by name; none for a whole bundle.
func (is *Isolation) Names() []string {
	if is == nil {
		return nil
	}

	var names []string
	for _, h := range is.held {
		names = append(names, h.Name)
	}
	return names
}

// Holds says whether a service stays as it was. A nil Isolation holds none.
func (is *Isolation) Holds(service string) bool {
	return is != nil && slices.ContainsFunc(is.held, func(h bundle.HeldService) bool { return h.Name == service })
}

// Origins are the commits of the services that stay; "" for one that was never there.
func (is *Isolation) Origins() []bundle.Origin {
	var all []bundle.Origin
	for _, h := range is.held {
		all = append(all, bundle.Origin{Service: h.Name, Commit: is.lastGood.CommitOf(h.Name)})
	}
	return all
}

// recorded are the commits of all services of the bundle, for the record of the host. commit is that
// of the head.
func (is *Isolation) recorded(commit string) []bundle.Origin {
	if is == nil {
		return nil
	}

	all := slices.DeleteFunc(is.Origins(), func(o bundle.Origin) bool { return o.Commit == "" })
	for _, s := range is.Bundle.ServiceNames() {
		if !is.Holds(s) {
			all = append(all, bundle.Origin{Service: s, Commit: commit})
		}
	}
	slices.SortFunc(all, func(a, b bundle.Origin) int { return strings.Compare(a.Service, b.Service) })
	return all
}

// BringsNothing says that the composed bundle is what stands: nothing of the head is left to bring.
func (is *Isolation) BringsNothing() bool {
	if is.lastGood.Digest == "" {
		return is.Bundle.Empty()
	}
	return is.Bundle.Digest == is.lastGood.Digest
}

// WhyNothing says why nothing is done on a host of which it is not known what it holds: what stays there can't
// be said.
func (is *Isolation) WhyNothing() string {
	var lines []string
	for _, name := range is.FailingNames() {
		lines = append(lines, fmt.Sprintf("service %s: %s", name, is.Failing[name]))
	}
	return strings.Join(lines, "\n") + "\nnothing was touched: without it, what the host holds of it would have to stay, and this deployer does not know that generation"
}

// HoldsComposed says whether the host holds a composed bundle already.
func (is *Isolation) HoldsComposed() bool { return len(is.lastGood.Origins) > 0 }

// Why says what is held back, why, and what to type.
func (is *Isolation) Why() string {
	var lines []string
	for _, h := range is.held {
		at := "is not on the host"
		if c := is.lastGood.CommitOf(h.Name); c != "" {
			at = "stays at " + plain.Short(c)
		}
		if h.With != "" {
			lines = append(lines, fmt.Sprintf("service %s %s: it shares %s with %s", h.Name, at, h.By, h.With))
			continue
		}
		lines = append(lines, fmt.Sprintf("service %s %s: %s", h.Name, at, is.Failing[h.Name]))
	}

	slices.SortStableFunc(lines, func(a, b string) int {
		return cmp.Compare(strings.Count(a, ": it shares "), strings.Count(b, ": it shares "))
	})
	return strings.Join(lines, "\n")
}

// Again is what to do once the cause is gone.
const Again = "it comes with the next change of it, or with: bellhop deploy --retry"

// Services is how the services of a host stand that holds the composed bundle. commit is that of the
// head.
func (is *Isolation) Services(commit string) []services.Status {
	var all []services.Status
	for _, h := range is.held {
		all = append(all, is.heldStatus(h, services.Held))
	}
	for _, s := range is.Bundle.ServiceNames() {
		if !is.Holds(s) {
			all = append(all, services.New(s, commit, services.Current, ""))
		}
	}
	slices.SortFunc(all, func(a, b services.Status) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// Failed is how the services that fail stand on a host that went back as a whole. On one that holds a
// composed generation the others are not all at one commit, and are told too.
func (is *Isolation) Failed() []services.Status {
	all := slices.DeleteFunc(is.onHost(), func(s services.Status) bool { return is.Failing[s.Name] != "" })
	for _, h := range is.held {
		if h.With == "" {
			all = append(all, is.heldStatus(h, services.Failed))
		}
	}
	slices.SortFunc(all, func(a, b services.Status) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// onHost is how the services of a host stand that holds a composed generation; none on any other.
func (is *Isolation) onHost() []services.Status {
	if !is.HoldsComposed() {
		return nil
	}

	all := services.Kept(is.lastGood.Origins)
	for _, name := range is.lastGood.Manifest.ServiceNames() {
		isKept := slices.ContainsFunc(is.lastGood.Origins, func(o bundle.Origin) bool { return o.Service == name })
		if !isKept {
			all = append(all, services.New(name, is.lastGood.CommitOf(name), services.Current, ""))
		}
	}
	return all
}

func (is *Isolation) heldStatus(h bundle.HeldService, state services.State) services.Status {
	why := is.Failing[h.Name]
	if h.With != "" {
		why = fmt.Sprintf("it shares %s with %s", h.By, h.With)
	}
	return services.New(h.Name, is.lastGood.CommitOf(h.Name), state, why)
}

// isolated is what a host is to hold where services of it failed before, or can't be made; nil where
// all of the head is to be tried. It is called under steps.
func (d Comparer) isolated(ctx context.Context, p *Plan, w *wanted, last history.Host) (*Isolation, error) {
	whole := w.bundle
	if w.err != nil {
		whole = w.partial
	}
	if whole == nil || !p.Fleet.Isolate {
		return nil, nil
	}

	failing := map[string]string{}
	if w.err != nil {
		for service, problems := range whole.Broken() {
			failing[service] = problems.Error()
		}
	}
	retry := p.Chose(w.host.Name) && p.Request.Retry
	elsewhere := last.Reach.Elsewhere(routes.Reach(w.host))
	if !retry && !elsewhere {
		maps.Copy(failing, tooOld(whole, last))
		for _, f := range d.Hosts.FailedServices(w.host.Name) {
			if bundle.ServiceDigest(&whole.Manifest, f.Service) == f.Digest {
				failing[f.Service] = f.Error
			}
		}
	}
	if len(failing) == 0 {
		return nil, nil
	}

	past := d.Archive
	good, err := past.LastGood(ctx, last, elsewhere)
	if good == nil || err != nil {
		return nil, err
	}
	return Isolate(ctx, past, whole, good, failing), nil
}

// withoutFailing is how a host stands to which nothing is left to bring without the failing services.
func (hp *HostPlan) withoutFailing(p *Plan) {
	is := hp.Isolation
	switch {
	case hp.Last.State == history.HeldBack || is.HoldsComposed() || hp.Last.Digest != is.lastGood.Digest:
		hp.State, hp.services = history.HeldBack, is.Services(p.Snapshot.Commit)
	case len(is.Whole.Broken())+len(tooOld(is.Whole, hp.Last)) > 0:
		hp.State, hp.services = history.Refused, is.Failed()
	default:
		hp.State, hp.services = history.RolledBack, is.Failed()
	}

	hp.Error = is.Why()
	if hp.State != history.Refused {
		hp.Error += "\n" + Again
	}
}

// RetryNote says that a host is pushed again.
func (hp *HostPlan) RetryNote() string {
	names := hp.Isolation.FailingNames()
	return fmt.Sprintf("%s %s failed and %s as before; the others are brought without", plural(len(names), "service"), strings.Join(names, ", "), verb(len(names), "stay"))
}

// Kept are the origins of the services that stay as they were; none for a whole bundle.
func (is *Isolation) Kept() []bundle.Origin {
	if is == nil {
		return nil
	}
	return is.Origins()
}

func (is *Isolation) FailingNames() []string {
	var names []string
	for _, h := range is.held {
		if h.With == "" {
			names = append(names, h.Name)
		}
	}
	return names
}

// WhyUntried says that the composed bundle is not tried, since it failed before as f.
func (is *Isolation) WhyUntried(f history.Failure) string {
	return fmt.Sprintf("what is left without %s failed here before: %s", strings.Join(is.FailingNames(), ", "), f.Error)
}
