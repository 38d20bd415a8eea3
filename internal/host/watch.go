package host

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/host/blame"
	"bellhop/internal/host/containers"
	"bellhop/internal/host/health"
)

// startLeft is how much is left of the time that units have to start and settle.
func (r *units) startLeft() time.Duration { return bundle.MaxStart - time.Since(r.starting) }

// health waits until what was started has settled and what can be asked answers well: a job that is
// done is not health.
func (r *run) health(ctx context.Context) error {
	w := r.units.watch()
	if len(w.Units)+len(w.Services)+len(r.stacks) == 0 {
		return nil
	}
	report, err := w.Run(ctx)
	if err != nil {
		return err
	}

	for _, n := range report.Skipped { // its author knows of a host that it is not for
		r.warn("unit %s was not started: a condition of its unit file does not hold", n)
	}
	if len(report.Failures) > 0 {
		return r.units.unhealthy(ctx, report)
	}
	if err := r.stackHealth(ctx); err != nil {
		return err
	}
	return r.units.unitsAfter(ctx, w.Units)
}

// newWatch is a watch over nothing yet.
func (r *units) newWatch() *health.Watch {
	w := &health.Watch{Systemd: r.m.Systemd, Prober: r.m.Prober, Settle: bundle.DefaultSettle, Limit: max(r.startLeft(), time.Second),
		Explain: r.program}
	if r.m.Settle > 0 {
		w.Scale = float64(r.m.Settle) / float64(bundle.DefaultSettle)
	}
	return w
}

// watch is what is watched: each unit that was started, restarted or reloaded, by its own service's
// settle time, and the probes of each service of which anything changed on the host or that has such a
// unit. A change of how a service is judged is brought without asking anything: the next change of the
// service is judged by it.
func (r *units) watch() *health.Watch {
	w := r.newWatch()
	services := map[string]bool{}
	for _, n := range unique(slices.Concat(r.res.Started, r.res.Restarted, r.res.Reloaded)) {
		u := r.watchedUnit(n)
		services[u.Service] = true
		w.Units = append(w.Units, u)
	}
	for _, name := range r.w.TouchedServices() {
		services[name] = services[name] || len(r.offer.Manifest.ServiceOf(name).Probes) > 0
	}
	delete(services, "")

	for _, name := range slices.Sorted(maps.Keys(services)) {
		if services[name] {
			w.Services = append(w.Services, r.judged(name))
		}
	}
	return w
}

// unique are names without those that come again.
func unique(names []string) (out []string) {
	for _, n := range names {
		if !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}

// watchedUnit is a unit as it is watched. What was only reloaded is to run on as before; so is what
// a restart left as it was.
func (r *units) watchedUnit(name string) health.Unit {
	u := health.Unit{Name: name, Service: r.w.ServiceWith(name), Job: r.failed[name], Oneshot: r.oneshot(name)}
	u.Fresh = slices.Contains(r.res.Restarted, name) || !r.w.Units.Before[name].Running()
	wasThere := slices.Contains(r.res.Reloaded, name) || slices.Contains(r.res.Restarted, name)
	if wasThere {
		u.Since = r.w.Units.Before[name].Invocation
	}
	return u
}

// unhealthy is the error of a report that has failures.
func (r *units) unhealthy(ctx context.Context, report *health.Report) error {
	var errs []error
	worst := ""
	e := &blame.Gatherer{Journal: r.m.Journal, Since: r.started}
	for _, f := range report.Failures {
		errs = append(errs, f.Err)
		e.Add(ctx, f)
		if s := r.offer.Manifest.ServiceOf(f.Service); s.Compose != nil && f.Unit == containers.StackUnit(f.Service) {
			e.Project(ctx, containers.Engine{Programs: r.m.Programs}, r.starting, f.Service, s.Compose.Project)
		}

		if worst == "" && f.Unit != "" && !f.Follows {
			worst = f.Unit
		}
	}
	if worst != "" {
		errs = append(errs, fmt.Errorf("what it said: bellhop logs %s %s", r.offer.Manifest.Host, worst))
	}
	return &blame.Error{Err: errors.Join(errs...), Services: report.Failing(), Evidence: e.All}
}

// unitsAfter notes how the units of the bundle do once all have settled, so that nobody has to ask for it in a session
// of its own. Of those that failed meanwhile and that the run did not start, it warns: their files may have changed, as
// those of a service that a timer starts.
func (r *units) unitsAfter(ctx context.Context, watched []health.Unit) error {
	var names []string
	for _, u := range r.offer.Manifest.Units {
		if !isTemplate(u) {
			names = append(names, u.Name)
		}
	}

	states, err := r.m.Glance(ctx, names)
	if err != nil {
		return err
	}

	for _, u := range r.offer.Manifest.Units {
		st, isListed := states[u.Name]
		if !isListed {
			continue
		}

		if !u.KeyUnit {
			r.res.Units = append(r.res.Units, st.Seen(u.Name))
		}

		isWatched := slices.ContainsFunc(watched, func(w health.Unit) bool { return w.Name == u.Name })
		isNew := !isWatched && !u.Foreign && r.w.Units.Before[u.Name].Active != "failed"
		if isNew && st.Active == "failed" {
			r.warn("unit %s failed meanwhile, though this run did not start it: bellhop logs %s %s", u.Name, r.offer.Manifest.Host, u.Name)
		}
	}

	return nil
}

// isTemplate says that instances of a unit run, and not the unit.
func isTemplate(u bundle.Unit) bool { return strings.Contains(u.Name, "@.") }
