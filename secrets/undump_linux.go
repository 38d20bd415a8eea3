package secrets

import (
	"errors"
	"fmt"
	"os"

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

// Unswappable keeps this process's memory out of swap, where the system lets it: root may lock
// memory, and so may a user whose limit is unlimited (ulimit -l). Elsewhere it does nothing, since
// a limit that is reached would end the program. It is for short-lived processes.
func Unswappable() {
	var limit unix.Rlimit
	err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit)
	mayLock := err == nil && limit.Cur == unix.RLIM_INFINITY
	if os.Geteuid() == 0 || mayLock {
		_ = unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT)
	}
}
