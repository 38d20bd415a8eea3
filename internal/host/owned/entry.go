package owned

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

// Kinds of an entry.
const (
	Nothing = ""
	File    = "file"
	Link    = "link"
	Foreign = "other" // a folder, a socket, a device, a file that is too large: never touched
)

// An Entry is what stands at one path, or should. Two equal entries need no work.
type Entry struct {
	Kind   string `json:"kind,omitempty"`
	Digest string `json:"digest,omitempty"` // of a file; "" when it was too large to be read (Unread)
	Mode   uint32 `json:"mode,omitempty"`
	User   string `json:"user,omitempty"`
	Group  string `json:"group,omitempty"`
	Target string `json:"target,omitempty"`
}

// LinkTo is a link as a bundle has them: root's.
func LinkTo(target string) Entry {
	return Entry{Kind: Link, Target: target, User: "root", Group: "root"}
}

// Unread says that t is a file whose bytes nobody looked at.
func (t Entry) Unread() bool { return t.Kind == File && t.Digest == "" }

// Plain is t without setuid and setgid.
func (t Entry) Plain() Entry {
	t.Mode &^= unix.S_ISUID | unix.S_ISGID
	return t
}

// How much is read of files that somebody but root could have put there, and that do not have the
// size of what bellhop put there: each, and by one looker in all. A sparse file of a terabyte
// costs its owner nothing.
const (
	MaxUnknown    = 64 << 20
	maxAllUnknown = 256 << 20
)

// A Sight is what was seen at a path.
type Sight struct {
	Entry
	// Shared says that somebody but root could have put it there.
	Shared bool
	By     string // whom it belongs to, for people; "" for nothing
	Stamp  Stamp  // of a file, from before it was read
}

// Back is what may be put back of a sight later: setuid only where nobody but root could have
// put it.
func (s Sight) Back() Entry {
	if s.Shared {
		return s.Plain()
	}
	return s.Entry
}

// Look says what stands at path. A path whose folder is missing holds nothing. known are what it
// may be: a file of their size is read, however large.
func (t *Tree) Look(ctx context.Context, path string, known ...int64) (Sight, error) {
	in := t.Looker(ctx)
	defer in.Close()
	return in.Look(path, known...)
}

// Looker looks at many paths, until ctx ends. Close it.
func (t *Tree) Looker(ctx context.Context) *Looker { return &Looker{t: t, ctx: ctx} }

// A Looker looks at many paths. It holds the folder that it opened last: paths come sorted, and a
// host may have hundreds in one.
type Looker struct {
	t    *Tree
	ctx  context.Context
	at   string
	dir  *Folder // at; nil: none
	read int64   // bytes of files of unknown size, so far

	// Known, when not nil, is asked before a file is read. What it returns is taken for the digest of
	// its bytes; "" has the file read.
	Known func(path string, is Stamp) (digest string)
	// Reads is how many files were read so far.
	Reads int
}

// Close lets go of the folder that was opened last.
func (l *Looker) Close() {
	if l.dir != nil {
		l.dir.Close()
		l.dir = nil
	}
}

// Parent is the folder that p lies in, until the next call.
func (l *Looker) Parent(p string) (*Folder, error) {
	if at, _ := path.Split(p); l.dir == nil || at != l.at {
		l.Close()
		dir, _, err := l.t.Parent(p, false)
		if err != nil {
			return nil, err
		}

		l.at, l.dir = at, dir
	}
	return l.dir, nil
}

// Look says what stands at p.
func (l *Looker) Look(p string, known ...int64) (Sight, error) {
	dir, err := l.Parent(p)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) { // below a file stands nothing
		return Sight{}, nil
	}
	if err != nil {
		return Sight{}, err
	}

	s, by, err := l.lookAt(dir, p, known)
	if err != nil && dir.Shared && l.ctx.Err() == nil {
		err = &BlockedError{p, by, err}
	}
	if err != nil {
		return Sight{}, fmt.Errorf("read %s: %w", p, err)
	}

	s.Shared, s.By = dir.Shared, by
	return s, nil
}

