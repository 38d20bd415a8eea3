package look

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/host/containers"
)

// stacksDeadline is how long the engine may take to say how containers do.
const stacksDeadline = 30 * time.Second

// stacks looks how the containers of compose services do. Each counts as a unit. An engine that does not
// answer is told by its own unit, and by those that need it.
func (l *looker) stacks() error {
	ctx, cancel := context.WithTimeout(l.ctx, stacksDeadline)
	defer cancel()

	e := containers.Engine{Programs: l.m.Programs}
	for i := range l.now.Manifest.Services {
		s := &l.now.Manifest.Services[i]
		if s.Compose == nil || slices.ContainsFunc(l.seen.FailedUnits, func(u bundle.FailedUnit) bool { return u.Name == s.Name+".service" }) {
			continue
		}
		states, err := e.Containers(ctx, s.Compose.Project)
		if err != nil {
			l.drift(bundle.KindContainer, s.Name, bundle.DriftMissing)
			continue
		}
		for c := range s.Compose.Containers {
			l.container(s.Name, &s.Compose.Containers[c], states)
		}
	}

	slices.SortFunc(l.seen.FailedUnits, func(a, b bundle.FailedUnit) int { return strings.Compare(a.Name, b.Name) })
	return nil
}

// container compares one container with what it should be.
func (l *looker) container(service string, want *bundle.Container, states []containers.State) {
	if want.Idle {
		return
	}
	name := containers.ContainerName(service, want.Name)
	found := false
	for _, s := range states {
		if s.Service != want.Name {
			continue
		}
		found = true
		active := "inactive"
		switch {
		case s.Health == "unhealthy", s.Status == "restarting":
			active = "failed"
			l.failedContainer(name, &s)
		case s.Runs():
			active = "active"
			l.seen.Running++
		case want.Once && s.Status == "exited" && s.Exit == 0:
		case s.StoppedByHand(want.Once):
			l.drift(bundle.KindContainer, name, bundle.DriftStopped)
		default:
			active = "failed"
			l.failedContainer(name, &s)
		}
		l.seen.Units = append(l.seen.Units, bundle.UnitSeen{Name: name, Active: active, Sub: cmp.Or(s.Health, s.Status)})
	}
	if !found {
		l.drift(bundle.KindContainer, name, bundle.DriftMissing)
		l.seen.Units = append(l.seen.Units, bundle.UnitSeen{Name: name, Active: bundle.DriftMissing})
	}
}

// failedContainer tells of a container as of a unit that failed.
func (l *looker) failedContainer(name string, s *containers.State) {
	result := s.Status
	switch {
	case s.OOM:
		result = "oom-kill"
	case s.Health == "unhealthy":
		result = s.Health
	}

	failed := bundle.FailedUnit{Name: name, Result: result, Since: max(s.Finished.Unix(), 0)}
	l.seen.FailedUnits = append(l.seen.FailedUnits, failed)
}
