package check

import (
	"fmt"

	"bellhop/internal/bundle"
)

// A Refusal says no before anything is touched.
type Refusal struct {
	Why string // bundle.RefusedBase …
	// Services are those that it is due to; empty when that is not known.
	Services []string
	// Seen is, where there are several of them, what is wrong with each.
	Seen []bundle.Evidence
	Err  error // what is wrong
	// Barred are those of Services whose users bar the way to a path of theirs.
	Barred []string
}

func (r *Refusal) Error() string { return r.Err.Error() }

// RefuseServices is a Refusal of a bundle that is due to services of it.
func RefuseServices(services []string, err error) error {
	return &Refusal{Why: bundle.RefusedBundle, Services: services, Err: err}
}

// Refuse is a Refusal. why is one of bundle.RefusedBase and its kin.
func Refuse(why, format string, args ...any) error {
	return &Refusal{Why: why, Err: fmt.Errorf(format, args...)}
}
