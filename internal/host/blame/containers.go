package blame

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/host/containers"
)

// Containers is the error of containers of host that failed, with what they wrote last since a moment.
func Containers(ctx context.Context, e containers.Engine, since time.Time, host string, failures []containers.Failure) *Error {
	due := &Error{}
	seen := &Gatherer{}
	var errs []error
	for _, f := range failures {
		errs = append(errs, f.Err)
		if !slices.Contains(due.Services, f.Service) {
			due.Services = append(due.Services, f.Service)
		}

		one := bundle.Evidence{Service: f.Service, Unit: f.Name, Result: f.State.Status, Exit: f.State.Exit, Why: f.Err.Error()}
		seen.Put(one, e.Logs(ctx, f.State.ID, since, MostLines))
	}

	errs = append(errs, fmt.Errorf("what it said: bellhop logs %s %s", host, failures[0].Service))
	due.Err, due.Evidence = errors.Join(errs...), seen.All
	return due
}

// Project adds the containers of a compose project of a service that failed since a moment, with what they wrote: where one waits for
// another that fails, compose says which, and not why. An engine that can't be asked adds none.
func (e *Gatherer) Project(ctx context.Context, engine containers.Engine, since time.Time, service, project string) {
	now, err := engine.Containers(ctx, project)
	if err != nil {
		return
	}

	for i := range now {
		s := &now[i]
		why := s.FailedSince(since)
		if why == nil {
			continue
		}
		name := containers.ContainerName(service, s.Service)
		one := bundle.Evidence{Service: service, Unit: name, Result: s.Status, Exit: s.Exit, Why: whyOf(fmt.Errorf("container %s %w", name, why))}
		e.Put(one, engine.Logs(ctx, s.ID, since, MostLines))
	}
}
