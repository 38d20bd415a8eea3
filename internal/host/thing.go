package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"bellhop/internal/bundle"
)

// Kinds of a thing.
const (
	nothing = ""
	aFile   = "file"
	aLink   = "link"
	foreign = "other" // a folder, a socket, a device, a file that is too large: never touched
)

// A thing is what stands at one path, or should. Two equal things need no work.
type thing struct {
	Kind   string `json:"kind,omitempty"`
	Digest string `json:"digest,omitempty"` // of a file; "" when it was too large to be read (unread)
	Mode   uint32 `json:"mode,omitempty"`
	User   string `json:"user,omitempty"`
	Group  string `json:"group,omitempty"`
	Target string `json:"target,omitempty"`
}

// linkTo is a link as a bundle has them: root's.
func linkTo(target string) thing {
	return thing{Kind: aLink, Target: target, User: "root", Group: "root"}
}

// unread says that t is a file whose bytes nobody looked at.
func (t thing) unread() bool { return t.Kind == aFile && t.Digest == "" }

// plain is t without setuid and setgid.
func (t thing) plain() thing {
	t.Mode &^= unix.S_ISUID | unix.S_ISGID
	return t
}

// How much is read of files that somebody but root could have put there, and that do not have the
// size of what bellhop put there: each, and by one looker in all. A sparse file of a terabyte
// costs its owner nothing.
const (
	maxUnknown    = 64 << 20
	maxAllUnknown = 256 << 20
)

// A sight is what was seen at a path.
type sight struct {
	thing
	// Shared says that somebody but root could have put it there.
	Shared bool
	by     string // whom it belongs to, for people; "" for nothing
}

// back is what may be put back of a sight later: setuid only where nobody but root could have
// put it.
func (s sight) back() thing {
	if s.Shared {
		return s.plain()
	}
	return s.thing
}

// look says what stands at path. A path whose folder is missing holds nothing. known are what it
// may be: a file of their size is read, however large.
func (m *Machine) look(ctx context.Context, path string, known ...int64) (sight, error) {
	in := looker{m: m, ctx: ctx}
	defer in.close()
	return in.look(path, known...)
}

// A looker looks at many paths. It holds the folder that it opened last: paths come sorted, and a
// host may have hundreds in one.
type looker struct {
	m    *Machine
	ctx  context.Context
	at   string
	dir  *folder // at; nil: none
	read int64   // bytes of files of unknown size, so far
}

func (l *looker) close() {
	if l.dir != nil {
		l.dir.Close()
		l.dir = nil
	}
}

// parent is the folder that p lies in, until the next call.
func (l *looker) parent(p string) (*folder, error) {
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

func (l *looker) look(p string, known ...int64) (sight, error) {
	dir, err := l.parent(p)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) { // below a file stands nothing
		return sight{}, nil
	}
	if err != nil {
		return sight{}, err
	}
	t, by, err := l.lookAt(dir, path.Base(p), known)
	if err != nil && dir.Shared && l.ctx.Err() == nil {
		err = &barredError{p, by, err}
	}
	if err != nil {
		return sight{}, fmt.Errorf("read %s: %w", p, err)
	}
	return sight{t, dir.Shared, by}, nil
}

// lookAt looks at name in a folder. Whatever it says of it comes from one descriptor: by the next
// call the name may mean something else.
func (l *looker) lookAt(dir *folder, name string, known []int64) (t thing, by string, err error) {
	is, st, err := openAt(dir, name, unix.O_PATH)
	if err == unix.ENOENT {
		return thing{}, "", nil
	}
	if err != nil {
		return thing{}, "", err
	}
	defer is.Close()
	by = l.m.ownerName(is, &st)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		t, err = l.lookAtLink(is, &st)
	case unix.S_IFREG:
		t, err = l.lookAtFile(dir, name, known)
	default:
		t.Kind = foreign
	}
	return t, by, err
}

func (l *looker) lookAtLink(is *os.File, st *unix.Stat_t) (thing, error) {
	target, err := readLink(int(is.Fd()))
	if err != nil {
		return thing{}, err
	}
	t := linkTo(target)
	t.User, t.Group, err = l.m.Accounts.Owner(is, st)
	return t, err
}

func (l *looker) lookAtFile(dir *folder, name string, known []int64) (thing, error) {
	f, st, err := openRegular(dir, name)
	if err != nil {
		return thing{}, err
	}
	defer f.Close()
	if st.Size > bundle.MaxBlob {
		return thing{Kind: foreign}, nil
	}
	t := thing{Kind: aFile, Mode: st.Mode & 0o7777}
	if t.User, t.Group, err = l.m.Accounts.Owner(f, &st); err != nil {
		return thing{}, err
	}
	if l.readable(dir, st.Size, known) {
		t.Digest, err = digestOf(io.LimitReader(reader{l.ctx, f}, st.Size), nil) // it may grow meanwhile
	}
	return t, err
}

// readable says whether a file of that size is read.
func (l *looker) readable(dir *folder, size int64, known []int64) bool {
	if !dir.Shared {
		return true
	}
	for _, k := range known {
		if size == k {
			return true
		}
	}
	l.read += size
	return size <= maxUnknown && l.read <= maxAllUnknown
}

// A reader reads until its context ends.
type reader struct {
	ctx context.Context
	r   io.Reader
}

func (r reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// openAt opens name in a folder, never what it leads to, and never waits.
func openAt(dir *folder, name string, flags int) (*os.File, unix.Stat_t, error) {
	var st unix.Stat_t
	fd, err := unix.Openat(dir.fd(), name, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, st, err
	}
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return nil, st, err
	}
	return os.NewFile(uintptr(fd), name), st, nil
}

// openRegular opens a regular file of dir, and nothing else: no link, no device, no pipe
// that would block.
func openRegular(dir *folder, name string) (*os.File, unix.Stat_t, error) {
	f, st, err := openAt(dir, name, unix.O_RDONLY)
	if err != nil {
		return nil, st, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		f.Close()
		return nil, st, fmt.Errorf("%s is no regular file", name)
	}
	return f, st, nil
}

// readLink reads the target of a link that is open.
func readLink(fd int) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
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
