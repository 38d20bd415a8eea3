package host_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bellhop/internal/bundle"
	"bellhop/internal/host"
	"bellhop/internal/host/machine"
)

// A box is a host in a temp directory: just enough systemd, accounts and ramfs for the
// engine's own tests. Unit files are looked for on "disk" at Reload, as the real one does.
type box struct {
	t   testing.TB
	dir string
	m   *machine.Machine

	mu      sync.Mutex
	boot    int
	loaded  map[string]bool // unit file seen at the last reload
	active  map[string]bool
	ran     map[string]bool
	failed  map[string]bool
	enabled map[string]bool
	fail    map[string]bool // start fails
	needs   map[string]string
	jobs    []string
	enables []string
	reloads int
	users   map[string]machine.Account
	runsAs  map[string]string // a user's unit: while it runs, usermod refuses, as the real one does
	groups  map[string]int
	owners  map[born][2]string // by inode: a rename keeps them
	fsyncs  int
	applied chan error
	noApply bool
	pending int // applies that were started

	atStep func(step string) // called at each step of a run that may die

	chown  map[string]error // of a path; nil: it can be given away
	enable map[string]error // of a unit

	writable func() (*os.File, error) // the place for keys; nil: as it stands
	openTo   error                    // why others can write there
}

func newBox(t testing.TB) *box {
	b := &box{t: t, dir: t.TempDir(), boot: 1, loaded: map[string]bool{}, active: map[string]bool{}, ran: map[string]bool{}, failed: map[string]bool{},
		enabled: map[string]bool{}, fail: map[string]bool{}, needs: map[string]string{}, users: map[string]machine.Account{"root": {Name: "root", Group: "root"}},
		groups: map[string]int{"root": 0, "keys": 1}, owners: map[born][2]string{}, applied: make(chan error, 10)}
	b.m = &machine.Machine{Root: b.dir, Systemd: b, Accounts: b, Mounts: b, Helper: "/usr/local/libexec/bellhop/current",
		BootID: func() (string, error) { return fmt.Sprintf("boot-%d", b.boot), nil },
		Disk:   (*noDisk)(b), Settle: 2 * time.Millisecond, RetryPause: 10 * time.Millisecond} // nothing of a box dies later
	for _, d := range []string{"etc/systemd/system", "run", "var/lib", "opt"} {
		if err := os.MkdirAll(filepath.Join(b.dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// noDisk loses no power, so it syncs nothing.
type noDisk box

func (d *noDisk) Sync(*os.File) error {
	d.fsyncs++
	return nil
}

func (d *noDisk) Syncfs(*os.File) error {
	d.fsyncs++
	return nil
}

func (b *box) path(p string) string { return filepath.Join(b.dir, p) }

func (b *box) write(p, text string) {
	b.t.Helper()
	if err := os.MkdirAll(filepath.Dir(b.path(p)), 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(b.path(p), []byte(text), 0o644); err != nil {
		b.t.Fatal(err)
	}
}

func (b *box) read(p string) string {
	text, err := os.ReadFile(b.path(p))
	if err != nil {
		return "<" + errors.Unwrap(err).Error() + ">"
	}
	return string(text)
}

func (b *box) reboot() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.boot++
	b.active, b.ran, b.failed = map[string]bool{}, map[string]bool{}, map[string]bool{}
	os.RemoveAll(b.path("run"))
	os.Mkdir(b.path("run"), 0o755)
	b.look()
}

// bootUp starts what is enabled, as boot does after settle.
func (b *box) bootUp() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.look()
	for n := range b.enabled {
		if b.loaded[n] && b.gate(n) == nil {
			b.active[n], b.ran[n] = true, true
		}
	}
}

func (b *box) look() {
	b.loaded = map[string]bool{}
	es, _ := os.ReadDir(b.path(bundle.UnitDir))
	for _, e := range es {
		if !e.IsDir() {
			b.loaded[e.Name()] = true
		}
	}
}

func (b *box) gate(n string) error {
	if need := b.needs[n]; need != "" {
		if _, err := os.Stat(b.path(need)); err != nil {
			return errors.New("dependency")
		}
	}
	return nil
}

func (b *box) Version(context.Context) (int, error) { return 252, nil }

// Glance is Units, and gives no more than it promises.
func (b *box) Glance(ctx context.Context, names []string) (map[string]machine.UnitState, error) {
	states, err := b.Units(ctx, names)
	for n, st := range states {
		states[n] = machine.UnitState{Name: st.Name, Load: st.Load, Active: st.Active, Sub: st.Sub, Job: st.Job}
	}
	return states, err
}

// Steady is Units of what is at rest, and gives no more than it promises.
func (b *box) Steady(ctx context.Context, names []string) (map[string]machine.UnitState, error) {
	states, err := b.Units(ctx, names)
	for n, st := range states {
		delete(states, n)
		if st.AtRest() && !st.Masked() {
			states[n] = machine.UnitState{Name: st.Name, Load: st.Load, Active: st.Active, Sub: st.Sub, Result: st.Result, File: st.File, Invocation: st.Invocation, RanThisBoot: true}
		}
	}
	return states, err
}

// Loaded is Glance of all that has a unit file.
func (b *box) Loaded(ctx context.Context) (map[string]machine.UnitState, error) {
	b.mu.Lock()
	names := slices.Sorted(maps.Keys(b.loaded))
	b.mu.Unlock()
	return b.Glance(ctx, names)
}

func (b *box) Units(_ context.Context, names []string) (map[string]machine.UnitState, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := map[string]machine.UnitState{}
	for _, n := range names {
		s := machine.UnitState{Name: n, Load: "not-found", Active: "inactive", Sub: "dead", Result: "success", RanThisBoot: b.ran[n], CanReload: true}
		if b.loaded[n] {
			s.Load, s.File = "loaded", "disabled"
		}
		if b.enabled[n] {
			s.File = "enabled"
		}
		if b.active[n] {
			s.Active, s.Sub = "active", "running"
		}
		if b.failed[n] {
			s.Active, s.Result = "failed", "exit-code"
		}
		if target, err := os.Readlink(b.path(bundle.UnitDir + "/" + n)); err == nil && target == "/dev/null" {
			s.Load, s.File, s.Fragment = "masked", "masked", bundle.UnitDir+"/"+n
		}
		out[n] = s
	}
	return out, nil
}

func (b *box) Reload(context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reloads++
	b.look()
	return nil
}

func (b *box) Enable(_ context.Context, names []string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, n := range names {
		if err := b.enable[n]; err != nil {
			return err
		}
		if _, err := os.Stat(b.path(bundle.UnitDir + "/" + n)); err != nil {
			return fmt.Errorf("enable %s: no unit file", n)
		}
		b.enabled[n] = true
		b.enables = append(b.enables, "enable "+n)
	}
	return nil
}

func (b *box) Disable(_ context.Context, names []string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, n := range names {
		delete(b.enabled, n)
		b.enables = append(b.enables, "disable "+n)
	}
	return nil
}

func (b *box) Job(_ context.Context, verb string, names []string) map[string]error {
	b.mu.Lock()
	defer b.mu.Unlock()
	bad := map[string]error{}
	for _, n := range names {
		b.jobs = append(b.jobs, verb+" "+n)
		if verb == "stop" {
			if b.active[n] && !b.loaded[n] {
				b.t.Errorf("stop %s: its unit file is gone, so its ExecStop can't run", n)
			}
			delete(b.active, n)
			continue
		}
		err := b.gate(n)
		if !b.loaded[n] {
			err = errors.New("not-found")
		}
		if b.fail[n] {
			err = errors.New("failed")
		}
		delete(b.active, n)
		b.failed[n] = err != nil && b.fail[n]
		if err != nil {
			bad[n] = err
			continue
		}
		b.active[n], b.ran[n] = true, true
	}
	return bad
}

func (b *box) Queue(ctx context.Context, verb, name string) error {
	b.Job(ctx, verb, []string{name})
	return nil
}

func (b *box) ResetFailed(_ context.Context, names []string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, n := range names {
		delete(b.failed, n)
	}
	return nil
}

func (b *box) StartApply(ctx context.Context, run string) error {
	if b.noApply {
		return errors.New("this box starts nothing")
	}
	b.pending++
	go func() { b.applied <- host.Apply(context.Background(), b.m, run) }()
	return nil
}

// settled waits until every apply has returned, so that a test may look.
func (b *box) settled() {
	for ; b.pending > 0; b.pending-- {
		<-b.applied
	}
}

func (b *box) Close() error { return nil }

func (b *box) User(name string) (machine.Account, bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a, ok := b.users[name]
	return a, ok, nil
}

func (b *box) Group(name string) (int, bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	g, ok := b.groups[name]
	return g, ok, nil
}

func (b *box) Joined(string) ([]string, error) { return nil, nil }

func (b *box) UserOf(uid int) (string, bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, a := range b.users {
		if a.UID == uid {
			return name, true, nil
		}
	}
	return "", false, nil
}

func (b *box) GroupOf(gid int) (string, bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, g := range b.groups {
		if g == gid {
			return name, true, nil
		}
	}
	return "", false, nil
}

// Sysusers knows lines of the form "u NAME HOME".
func (b *box) Sysusers(_ context.Context, paths []string) error {
	for _, p := range paths {
		for line := range strings.Lines(b.read(p)) {
			f := strings.Fields(line)
			b.mu.Lock()
			if _, ok := b.users[f[1]]; !ok {
				b.users[f[1]] = machine.Account{Name: f[1], Group: f[1], Home: f[2], UID: 900, GID: 900}
				b.groups[f[1]] = 900
			}
			b.mu.Unlock()
		}
	}
	return nil
}

func (b *box) Tmpfiles(context.Context, []string) error { return nil }

func (b *box) Busy(user string) ([]machine.Process, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if unit := b.runsAs[user]; b.active[unit] {
		return []machine.Process{{PID: 7, Name: "sleep", Unit: unit}}, nil
	}
	return nil, nil
}

func (b *box) Usermod(_ context.Context, a machine.Account) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if unit := b.runsAs[a.Name]; b.active[unit] {
		return fmt.Errorf("usermod: user %s is currently used by %s", a.Name, unit)
	}
	b.users[a.Name] = a
	return nil
}

// A born is an inode and when it was made: the number of one that is gone is used again.
type born struct {
	ino  uint64
	sec  int64
	nsec uint32
}

func identify(fd int, path string) (born, error) {
	var st unix.Statx_t
	err := unix.Statx(fd, path, unix.AT_EMPTY_PATH|unix.AT_SYMLINK_NOFOLLOW, unix.STATX_INO|unix.STATX_BTIME, &st)
	return born{st.Ino, st.Btime.Sec, st.Btime.Nsec}, err
}

func (b *box) Chown(f *os.File, path, user, group string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.users[user]; !ok {
		return fmt.Errorf("no user %s", user)
	}
	if err := b.chown[path]; err != nil {
		return err
	}
	id, err := identify(int(f.Fd()), "")
	b.owners[id] = [2]string{user, group}
	return err
}

func (b *box) Owner(f *os.File, _ *unix.Stat_t) (string, string, error) {
	id, err := identify(int(f.Fd()), "")
	b.mu.Lock()
	defer b.mu.Unlock()
	if o, ok := b.owners[id]; ok {
		return o[0], o[1], err
	}
	return "root", "root", err
}

// ownerOf tells whose a path is.
func (b *box) ownerOf(p string) [2]string {
	id, _ := identify(unix.AT_FDCWD, b.path(p))
	b.mu.Lock()
	defer b.mu.Unlock()
	if o, ok := b.owners[id]; ok {
		return o
	}
	return [2]string{"root", "root"}
}

// give gives a path away, as somebody on the host would.
func (b *box) give(p, user, group string) {
	b.t.Helper()
	id, err := identify(unix.AT_FDCWD, b.path(p))
	if err != nil {
		b.t.Fatal(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.owners[id] = [2]string{user, group}
}

func (b *box) Command(name string) bool { return name != "no-such-command" }

func (b *box) Keys(context.Context) (string, error) {
	return "ramfs", os.MkdirAll(b.path(bundle.KeyDir), 0o750)
}

func (b *box) Writable(context.Context) (*os.File, error) {
	if b.writable != nil {
		return b.writable()
	}
	return os.Open(b.path(bundle.KeyDir))
}

func (b *box) Open() error { return b.openTo }

func (b *box) SwapClear() bool { return false }

func (b *box) Seal(_ context.Context, name string, value []byte) error {
	if err := os.MkdirAll(b.path(bundle.SealedDir), 0o700); err != nil {
		return err
	}
	return os.WriteFile(b.path(bundle.SealedDir+"/"+name), bundle.KeyMAC([]byte("tpm"), value), 0o600)
}

func (b *box) Opens(_ context.Context, name string, value []byte) bool {
	p, err := os.ReadFile(b.path(bundle.SealedDir + "/" + name))
	return err == nil && string(p) == string(bundle.KeyMAC([]byte("tpm"), value))
}
