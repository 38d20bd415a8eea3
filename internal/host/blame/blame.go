// Package blame says which services an error of a run is due to, and what was seen of them.
//
// An error that is due to units is due to their services: those alone are then held back. Evidence is the
// last lines that a unit wrote, or what a probe was answered, within bounds: an undone run leaves nothing
// else of what failed. Nothing here takes the values of keys out but Mask and MaskWarnings.
package blame

import (
	"errors"
	"fmt"
	"slices"
)

// A unitError is what is wrong with one unit.
type unitError struct {
	unit string
	err  error
}

// Unit is an error about one unit.
func Unit(unit, format string, args ...any) error {
	return &unitError{unit, fmt.Errorf("unit "+unit+": "+format, args...)}
}

func (e *unitError) Error() string { return e.err.Error() }

func (e *unitError) Unwrap() error { return e.err }

// Join joins errors. Where each is about a unit of a service, the whole is due to those services. serviceOf names
// the service of a unit, "" for none.
func Join(errs []error, serviceOf func(unit string) string) error {
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
		service := serviceOf(of.unit)
		if service == "" {
			return all
		}
		services = append(services, service)
	}
	slices.Sort(services)
	return &Error{Err: all, Services: slices.Compact(services)}
}
