package keys

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// A key belongs to the user of its service, so in a place that can be written he could fill a
// ramfs, which has no bound and can't be swapped. So the place is read-only for everybody, and the
// helper writes through a mount of its own, which no path leads to: at no moment is there one that
// somebody else could write through.

// ReadOnly makes what is mounted at dir read-only, once it is proven that Writable can still
// write there.
func ReadOnly(dir string) error {
	if is, err := isReadOnly(dir); is || err != nil {
		return err
	}

	f, err := writable(dir)
	if err != nil {
		return err
	}

	f.Close()
	return remount(dir, unix.MS_RDONLY)
}

// Writable opens dir, which may be read-only, so that files can be made in it and below: by the
// descriptor, or by its path in /proc.
func Writable(dir string) (*os.File, error) {
	if is, err := isReadOnly(dir); err != nil {
		return nil, err
	} else if !is {
		return os.Open(dir)
	}

	f, err := writable(dir)
	if err == nil {
		return f, nil
	}
	if undone := remount(dir, 0); undone != nil { // what can't be written that way must not stay read-only
		return nil, errors.Join(err, undone)
	}

	return os.Open(dir)
}

func isReadOnly(dir string) (bool, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return false, fmt.Errorf("look at the mount of %s: %w", dir, err)
	}
	return fs.Flags&unix.ST_RDONLY != 0, nil
}

// remount changes the flags of one mount, not those of the filesystem.
func remount(dir string, flags uintptr) error {
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND|mountFlags|flags, ""); err != nil {
		return fmt.Errorf("remount %s: %w", dir, err)
	}
	return nil
}

// writable opens dir through a mount that can be written and that only the descriptor leads to.
func writable(dir string) (*os.File, error) {
	if f, err := byClone(dir); err == nil {
		return f, nil
	}
	return byNamespace(dir)
}

// byClone asks for a copy of the mount; Linux 5.12 and newer.
func byClone(dir string) (*os.File, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("copy the mount of %s: %w", dir, err)
	}

	f := os.NewFile(uintptr(fd), dir)
	defer f.Close()

	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY}); err != nil {
		return nil, fmt.Errorf("make the copy of %s writable: %w", dir, err)
	}

	return os.Open(fmt.Sprintf("/proc/self/fd/%d", fd)) // a folder, where that is only a place in the tree
}

// byNamespace opens dir in a mount namespace of its own, in which it can be written. The
// namespace ends with the thread that made it, and what is open stays open.
func byNamespace(dir string) (*os.File, error) {
	type opened struct {
		f   *os.File
		err error
	}

	ch := make(chan opened)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() { // the first thread can't end before the process
			f, err := byNamespace(dir)
			runtime.UnlockOSThread()
			ch <- opened{f, err}
			return
		}

		f, err := openElsewhere(dir)
		ch <- opened{f, err} // the thread stays locked, and so it ends here
	}()
	got := <-ch
	return got.f, got.err
}

func openElsewhere(dir string) (*os.File, error) {
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
		return nil, fmt.Errorf("make a mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return nil, fmt.Errorf("make a mount namespace private: %w", err)
	}
	if err := remount(dir, 0); err != nil {
		return nil, err
	}
	return os.Open(dir)
}
