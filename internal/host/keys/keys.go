// Package keys makes the place where keys stand on a real host, and the sealed copies that
// outlive a reboot.
//
// The place is /run/keys, a ramfs of root:keys, 0750. A ramfs is never written to swap; where
// the kernel refuses one, as in containers, a tmpfs serves and its kind is told. Before a key
// is written the filesystem is asked what it is: the promise is that a key never lies on a
// disk in the clear.
//
// A sealed copy is made and opened by systemd-creds with the host's own key. Plaintext goes
// through pipes alone. It is as safe as the host's disk, no safer.
package keys

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"bellhop/internal/bundle"
	"bellhop/internal/host/machine"
)

// Mounts implements host.Mounts on the host that it runs on.
type Mounts struct {
	systemd  machine.Systemd
	accounts machine.Accounts
	open     error // why the place is not read-only
}

var _ machine.Mounts = (*Mounts)(nil)

// New returns the host's place for keys. systemd starts its mount unit, accounts finds the
// group.
func New(systemd machine.Systemd, accounts machine.Accounts) *Mounts {
	return &Mounts{systemd: systemd, accounts: accounts}
}

// Keys makes bundle.KeyDir what it must be, and says what it is: "ramfs" or "tmpfs". It may
// be called at any time; what stands stays.
func (k *Mounts) Keys(ctx context.Context) (string, error) {
	gid, err := k.group(ctx)
	if err != nil {
		return "", err
	}

	kind, err := k.mounted(ctx)
	if err != nil {
		return "", fmt.Errorf("mount %s: %w", bundle.KeyDir, err)
	}
	if err := own(bundle.KeyDir, gid); err != nil {
		return "", err
	}
	if !k.shared() {
		k.open = ReadOnly(bundle.KeyDir)
	}

	return kind, nil
}

// shared says that the place is the host's, and others write to it: NixOS makes it, and tools
// that bring keys there from outside count on it.
func (k *Mounts) shared() bool {
	_, err := os.Stat("/etc/NIXOS")
	return err == nil
}

// Writable opens the place so that the helper can write to it.
func (k *Mounts) Writable(context.Context) (*os.File, error) { return Writable(bundle.KeyDir) }

// Open says why others than the helper can write to the place too; nil when nobody can. It is of
// the last call of Keys.
func (k *Mounts) Open() error {
	if k.shared() {
		return errors.New("NixOS makes it, and others may bring keys there")
	}
	return k.open
}

// mounted mounts unless something is mounted there. Only what is a mount of its own counts:
// /run is a tmpfs too, and a bare folder in it would be world-readable at the next boot's
// whim.
func (k *Mounts) mounted(ctx context.Context) (string, error) {
	// Two sessions at once would mount one over the other, and hide the keys below.
	run, err := os.Open(filepath.Dir(bundle.KeyDir))
	if err != nil {
		return "", err
	}
	defer run.Close()

	if err := unix.Flock(int(run.Fd()), unix.LOCK_EX); err != nil {
		return "", err
	}
	if kind, err := mountedAt(bundle.KeyDir); kind != "" || err != nil {
		return kind, err
	}

	started := k.startUnit(ctx)
	if kind, err := mountedAt(bundle.KeyDir); kind != "" || err != nil {
		return kind, err
	}

	byHand := mount(bundle.KeyDir)
	kind, err := mountedAt(bundle.KeyDir)
	if kind == "" {
		return "", errors.Join(started, byHand, err, errors.New("neither ramfs nor tmpfs could be mounted"))
	}

	return kind, err
}

// startUnit lets systemd mount it where the unit is there, so that units can wait for it.
func (k *Mounts) startUnit(ctx context.Context) error {
	states, err := k.systemd.Units(ctx, []string{bundle.KeyMountUnit})
	if err != nil || states[bundle.KeyMountUnit].Load != "loaded" || states[bundle.KeyMountUnit].Fragment == "" {
		return err
	}
	return k.systemd.Job(ctx, "start", []string{bundle.KeyMountUnit})[bundle.KeyMountUnit]
}

const mountFlags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

func mount(dir string) error {
	if err := os.Mkdir(dir, 0o750); err != nil && !os.IsExist(err) {
		return err
	}

	ramfs := unix.Mount("ramfs", dir, "ramfs", mountFlags, "mode=0750")
	if ramfs == nil {
		return nil
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", mountFlags, "mode=0750"); err != nil {
		return errors.Join(fmt.Errorf("ramfs: %w", ramfs), fmt.Errorf("tmpfs: %w", err))
	}

	return nil
}

// mountedAt says what is mounted at dir: ramfs, tmpfs, or "" for nothing. Anything else is an
// error.
func mountedAt(dir string) (string, error) {
	var up, at unix.Stat_t
	if err := unix.Lstat(dir, &at); err != nil {
		if err == unix.ENOENT {
			return "", nil
		}
		return "", err
	}
	if at.Mode&unix.S_IFMT != unix.S_IFDIR {
		return "", errors.New("it is no folder")
	}
	if err := unix.Lstat(dir+"/..", &up); err != nil {
		return "", err
	}
	if up.Dev == at.Dev {
		return "", nil
	}

	return kindOf(dir)
}

func kindOf(dir string) (string, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return "", err
	}

	switch uint32(fs.Type) {
	case unix.RAMFS_MAGIC:
		return "ramfs", nil
	case unix.TMPFS_MAGIC:
		return "tmpfs", nil
	}

	return "", fmt.Errorf("it lies on a filesystem of type %#x, and a key must never reach a disk", uint32(fs.Type))
}

// own gives the folder to root:keys, unless it is theirs. ramfs takes no owner when it is mounted.
func own(dir string, gid int) error {
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return err
	}
	if st.Uid == 0 && st.Gid == uint32(gid) && st.Mode&0o7777 == 0o750 {
		return nil
	}

	f, err := Writable(dir)
	if err != nil {
		return err
	}
	defer f.Close()

	if err := f.Chown(0, gid); err != nil {
		return err
	}

	return f.Chmod(0o750)
}

// group finds the group of keys, and makes it where it is missing.
func (k *Mounts) group(ctx context.Context) (int, error) {
	gid, ok, err := k.accounts.Group(bundle.KeyGroup)
	if err != nil || ok {
		return gid, err
	}

	cmd := exec.CommandContext(ctx, "systemd-sysusers", "-")
	cmd.Stdin = strings.NewReader("g " + bundle.KeyGroup + " -\n")
	if cmd.Run() != nil {
		out, err := exec.CommandContext(ctx, "groupadd", "--system", bundle.KeyGroup).CombinedOutput()
		if err != nil {
			return 0, fmt.Errorf("make group %s: %w: %s", bundle.KeyGroup, err, strings.TrimSpace(string(out)))
		}
	}

	gid, ok, err = k.accounts.Group(bundle.KeyGroup)
	if err == nil && !ok {
		err = fmt.Errorf("group %s is not there after it was made", bundle.KeyGroup)
	}

	return gid, err
}
