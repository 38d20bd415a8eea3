package host

import (
	"errors"
	"fmt"
	"slices"
)

// An error that is due to units or packages is due to their services: those alone are then held back.

// A unitError is what is wrong with one unit.
type unitError struct {
	unit string
	err  error
}

func badUnit(unit, format string, args ...any) error {
	return &unitError{unit, fmt.Errorf("unit "+unit+": "+format, args...)}
}

func (e *unitError) Error() string { return e.err.Error() }

func (e *unitError) Unwrap() error { return e.err }

// dueTo joins errors. Where each is due to a unit of a service, the whole is due to those services.
func (r *task) dueTo(errs []error) error {
	all := errors.Join(errs...)
	if all == nil {
		return nil
	}

	var services []string
	for _, err := range errs {
		var of *unitError
		if !errors.As(err, &of) {
			return all
		}
		service := r.w.ServiceWith(of.unit)
		if service == "" {
			return all
		}
		services = append(services, service)
	}
	slices.Sort(services)
	return &blameError{err: all, services: slices.Compact(services)}
}
