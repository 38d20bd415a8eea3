package deploy

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
	"bellhop/internal/plain"
)

// One bad service does not hold back the others of its host. When a push is undone and the services
// that it is due to are known, or when a service can't be made at all, the host gets a composed bundle:
// what the head has of the others, and of those exactly what the last good generation holds. What
// failed is remembered by host and service digest, and not tried again until that changes or a person
// asks for it.

// maxAgain is how many more times a host is pushed in one run after services of it failed.
const maxAgain = 2

// An isolation is a composed bundle for a host, and why it is composed.
type isolation struct {
	whole   *fleet.Bundle     // what is wanted; partial where services can't be made
	good    *commits.Standing // what the services that stay are taken from
	failing map[string]string // services that failed or can't be made, and why
	held    []bundle.HeldService
	bundle  *fleet.Bundle // composed
}

// isolate composes a bundle for a host without the failing services, which stay as good has them.
func isolate(ctx context.Context, a commits.Archive, whole *fleet.Bundle, good *commits.Standing, failing map[string]string) *isolation {
	c := bundle.Compose(whole.Manifest, good.Manifest, slices.Sorted(maps.Keys(failing)))
	is := &isolation{whole: whole, good: good, failing: failing, held: c.Held}
	is.bundle = whole.Composed(c.Manifest, is.names(), a.Older(ctx, whole.Host, is.origins()))
	return is
}

// names are the services that stay as they were, by name.
func (is *isolation) names() []string {
	var names []string
	for _, h := range is.held {
		names = append(names, h.Name)
	}
	return names
}

// holds says whether a service stays as it was. A nil isolation holds none.
func (is *isolation) holds(service string) bool {
	return is != nil && slices.ContainsFunc(is.held, func(h bundle.HeldService) bool { return h.Name == service })
}

// origins are the commits of the services that stay; "" for one that was never there.
func (is *isolation) origins() []bundle.Origin {
	var all []bundle.Origin
	for _, h := range is.held {
		all = append(all, bundle.Origin{Service: h.Name, Commit: is.good.CommitOf(h.Name)})
	}
	return all
}

// recorded are the commits of all services of the bundle, for the record of the host. commit is that
// of the head.
func (is *isolation) recorded(commit string) []bundle.Origin {
	if is == nil {
		return nil
	}

	all := slices.DeleteFunc(is.origins(), func(o bundle.Origin) bool { return o.Commit == "" })
	for _, s := range is.bundle.ServiceNames() {
		if !is.holds(s) {
			all = append(all, bundle.Origin{Service: s, Commit: commit})
		}
	}
	slices.SortFunc(all, func(a, b bundle.Origin) int { return strings.Compare(a.Service, b.Service) })
	return all
}

// bringsNothing says that the composed bundle is what stands: nothing of the head is left to bring.
func (is *isolation) bringsNothing() bool {
	if is.good.Digest == "" {
		return is.bundle.Empty()
	}
	return is.bundle.Digest == is.good.Digest
}

// standsComposed says whether the host holds a composed bundle already.
func (is *isolation) standsComposed() bool { return len(is.good.Origins) > 0 }

// why says what is held back, why, and what to type.
func (is *isolation) why() string {
	var lines []string
	for _, h := range is.held {
		at := "is not on the host"
		if c := is.good.CommitOf(h.Name); c != "" {
			at = "stays at " + plain.Short(c)
		}
		if h.With != "" {
			lines = append(lines, fmt.Sprintf("service %s %s: it shares %s with %s", h.Name, at, h.By, h.With))
			continue
		}
		lines = append(lines, fmt.Sprintf("service %s %s: %s", h.Name, at, is.failing[h.Name]))
	}

	slices.SortStableFunc(lines, func(a, b string) int {
		return cmp.Compare(strings.Count(a, ": it shares "), strings.Count(b, ": it shares "))
	})
	return strings.Join(lines, "\n")
}

// again is what to do once the cause is gone.
const again = "it comes with the next change of it, or with: bellhop deploy --retry"

// services is how the services of a host stand that holds the composed bundle. commit is that of the
// head.
func (is *isolation) services(commit string) []history.ServiceStatus {
	var all []history.ServiceStatus
	for _, h := range is.held {
		all = append(all, is.heldStatus(h, history.ServiceHeld))
	}
	for _, s := range is.bundle.ServiceNames() {
		if !is.holds(s) {
			all = append(all, history.NewServiceStatus(s, commit, history.ServiceCurrent, ""))
		}
	}
	slices.SortFunc(all, func(a, b history.ServiceStatus) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// failed is how the services that fail stand on a host that went back as a whole.
func (is *isolation) failed() []history.ServiceStatus {
	var all []history.ServiceStatus
	for _, h := range is.held {
		if h.With == "" {
			all = append(all, is.heldStatus(h, history.ServiceFailed))
		}
	}
	return all
}

func (is *isolation) heldStatus(h bundle.HeldService, state history.State) history.ServiceStatus {
	why := is.failing[h.Name]
	if h.With != "" {
		why = fmt.Sprintf("it shares %s with %s", h.By, h.With)
	}
	return history.NewServiceStatus(h.Name, is.good.CommitOf(h.Name), state, why)
}

// isolated is what a host is to hold where services of it failed before, or can't be made; nil where
// all of the head is to be tried. It is called under steps.
func (d maker) isolated(ctx context.Context, p *Plan, w *wanted, last history.Host) (*isolation, error) {
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
	retry := p.chose(w.host.Name) && p.req.Retry
	elsewhere := last.Reach.Elsewhere(routes.Reach(w.host))
	if !retry && !elsewhere {
		for _, f := range d.hosts.FailedServices(w.host.Name) {
			if bundle.ServiceDigest(&whole.Manifest, f.Service) == f.Digest {
				failing[f.Service] = f.Error
			}
		}
	}
	if len(failing) == 0 {
		return nil, nil
	}

	past := d.archive
	good, err := past.Standing(ctx, last, elsewhere)
	if good == nil || err != nil {
		return nil, err
	}
	return isolate(ctx, past, whole, good, failing), nil
}

// rest is how a host stands to which nothing is left to bring without the failing services.
func (hp *HostPlan) rest(p *Plan) {
	is := hp.held
	switch {
	case hp.last.State == history.HeldBack || is.standsComposed() || hp.last.Digest != is.good.Digest:
		hp.State, hp.services = history.HeldBack, is.services(p.Snapshot.Commit)
	case len(is.whole.Broken()) > 0:
		hp.State, hp.services = history.Refused, is.failed()
	default:
		hp.State, hp.services = history.RolledBack, is.failed()
	}

	hp.Error = is.why()
	if hp.State != history.Refused {
		hp.Error += "\n" + again
	}
}

// tells says that a host is pushed again.
func (hp *HostPlan) tells() string {
	names := hp.held.failingNames()
	return fmt.Sprintf("%s %s failed and %s as before; the others are brought without", plural(len(names), "service"), strings.Join(names, ", "), verb(len(names), "stay"))
}

// kept are the origins of the services that stay as they were; none for a whole bundle.
func (is *isolation) kept() []bundle.Origin {
	if is == nil {
		return nil
	}
	return is.origins()
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

// untried says that the composed bundle is not tried, since it failed before as f.
func (is *isolation) untried(f history.Failure) string {
	return fmt.Sprintf("what is left without %s failed here before: %s", strings.Join(is.failingNames(), ", "), f.Error)
}
