package host

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Kinds of a thing.
const (
	nothing = ""
	aFile   = "file"
	aLink   = "link"
	foreign = "other" // a folder, a socket, a device: never touched
)

// A thing is what stands at one path, or should. Two equal things need no work.
type thing struct {
	Kind   string `json:"kind,omitempty"`
	Digest string `json:"digest,omitempty"`
	Mode   uint32 `json:"mode,omitempty"`
	User   string `json:"user,omitempty"`
	Group  string `json:"group,omitempty"`
	Target string `json:"target,omitempty"`
}

// linkTo is a link as a bundle has them: root's.
func linkTo(target string) thing {
	return thing{Kind: aLink, Target: target, User: "root", Group: "root"}
}

// look says what stands at path. A path whose folder is missing holds nothing.
func (m *Machine) look(path string) (thing, error) {
	dir, name, err := m.parent(path, false)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) { // below a file stands nothing
		return thing{}, nil
	}
	if err != nil {
		return thing{}, err
	}
	defer dir.Close()
	t, err := m.lookAt(dir, name, path)
	if err != nil {
		return t, fmt.Errorf("read %s: %w", path, err)
	}
	return t, nil
}

func (m *Machine) lookAt(dir *os.File, name, path string) (thing, error) {
	var st unix.Stat_t
	err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case err == unix.ENOENT:
		return thing{}, nil
	case err != nil:
		return thing{}, err
	case st.Mode&unix.S_IFMT == unix.S_IFLNK:
		buf := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(int(dir.Fd()), name, buf)
		if err != nil {
			return thing{}, err
		}
		t := linkTo(string(buf[:n]))
		t.User, t.Group, err = m.Accounts.Owner(path)
		return t, err
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return thing{Kind: foreign}, nil
	}
	f, err := openRegular(dir, name)
	if err != nil {
		return thing{}, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return thing{}, err
	}
	t := thing{Kind: aFile, Digest: hex.EncodeToString(h.Sum(nil)), Mode: st.Mode & 0o7777}
	t.User, t.Group, err = m.Accounts.Owner(path)
	return t, err
}

// openRegular opens a regular file of dir, and nothing else: no link, no device, no pipe
// that would block.
func openRegular(dir *os.File, name string) (*os.File, error) {
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		unix.Close(fd)
		return nil, errors.Join(err, fmt.Errorf("%s is no regular file", name))
	}
	return os.NewFile(uintptr(fd), name), nil
}

// missing lists the folders above path that are not there, the nearest first. leaves is a
// file or link among them that will have made way, or "".
func (m *Machine) missing(path, leaves string) ([]string, error) {
	var dirs []string
	for p := parentOf(path); p != "/"; p = parentOf(p) {
		if leaves != "" && (p == leaves || below(p, leaves)) {
			dirs = append(dirs, p)
			continue
		}
		f, err := m.folder(p, false)
		if err == nil {
			f.Close()
			return dirs, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		dirs = append(dirs, p)
	}
	return dirs, nil
}