// lookAt looks at p in its folder. Whatever it says of it comes from one descriptor: by the next
// call the name may mean something else.
func (l *Looker) lookAt(dir *Folder, p string, known []int64) (s Sight, by string, err error) {
	name := path.Base(p)
	is, st, err := OpenAt(dir, name, unix.O_PATH)
	if err == unix.ENOENT {
		return s, "", nil
	}
	if err != nil {
		return s, "", err
	}
	defer is.Close()

	by = l.t.OwnerName(is, &st)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		s.Entry, err = l.lookAtLink(is, &st)
	case unix.S_IFREG:
		s.Stamp = stampOf(&st)
		if s.Entry, err = l.knownFile(is, &st, p, s.Stamp); s.Kind == Nothing && err == nil {
			s.Entry, s.Stamp, err = l.lookAtFile(dir, p, known)
		}
	default:
		s.Kind = Foreign
	}

	return s, by, err
}

func (l *Looker) lookAtLink(is *os.File, st *unix.Stat_t) (Entry, error) {
	target, err := readLink(int(is.Fd()))
	if err != nil {
		return Entry{}, err
	}
	t := LinkTo(target)
	t.User, t.Group, err = l.t.Owners.Owner(is, st)
	return t, err
}

// knownFile is a file whose bytes are known, which is not opened; the zero Entry when they are not.
func (l *Looker) knownFile(f *os.File, st *unix.Stat_t, p string, is Stamp) (t Entry, err error) {
	if l.Known == nil {
		return t, nil
	}
	digest := l.Known(p, is)
	if digest == "" {
		return t, nil
	}

	t = Entry{Kind: File, Digest: digest, Mode: st.Mode & 0o7777}
	t.User, t.Group, err = l.t.Owners.Owner(f, st)
	return t, err
}

func (l *Looker) lookAtFile(dir *Folder, p string, known []int64) (t Entry, is Stamp, err error) {
	f, st, err := OpenRegular(dir, path.Base(p))
	if err != nil {
		return t, is, err
	}
	defer f.Close()

	if st.Size > bundle.MaxBlob {
		return Entry{Kind: Foreign}, is, nil
	}

	is, t = stampOf(&st), Entry{Kind: File, Mode: st.Mode & 0o7777}
	if t.User, t.Group, err = l.t.Owners.Owner(f, &st); err != nil {
		return Entry{}, is, err
	}
	if l.readable(dir, st.Size, known) {
		l.Reads++
		t.Digest, err = DigestOf(io.LimitReader(reader{l.ctx, f}, st.Size), nil) // it may grow meanwhile
	}

	return t, is, err
}

// readable says whether a file of that size is read.
func (l *Looker) readable(dir *Folder, size int64, known []int64) bool {
	if !dir.Shared {
		return true
	}

	for _, k := range known {
		if size == k {
			return true
		}
	}

	l.read += size
	return size <= MaxUnknown && l.read <= maxAllUnknown
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

// OpenAt opens name in a folder, never what it leads to, and never waits.
func OpenAt(dir *Folder, name string, flags int) (*os.File, unix.Stat_t, error) {
	var st unix.Stat_t
	fd, err := unix.Openat(dir.FD(), name, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, st, err
	}
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return nil, st, err
	}

	return os.NewFile(uintptr(fd), name), st, nil
}

// OpenRegular opens a regular file of dir, and nothing else: no link, no device, no pipe
// that would block.
func OpenRegular(dir *Folder, name string) (*os.File, unix.Stat_t, error) {
	f, st, err := OpenAt(dir, name, unix.O_RDONLY)
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

// Missing lists the folders above path that are not there, the nearest first. leaves is a
// file or link among them that will have made way, or "".
func (t *Tree) Missing(path, leaves string) ([]string, error) {
	var dirs []string
	for p := ParentOf(path); p != "/"; p = ParentOf(p) {
		if leaves != "" && (p == leaves || Below(p, leaves)) {
			dirs = append(dirs, p)
			continue
		}

		f, err := t.Folder(p, false)
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

// A BlockedError says that somebody but root keeps a path from being reached.
type BlockedError struct {
	Path string
	By   string // whom what bars it belongs to
	Err  error
}

func (e *BlockedError) Error() string {
	return fmt.Sprintf("%s is barred by something of user %s: %v", e.Path, e.By, e.Err)
}

func (e *BlockedError) Unwrap() error { return e.Err }

// OwnerName names who owns what is open, by id where the name can't be had.
func (t *Tree) OwnerName(f *os.File, st *unix.Stat_t) string {
	if t.Owners != nil {
		if user, _, err := t.Owners.Owner(f, st); err == nil {
			return user
		}
	}
	return fmt.Sprint(st.Uid)
}
