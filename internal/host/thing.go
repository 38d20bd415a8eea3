package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"

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
	in := looker{m: m}
	defer in.close()
	return in.look(path)
}

// A looker looks at many paths. It holds the folder that it opened last: paths come sorted, and a
// host may have hundreds in one.
type looker struct {
	m   *Machine
	at  string
	dir *os.File // at; nil: none
}

func (l *looker) close() {
	if l.dir != nil {
		l.dir.Close()
		l.dir = nil
	}
}

// parent is the folder that p lies in, until the next call.
func (l *looker) parent(p string) (*os.File, error) {
	if at, _ := path.Split(p); l.dir == nil || at != l.at {
		l.close()
		dir, _, err := l.m.parent(p, false)
		if err != nil {
			return nil, err
		}
		l.at, l.dir = at, dir
	}
	return l.dir, nil
}

func (l *looker) look(p string) (thing, error) {
	dir, err := l.parent(p)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) { // below a file stands nothing
		return thing{}, nil
	}
	if err != nil {
		return thing{}, err
	}
	t, err := l.m.lookAt(dir, path.Base(p), p)
	if err != nil {
		return t, fmt.Errorf("read %s: %w", p, err)
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
	sum, err := digestOf(f, nil)
	if err != nil {
		return thing{}, err
	}
	t := thing{Kind: aFile, Digest: sum, Mode: st.Mode & 0o7777}
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
