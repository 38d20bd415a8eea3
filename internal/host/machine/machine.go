package machine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"bellhop/internal/host/owned"
	"bellhop/internal/host/packages"
)

// A Machine is everything the engine touches of the computer it runs on. On a real host
// Root is "/" and the rest is the real thing (host/systemd, host/keys); the lab has a twin
// that lives in a temp directory and needs no privileges. One conformance suite runs on both.
type Machine struct {
	Root     string // "/" or the twin's directory; every path of a bundle is below it
	Systemd  Systemd
	Accounts Accounts
	Mounts   Mounts
	Clock    func() time.Time       // wall clock
	BootID   func() (string, error) // of the running boot
	// Helper is the path that the small units which stay behind call: a link beside the
	// helpers, swapped by rename. As the host sees it, without Root.
	Helper string
	Caps   packages.Caps // on the archive of one package; zero is the usual
	Disk   owned.Disk    // nil is the real one
	// Reached, when not nil, is told of each step as it ends. It may end the goroutine or panic: then
	// the machine dies there, as by kill -9.
	Reached  func(step string)
	Prober   Prober   // asks whether services work; nil: nothing is asked
	Journal  Journal  // nil: units say nothing
	Commands Commands // nil: this host runs no commands of the config
	Programs Programs // nil: this host has no container engine, nor podman's generator
	// Settle, where it is not 0, stands for bundle.DefaultSettle: all settle times, and the intervals
	// and graces of probes, are scaled by what it is of that. A real host has none.
	Settle     time.Duration
	RetryPause time.Duration // before an undo that could not be ended is tried again; 0 is retryTime
	// Polls has who watches a run look at its folder again and again. A real host has the kernel tell; in a bubble
	// of synctest, where the twin may live, time stands still while anything waits for the kernel.
	Polls bool
}

// JobDeadline is how long systemd is given to stop units, and to run again what ran. It only bounds
// the wait: a job's own timeout is the unit's.
const JobDeadline = 5 * time.Minute

// Systemd is what the engine asks of the service manager. Errors name the unit. A job's
// result is waited for with ctx's deadline; whatever came of it, the state is truth, so
// callers read Units afterwards.
type Systemd interface {
	Version(ctx context.Context) (int, error)
	// Glance is Units at the price of one call for all: Load, Active, Sub and Job are right,
	// and the rest is empty. A host may have hundreds of key units.
	Glance(ctx context.Context, names []string) (map[string]UnitState, error)
	Units(ctx context.Context, names []string) (map[string]UnitState, error)
	// Steady reads those of names that are active, loaded and without a job, by a few calls for all: all but
	// Load, Active, Sub, Result, File, Invocation and RanThisBoot is empty. What it can't tell in that way
	// is not in the map, and left to Units, which costs systemd 2 ms for each unit.
	Steady(ctx context.Context, names []string) (map[string]UnitState, error)
	// Loaded is Glance of all units that systemd has loaded.
	Loaded(ctx context.Context) (map[string]UnitState, error)
	Reload(ctx context.Context) error
	// Enable and Disable act on unit files, as systemctl does, without reload. Enabling what
	// has no [Install] is no error.
	Enable(ctx context.Context, names []string) error
	Disable(ctx context.Context, names []string) error
	// Job queues verb (start, stop, restart, reload, try-restart; start-alone pulls in nothing
	// else) for all names at once and waits for all. The map holds an entry for each unit whose job did not end in "done".
	Job(ctx context.Context, verb string, names []string) map[string]error
	// Queue is Job without waiting: at boot, a wait would be a deadlock.
	Queue(ctx context.Context, verb, name string) error
	ResetFailed(ctx context.Context, names []string) error
	// StartApply starts bundle.ApplyUnit, a transient unit of Type=exec with Restart=on-failure
	// and CollectMode=inactive-or-failed that runs "Helper apply RUN". ErrBusy when it is there.
	StartApply(ctx context.Context, run string) error
	Close() error
}

// An Account is a user as the host has it.
type Account struct {
	Name, Group, Home string
	Shell             string `json:",omitempty"` // "" where that is not known
	UID, GID          int
}

// A Process is one that runs as a user.
type Process struct {
	PID  int
	Name string
	Unit string // that it belongs to; "" is none
}

// Accounts looks up, makes and changes users and groups, and gives files to them.
type Accounts interface {
	User(name string) (Account, bool, error)
	Group(name string) (gid int, ok bool, err error)
	// Joined lists the groups, by name and sorted, in which the host's own files list a user beside its
	// primary one.
	Joined(user string) (groups []string, err error)
	// UserOf and GroupOf name who has a number.
	UserOf(uid int) (name string, ok bool, err error)
	GroupOf(gid int) (name string, ok bool, err error)
	// Sysusers and Tmpfiles apply the snippets at these paths, and nothing else.
	Sysusers(ctx context.Context, paths []string) error
	Tmpfiles(ctx context.Context, paths []string) error
	// Usermod makes an existing user's home and primary group what a says. The home of a user
	// who is Busy stays as it is, which is an error.
	Usermod(ctx context.Context, a Account) error
	// Busy lists what runs as a user; one that is not there has nothing.
	Busy(user string) ([]Process, error)
	// Chown gives what is open as f (a link too, opened with O_PATH) to user and group by name.
	// path is what an error calls it. The twin, which may not chown, remembers instead.
	Chown(f *os.File, path, user, group string) error
	// Owner tells whose an open file is; st is what fstat says of f. No method takes a path: a
	// service user may exchange what a path means between two calls.
	Owner(f *os.File, st *unix.Stat_t) (user, group string, err error)
	// Command tells whether a program of that name is on the host's PATH.
	Command(name string) bool
}

// Mounts is the place for keys.
type Mounts interface {
	// Keys makes bundle.KeyDir a ramfs owned by root:keys, 0750, and says what it is:
	// "ramfs", or "tmpfs" where ramfs is refused (containers). Anything else is an error:
	// a key must never reach a disk.
	Keys(ctx context.Context) (kind string, err error)
	// Writable opens bundle.KeyDir so that keys can be put there: where the host lets that be, it is
	// read-only for everybody else, always. Open says why it is not; nil where it is.
	Writable(ctx context.Context) (*os.File, error)
	Open() error
	// SwapClear says that the host swaps to something unencrypted.
	SwapClear() bool
	// Seal leaves a copy of value that only this host can open, at SealedDir/name, proven by
	// opening it once. Opens says whether the copy of name opens and equals value.
	Seal(ctx context.Context, name string, value []byte) error
	Opens(ctx context.Context, name string, value []byte) bool
}

// ErrBusy says that another run is at work on this host.
var ErrBusy = errors.New("another run is at work")

// String names it and where it runs, for people.
func (p Process) String() string {
	if p.Unit == "" {
		return fmt.Sprintf("%s (process %d)", p.Name, p.PID)
	}
	return fmt.Sprintf("%s (process %d of %s)", p.Name, p.PID, p.Unit)
}

// Hidden is the subcommand under which bellhop itself is the helper. Hosts call every helper
// with it, so that none has to know which of the two it is.
const Hidden = "host-helper"
