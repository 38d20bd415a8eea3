package secrets

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Undumpable keeps this process's memory out of core files and away from debuggers of the same
// user. Call it before the first secret is opened.
func Undumpable() error {
	err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	lerr := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	if err := errors.Join(err, lerr); err != nil {
		return fmt.Errorf("make the process undumpable: %w", err)
	}
	return nil
}
