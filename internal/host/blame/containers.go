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
