// Package privatefile reads and makes files that hold a secret in clear: identities, SSH keys, tokens.
//
// A file is private when it is a regular file of this process's user, closed to all others. Read takes
// no other, with three exceptions that it names; Make writes one, once, and never rewrites it.
package privatefile

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// maxFile bounds what is read of a file with a secret in it.
const maxFile = 1 << 20

// An Error says why a file with a secret in it is not read: somebody else may have written it
// or read it, or it is not a regular file.
type Error struct {
	Path   string
	Reason string // "belongs to uid 65534, and this process is uid 0"
	Fix    string // what to type, or ""
}

// Error names the file and the reason.
func (e *Error) Error() string { return e.Path + " " + e.Reason }

// Read reads a file with a secret in it: an identity, an SSH key, a token. It must be a
// regular file that belongs to this user and is closed to all others, root's process not excepted.
// What was opened is looked at, not the name, so that nothing can be swapped in between. Three
// kinds are read although they look open: systemd's credentials, what a container engine mounted
// (Mounted), and a pipe that was handed over by its descriptor (/dev/fd/3).
func Read(name string) ([]byte, error) {
	f, err := open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if err := check(name, info); err != nil {
		return nil, err
	}

	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFile {
		clear(data)
		return nil, &Error{Path: name, Reason: "is too large for a secret"}
	}

	return data, nil
}

// open takes an inherited descriptor itself: the names below /dev/fd stop working for a
// process that made itself undumpable. O_NONBLOCK is for a fifo that nobody writes to.
func open(name string) (*os.File, error) {
	if !IsInherited(name) {
		return os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	}
	n, err := strconv.Atoi(path.Base(name))
	if err == nil {
		n, err = syscall.Dup(n)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	syscall.CloseOnExec(n)
	return os.NewFile(uintptr(n), name), nil
}

// mounts are where container engines put secrets: each is a mount of its own, 0444 or with the
// owner that it has outside, and nobody but the container's own process is there to read it. ssh
// and age take such a file too: ssh looks at the mode of its own user's keys alone, age at none. The
// path alone is looked at, so a machine that fills such a folder itself answers for its modes.
var mounts = []string{"/run/secrets", "/var/run/secrets"}

// Mounted says that a container engine put the file at path there, so that its owner and who may
// read it say nothing. One that others may write is taken from nobody.
func Mounted(path string, mode fs.FileMode) bool {
	if !filepath.IsAbs(path) || mode.Perm()&0o022 != 0 {
		return false
	}
	for _, dir := range mounts {
		if strings.HasPrefix(filepath.Clean(path), dir+"/") {
			return true
		}
	}

	return false
}

func check(name string, info fs.FileInfo) error {
	mode := info.Mode().Perm()
	isPipe := info.Mode()&fs.ModeNamedPipe != 0
	if isPipe && IsInherited(name) {
		return nil // it has no name that others could open
	}
	if !info.Mode().IsRegular() {
		return &Error{Path: name, Reason: "is not a regular file"}
	}

	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil // a system without owners
	}
	if isCredential(name) && isOwners(stat.Uid) && mode&0o037 == 0 {
		return nil // systemd gives them by an ACL, which shows as a bit of the group
	}
	if Mounted(name, mode) {
		return nil
	}
	if int(stat.Uid) != os.Geteuid() {
		return &Error{
			Path: name, Reason: fmt.Sprintf("belongs to uid %d, and this process is uid %d: its owner knows what is in it", stat.Uid, os.Geteuid()),
			Fix: "if you trust it: chown " + strconv.Itoa(os.Geteuid()) + " " + name,
		}
	}

	if mode&0o077 != 0 {
		return &Error{
			Path: name, Reason: fmt.Sprintf("can be read by others (mode %04o)", mode),
			Fix: fmt.Sprintf("chmod 600 %s (in a container: mount it below %s)", name, mounts[0]),
		}
	}

	return nil
}

func isOwners(uid uint32) bool { return uid == 0 || int(uid) == os.Geteuid() }

// IsInherited says whether a name is that of a descriptor that this process was started with.
func IsInherited(name string) bool {
	return strings.HasPrefix(name, "/dev/fd/") || strings.HasPrefix(name, "/proc/self/fd/")
}

func isCredential(name string) bool {
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	if dir == "" || !filepath.IsAbs(dir) {
		return false
	}
	return filepath.Dir(filepath.Clean(name)) == filepath.Clean(dir)
}
