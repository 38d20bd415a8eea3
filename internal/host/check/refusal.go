package check

import "fmt"

// A Refusal says no before anything is touched.
type Refusal struct {
	Why string // bundle.RefusedBase …
	err error
}

func (r *Refusal) Error() string { return r.err.Error() }

// Refuse is a Refusal. why is one of bundle.RefusedBase and its kin.
func Refuse(why, format string, args ...any) error { return &Refusal{why, fmt.Errorf(format, args...)} }
