// Package quadlets holds the images that quadlets of podman run, for runs that go back and for rollbacks.
//
// Containers of quadlets are systemd's to start and stop. Their images are held as those of compose projects are: the
// journal knows which image each ran, names of images mean again what they meant when a run goes back, and those of kept
// generations have a name that "podman image prune" does not remove.
package quadlets

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/host/containers"
	"bellhop/internal/host/plan"
	"bellhop/internal/host/stacks"
	"bellhop/internal/host/state"
)

// askTime is how long podman may take for all that is asked of it at once.
const askTime = time.Minute

// Images are those of the units of quadlets that a run touches.
type Images struct {
	engine  containers.Engine
	service map[string]string // of the bundle, by unit
	stays   map[string]bool   // units of the host's next manifest
	old     *state.Generation
	were    []state.StackWas
	warn    func(format string, args ...any)
}

// Touched are the images of the units that the run of w starts anew, brings or takes away.
func Touched(m state.Dir, w *plan.Plan, warn func(format string, args ...any)) *Images {
	q := &Images{engine: containers.Engine{Programs: m.Programs, Name: containers.Podman}, service: map[string]string{}, stays: map[string]bool{}, old: &w.Old, warn: warn}
	for _, u := range w.Offer.Manifest.Units {
		q.stays[u.Name] = true
		acts := u.Action(func(thing string) bool { return w.Changed[thing] }) != "" || slices.Contains(w.Units.Start, u.Name)
		if acts && hasContainers(&u) && !w.Holds(u.Service) {
			q.service[u.Name] = u.Service
		}
	}
	for _, u := range w.Old.Manifest.Units {
		if !q.stays[u.Name] && hasContainers(&u) && !w.Holds(u.Service) {
			q.service[u.Name] = u.Service
		}
	}

	if len(q.service) > 0 && (m.Programs == nil || !m.Accounts.Command(containers.Podman)) {
		q.service = nil
	}
	return q
}

// hasContainers says that a unit is one of a quadlet that runs containers.
func hasContainers(u *bundle.Unit) bool {
	return slices.ContainsFunc(u.Files, func(f string) bool {
		name, below := strings.CutPrefix(f, bundle.QuadletDir+"/")
		kind := path.Ext(name)
		return below && (kind == ".container" || kind == ".kube")
	})
}

func (q *Images) units() []string { return slices.Sorted(maps.Keys(q.service)) }

// Look asks what the units run, while all of them do. A podman that does not tell is warned about: what
// is to be deployed hangs on the units alone.
func (q *Images) Look(ctx context.Context) {
	hadSome := slices.ContainsFunc(q.old.Manifest.Units, func(u bundle.Unit) bool { return q.service[u.Name] != "" })
	if !hadSome {
		return
	}

	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	now, err := q.engine.OfUnits(ctx, q.units())
	if err != nil {
		q.warn("which images quadlets ran is not known, so they may be pruned: %v", err)
		return
	}

	of := map[string][]state.ContainerWas{}
	for _, c := range now {
		s := q.service[c.UnitName()]
		of[s] = append(of[s], state.ContainerWas{Name: c.Service, ID: c.ID, Image: c.Image, Ref: c.Ref, Ran: c.Runs()})
	}

	for _, s := range slices.Sorted(maps.Keys(of)) {
		q.were = append(q.were, state.StackWas{Service: s, Containers: of[s]})
	}
}

// Were is what the units ran, by service, for the journal.
func (q *Images) Were() []state.StackWas {
	if q == nil {
		return nil
	}
	return q.were
}

// Former has the names of images mean what they meant in the newest kept generation of a bundle, and returns what of
// wanted is still to be pulled. It is for a person who goes back: a registry gives the newest image of a name.
func (q *Images) Former(ctx context.Context, m state.Dir, digest string, wanted []containers.Image) ([]containers.Image, error) {
	ran, err := m.ImagesOf(digest)
	if err != nil || len(q.service) == 0 {
		return wanted, err
	}

	back := map[string]bool{}
	for _, i := range ran {
		c := containers.State{Service: i.Container}
		isUsed := i.Engine == containers.Podman && q.service[c.UnitName()] == i.Service
		if !isUsed || containers.IsPinned(i.Ref) {
			continue
		}

		id, err := q.engine.ImageID(ctx, i.ID)
		if err != nil {
			return nil, err
		}
		if id == "" {
			continue // somebody pruned it
		}
		if err := q.engine.Tag(ctx, i.ID, i.Ref); err != nil {
			return nil, err
		}

		back[i.Ref] = true
	}

	return slices.DeleteFunc(wanted, func(i containers.Image) bool { return i.Engine == containers.Podman && back[i.Ref] }), nil
}

// Keep gives the images that units are about to leave a name of the generation that stands.
func (q *Images) Keep(ctx context.Context) {
	for _, s := range q.were {
		for _, c := range s.Containers {
			if err := q.engine.Tag(ctx, c.Image, containers.KeepRef(s.Service, c.Name, q.old.Generation)); err != nil {
				q.warn("service %s: its former images may be pruned: %v", s.Service, err)
			}
		}
	}
}

// Ran are the images that all units of quadlets run when the run is done: the units that it touched are asked for.
func (q *Images) Ran(ctx context.Context) (all []state.ImageRan) {
	if q == nil {
		return nil
	}

	for _, i := range q.old.Images {
		c := containers.State{Service: i.Container}
		_, isTouched := q.service[c.UnitName()]
		if i.Engine == containers.Podman && !isTouched && q.stays[c.UnitName()] {
			all = append(all, i)
		}
	}

	if len(q.service) == 0 {
		return all
	}

	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	now, err := q.engine.OfUnits(ctx, slices.DeleteFunc(q.units(), func(u string) bool { return !q.stays[u] }))
	var images []containers.Ran
	if err == nil {
		images, err = q.engine.ImagesRun(ctx, now)
	}
	if err != nil {
		q.warn("which images quadlets run is not recorded: %v", err)
	}

	for _, i := range images {
		c := containers.State{Service: i.Container}
		all = append(all, state.ImageRan{Service: q.service[c.UnitName()], Engine: containers.Podman, Container: i.Container, Ref: i.Ref, ID: i.ID, Digest: i.Digest})
	}

	return all
}

// Tidy drops the names of images that no kept generation needs. generation is the one that stands.
func (q *Images) Tidy(generation int64) (warnings []string) {
	if q == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), askTime)
	defer cancel()
	for _, s := range slices.Compact(slices.Sorted(maps.Values(q.service))) {
		if err := q.engine.DropKept(ctx, s, generation-state.KeptGenerations); err != nil {
			warnings = append(warnings, fmt.Sprintf("service %s: names of old images stay: %v", s, err))
		}
	}
	return warnings
}

// TagBack has the names of images mean again what they meant before a run. It comes before units are started again.
func TagBack(ctx context.Context, m state.Dir, were []state.StackWas) error {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	e := containers.Engine{Programs: m.Programs, Name: containers.Podman}
	var errs []error
	for i := range were {
		if err := stacks.TagBack(ctx, e, &were[i]); err != nil {
			errs = append(errs, fmt.Errorf("service %s: names of images that were pulled may stay moved: %w", were[i].Service, err))
		}
	}
	return errors.Join(errs...)
}
