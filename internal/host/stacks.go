package host

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/host/blame"
	"bellhop/internal/host/check"
	"bellhop/internal/host/containers"
	"bellhop/internal/host/keyfiles"
	"bellhop/internal/host/machine"
	"bellhop/internal/host/plan"
	"bellhop/internal/host/stacks"
	"bellhop/internal/host/state"
)

// A stack is a compose project that a run touches. All about it is decided while everything runs; its
// unit only starts and stops it as a whole.
type stack struct {
	containers.Stack
	was    *bundle.ComposeProject // nil: it comes with this run
	leaves bool
	now    []containers.State // before the run
	change containers.Change
}

func (r *task) engine() containers.Engine { return containers.Engine{Programs: r.m.Programs} }

// planStacks decides what is done to the containers of each stack that the run touches, and brings or
// builds their images.
func (r *run) planStacks(ctx context.Context) error {
	r.stacks = r.touchedStacks()
	if len(r.stacks) == 0 {
		return nil
	}
	if err := r.checkEngine(ctx); err != nil {
		return err
	}

	scratch := r.m.At(scratchDir)
	if err := os.RemoveAll(scratch); err != nil { // of a run that was killed
		return err
	}
	defer os.RemoveAll(scratch)

	if err := r.awaitStackStarts(ctx); err != nil {
		return err
	}
	for _, s := range r.stacks {
		var err error
		s.now, err = r.engine().Containers(ctx, s.Project)
		if err == nil && !s.leaves {
			err = r.decideStack(ctx, s, scratch)
		}
		if err != nil && !s.leaves { // what leaves may leave an engine that is gone
			return refuseStack(s, err)
		}
	}
	return nil
}

// A unit that is just starting, shortly after a boot, brings up its whole project by the files that stood when it began. What it
// still does to containers after they were listed would be taken for what this run wants. So its end is waited for, within
// the time that a start may take; one that waits for its key has not begun.
const (
	glanceAtStarts = 200 * time.Millisecond
	mostOfStarts   = 2 * time.Minute
)

// awaitStackStarts returns when no unit of the stacks is starting any more.
func (r *run) awaitStackStarts(ctx context.Context) error {
	isStarting := func(s machine.UnitState) bool { return s.Active == "activating" }
	var names []string
	for _, s := range r.stacks {
		if unit := containers.StackUnit(s.Service); isStarting(r.w.Units.Before[unit]) {
			names = append(names, unit)
		}
	}

	for began := time.Now(); len(names) > 0 && time.Since(began) < mostOfStarts; {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(glanceAtStarts):
		}

		states, err := r.m.Systemd.Glance(ctx, names)
		if err != nil {
			return err
		}
		names = slices.DeleteFunc(names, func(n string) bool { return !isStarting(states[n]) })
	}
	return nil
}

func refuseStack(s *stack, err error) error {
	var no *check.Refusal
	if errors.As(err, &no) {
		return err
	}
	return check.RefuseServices([]string{s.Service}, fmt.Errorf("service %s: %w; nothing was touched", s.Service, err))
}

// touchedStacks are those of which anything changes or is to be started, and those that leave.
func (r *run) touchedStacks() (all []*stack) {
	old := stacksOf(&r.w.Old.Manifest)
	next := stacksOf(&r.offer.Manifest)
	touched := r.w.TouchedServices()
	for _, name := range slices.Sorted(maps.Keys(next)) {
		want, was := next[name], old[name]
		starts := slices.Contains(r.w.Units.Start, containers.StackUnit(name))
		isTouched := starts || slices.Contains(touched, name) || !reflect.DeepEqual(want, was)
		if was != nil && was.Project != want.Project {
			was = nil // another project comes, and the former leaves
		}
		if isTouched && !r.w.Holds(name) {
			all = append(all, &stack{Stack: containers.Stack{Service: name, ComposeProject: *want}, was: was})
		}
	}

	for _, name := range slices.Sorted(maps.Keys(old)) {
		leaves := next[name] == nil || next[name].Project != old[name].Project
		if leaves && !r.w.Holds(name) {
			all = append(all, &stack{Stack: containers.Stack{Service: name, ComposeProject: *old[name]}, was: old[name], leaves: true})
		}
	}
	return all
}

// stacksOf are the compose projects of a manifest, by service.
func stacksOf(m *bundle.Manifest) map[string]*bundle.ComposeProject {
	all := map[string]*bundle.ComposeProject{}
	for i := range m.Services {
		if c := m.Services[i].Compose; c != nil {
			all[m.Services[i].Name] = c
		}
	}
	return all
}

// hasProject says whether a service of m runs as that compose project.
func hasProject(m *bundle.Manifest, project string) bool {
	return slices.ContainsFunc(m.Services, func(s bundle.Service) bool { return s.Compose != nil && s.Compose.Project == project })
}

// checkEngine refuses stacks where the host can't run them.
func (r *run) checkEngine(ctx context.Context) error {
	var coming []string
	isNew := false
	for _, s := range r.stacks {
		if !s.leaves {
			coming = append(coming, s.Service)
			isNew = isNew || s.was == nil
		}
	}
	if len(coming) == 0 {
		return nil
	}
	if r.m.Programs == nil || !r.m.Accounts.Command(containers.Docker) {
		return check.RefuseServices(coming, errors.New("this host has no docker, which compose services need: on Debian, apt install docker.io docker-compose"))
	}
	if !isNew {
		return nil // it was asked when the first came
	}

	version, err := r.engine().Version(ctx)
	if err != nil {
		return check.RefuseServices(coming, fmt.Errorf("%w: compose services need it; on Debian, apt install docker-compose", err))
	}
	if containers.Older(version, containers.Floor) {
		r.warn("this host has compose %s: the oldest that bellhop was tried with is %s", version, containers.Floor)
	}
	return nil
}

// decideStack decides about one stack. Where only mounted files change, compose is not asked at all.
func (r *run) decideStack(ctx context.Context, s *stack, scratch string) error {
	facts := containers.Facts{Was: s.was, Want: &s.ComposeProject, Changed: func(thing string) bool { return r.w.Changed[thing] }, Now: s.now}
	if r.definitionChanges(s) {
		if err := r.tryOut(s, scratch); err != nil {
			return err
		}
		rendered, err := r.engine().Render(ctx, &s.Stack, scratch)
		if err != nil {
			return err
		}
		if err := r.checkExternals(ctx, s.Service, rendered.Needs); err != nil {
			return err
		}
		facts.Hashes = rendered.Hashes
		if facts.Images, err = r.stackImages(ctx, s, &facts, scratch); err != nil {
			return err
		}
	}

	s.change = containers.Decide(facts)
	for _, text := range containers.Unforetold(facts, s.change) {
		r.warn("container %s:%s", s.Service, text)
	}
	for _, name := range s.change.Stopped {
		r.w.Units.Drifted = append(r.w.Units.Drifted, containers.ContainerName(s.Service, name))
	}
	return nil
}

// checkExternals fails where a network or volume is not on the host that compose does not make for service, and that no
// other project of the host makes either. What a unit does that is ordered before that of the service is not known:
// it may be there to make them.
func (r *run) checkExternals(ctx context.Context, service string, needs []containers.External) error {
	projects := stacksOf(&r.offer.Manifest)
	isOther := func(unit string) bool { return projects[strings.TrimSuffix(unit, ".service")] == nil }
	if len(needs) > 0 && slices.ContainsFunc(plan.OrderedBefore(r.w, containers.StackUnit(service)), isOther) {
		return nil
	}

	made := map[containers.External]bool{}
	for _, p := range projects {
		for kind, all := range map[string][]bundle.ComposeVolume{"network": p.Networks, "volume": p.Volumes} {
			for _, v := range all {
				if !v.External {
					made[containers.External{Kind: kind, Name: v.Name}] = true
				}
			}
		}
	}

	for _, x := range needs {
		if made[x] {
			continue
		}
		has, err := r.engine().Has(ctx, x)
		if err != nil {
			return err
		}
		if !has {
			return fmt.Errorf("the %s %s is external: and not on this host; make it there with: docker %s create %s", x.Kind, x.Name, x.Kind, x.Name)
		}
	}
	return nil
}

// definitionChanges says that compose has something to read anew.
func (r *run) definitionChanges(s *stack) bool {
	if s.was == nil || !reflect.DeepEqual(*s.was, s.ComposeProject) {
		return true
	}
	paths := slices.Concat(s.Files, s.Env)
	for _, c := range s.Containers {
		paths = append(paths, c.Inputs...)
		if slices.ContainsFunc(c.EnvKeys, func(k string) bool { return r.w.Changed[bundle.KindKey+":"+k] }) {
			return true
		}
	}
	return slices.ContainsFunc(paths, r.changedFile)
}

// tryOut writes the files of a stack below scratch, as they will be.
func (r *run) tryOut(s *stack, scratch string) error {
	if err := os.MkdirAll(scratch+s.Dir, 0o700); err != nil {
		return err
	}
	for _, f := range r.offer.Manifest.Files {
		if f.Service != s.Service {
			continue
		}
		p := scratch + f.Path
		if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(p, s.Tried(f.Path, r.w.BytesOf(f.Digest), scratch), os.FileMode(f.Mode)); err != nil {
			return err
		}
	}
	return r.linkKeys(s, scratch)
}

// linkKeys makes the keys that a stack's variables come from reachable below scratch: those that came
// with this run where they wait, the others where they stand. No value is copied.
func (r *run) linkKeys(s *stack, scratch string) error {
	for _, k := range r.offer.Manifest.Keys {
		if k.Service != s.Service {
			continue
		}
		from := keyfiles.Of(r.m).Now(r.offer.Run, k)
		to := scratch + k.Path
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			return err
		}
		if err := os.Symlink(from, to); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return nil
}

// stackImages brings and builds what the stack runs, and returns the ids of images that may have moved.
func (r *run) stackImages(ctx context.Context, s *stack, facts *containers.Facts, scratch string) (map[string]string, error) {
	var wanted []containers.Image
	var build []string
	var former map[string]bool
	if r.offer.NoBefore { // a person goes back
		var err error
		if former, err = stacks.Former(ctx, r.m, r.engine(), r.offer.Digest, &s.Stack); err != nil {
			return nil, err
		}
	}

	for _, c := range s.Containers {
		switch {
		case c.Idle || former[c.Name]:
		case c.Build:
			if facts.BuildsAnew(&c) {
				build = append(build, c.Name)
			}
		case !s.runsAlready(&c):
			wanted = append(wanted, containers.Image{Engine: containers.Docker, Ref: c.Image, Policy: c.Pull, Service: s.Service})
		}
	}

	logins, err := r.logins(containers.Docker)
	if err != nil {
		return nil, err
	}

	pull := &containers.Puller{Programs: r.m.Programs, Event: r.event, Env: logins}
	if err := refuseImages(pull.Pull(ctx, wanted)); err != nil {
		return nil, err
	}
	if len(build) > 0 {
		r.event("build", fmt.Sprint(build))
		if err := r.engine().Build(ctx, &s.Stack, scratch, logins, build); err != nil {
			return nil, err
		}
	}

	return r.engine().MovedImages(ctx, &s.ComposeProject)
}

// runsAlready says that a container runs the image that it is to run: the host has that.
func (s *stack) runsAlready(c *bundle.Container) bool {
	if c.Pull == containers.PullAlways {
		return false
	}
	return slices.ContainsFunc(s.now, func(n containers.State) bool { return n.Service == c.Name && n.Ref == c.Image })
}

// stacksWere is what the journal needs to bring stacks back.
func (r *run) stacksWere() (all []state.StackWas) {
	for _, s := range r.stacks {
		was := state.StackWas{Service: s.Service, Project: s.Project, Was: s.was, Leaves: s.leaves, Up: s.change.Up, Restart: s.change.Restart}
		for _, c := range s.now {
			was.Containers = append(was.Containers, state.ContainerWas{Name: c.Service, ID: c.ID, Image: c.Image, Ref: c.Ref, Ran: c.Runs()})
		}
		all = append(all, was)
	}
	return all
}

// startStacks does to the containers what was decided. A stack whose unit was just started has been
// brought up whole by that; one that was stopped by hand stays so.
func (r *run) startStacks(ctx context.Context) error {
	for _, s := range r.stacks {
		unit := containers.StackUnit(s.Service)
		if s.leaves || slices.Contains(r.w.Units.StayDown(), unit) {
			continue
		}

		change := s.change
		if wasStarted := slices.Contains(slices.Concat(r.res.Started, r.res.Restarted), unit); wasStarted {
			change.Up, change.Gone = nil, nil
			if len(s.now) == 0 || slices.Contains(r.res.Restarted, unit) || slices.Contains(r.w.Units.Quiet, unit) {
				change.Restart = nil // none ran before
			}
		}
		if change.None() {
			continue
		}

		r.event("containers", change.Text(s.Service))
		if err := r.keepImages(ctx, s); err != nil {
			r.warn("service %s: its former images may be pruned: %v", s.Service, err)
		}
		if err := r.engine().Apply(ctx, &s.Stack, change); err != nil {
			e := &blame.Gatherer{}
			e.Project(ctx, r.engine(), r.units.starting, s.Service, s.Project)
			return &blame.Error{Err: fmt.Errorf("service %s: %w", s.Service, err), Services: []string{s.Service}, Evidence: e.All}
		}
	}
	return nil
}
