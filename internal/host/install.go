package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"sort"
	"strings"

	"golang.org/x/sys/unix"

	"bellhop/internal/bundle"
)

// fewFiles is up to how many files are synced one by one. A syncfs also waits for what others
// wrote, so it pays only for more.
const fewFiles = 12

// A put is one path that changes.
type put struct {
	Path string `json:"path"`
	Was  thing  `json:"was"`  // what stands there before the run
	Want thing  `json:"want"` // what shall stand there

	Shared bool `json:"shared,omitempty"` // somebody but root could have put Was there
	Back   bool `json:"back,omitempty"`   // Want is what stood there once
}

// undone is the put that brings back what stood at p's path, where is stands now.
func (p put) undone(is thing) put {
	q := put{Path: p.Path, Was: is, Want: p.Was, Back: true}
	if p.Shared {
		q.Want = q.Want.plain()
	}
	return q
}

// mode is what the file of p gets in a folder. What comes back is setuid only where nobody but
// root can have made it so.
func (p put) mode(dir *folder) uint32 {
	if p.Back && dir.Shared {
		return p.Want.plain().Mode
	}
	return p.Want.Mode
}

func parentOf(p string) string { return path.Dir(path.Clean(p)) }

// beside is the name under which a new file waits in its folder. It follows from the path
// alone, so whoever undoes a killed run finds what it left.
func beside(p string) string { return ".bellhop-" + bundle.DigestBytes([]byte(p))[:16] }

// An installer brings paths to what they shall be: all are written beside their place and
// synced, then all are renamed, then the folders are synced. A reader may see old and new
// for the length of the renames, and a half-written file never.
type installer struct {
	m       *Machine
	step    func(path string)  // after each rename
	folders map[string]*folder // open, by path
}

// install does what puts say. It may be done again after it was cut off.
func (m *Machine) install(puts []put, step func(string)) error {
	in := &installer{m: m, step: step, folders: map[string]*folder{}}
	err := in.run(puts)
	for _, f := range in.folders {
		f.Close()
	}
	return err
}

func (in *installer) run(puts []put) error {
	puts, err := in.clearWay(puts)
	if err != nil {
		return err
	}
	files := 0
	for _, p := range puts {
		if p.Want.Kind == aFile {
			files++
		}
	}
	for _, p := range puts {
		if err := in.write(p, files <= fewFiles); err != nil {
			return fmt.Errorf("write %s: %w", p.Path, locked(err))
		}
	}
	if files > fewFiles {
		if err := in.syncFilesystems(); err != nil {
			return err
		}
	}
	for _, p := range puts {
		if err := in.move(p); err != nil {
			return fmt.Errorf("replace %s: %w", p.Path, locked(err))
		}
		in.step(p.Path)
	}
	for _, f := range in.folders {
		if err := in.m.sync(f.File); err != nil {
			return err
		}
	}
	return nil
}

// locked says what root is denied for: somebody took the right from everyone.
func locked(err error) error {
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%w: is it, or its folder, immutable? lsattr shows that, chattr -i ends it", err)
	}
	return err
}

// folder opens the folder of p once. To remove something no folder is made.
func (in *installer) folder(p put) (*folder, error) {
	dir := parentOf(p.Path)
	if f := in.folders[dir]; f != nil {
		return f, nil
	}
	f, err := in.m.folder(dir, p.Want.Kind != nothing)
	if err == nil {
		in.folders[dir] = f
	}
	return f, err
}

func (in *installer) write(p put, sync bool) error {
	if p.Want.Kind == nothing {
		return nil
	}
	dir, err := in.folder(p)
	if err != nil {
		return err
	}
	tmp := beside(p.Path)
	if err := unix.Unlinkat(dir.fd(), tmp, 0); err != nil && err != unix.ENOENT {
		return err
	}
	f, err := in.create(dir, tmp, p)
	if err != nil {
		return err
	}
	return errors.Join(in.fill(dir, f, p, sync), f.Close())
}

func (in *installer) create(dir *folder, tmp string, p put) (*os.File, error) {
	if p.Want.Kind == aLink {
		return createLink(dir, tmp, p.Want.Target)
	}
	return create(dir, tmp)
}

func (in *installer) fill(dir *folder, f *os.File, p put, sync bool) error {
	if p.Want.Kind == aLink {
		return in.m.Accounts.Chown(f, p.Path, p.Want.User, p.Want.Group)
	}
	if err := in.m.copyBlob(f, p.Want.Digest); err != nil {
		return err
	}
	if err := in.m.Accounts.Chown(f, p.Path, p.Want.User, p.Want.Group); err != nil {
		return err
	}
	// After chown, which would clear setuid; by descriptor, so the name may be swapped.
	if err := unix.Fchmod(int(f.Fd()), p.mode(dir)); err != nil {
		return err
	}
	if sync {
		return in.m.sync(f)
	}
	return nil
}

func (in *installer) move(p put) error {
	dir, err := in.folder(p)
	if p.Want.Kind == nothing && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	name := path.Base(p.Path)
	if p.Want.Kind == nothing {
		if err := unix.Unlinkat(dir.fd(), name, 0); err != nil && err != unix.ENOENT {
			return err
		}
		return nil
	}
	// Who owns the folder may have put something else there by now. That is his to do, a moment
	// later too: the next look finds it.
	return unix.Renameat(dir.fd(), beside(p.Path), dir.fd(), name)
}

// syncFilesystems writes out each filesystem that a file was written to, once, and always
// before the first rename.
func (in *installer) syncFilesystems() error {
	seen := map[uint64]bool{}
	for _, f := range in.folders {
		var st unix.Stat_t
		if err := unix.Fstat(f.fd(), &st); err != nil {
			return err
		}
		if seen[st.Dev] {
			continue
		}
		seen[st.Dev] = true
		if err := in.m.syncfs(f.File); err != nil {
			return err
		}
	}
	return nil
}

// create makes a new file that nobody else can open, in a folder that is held open.
func create(dir *folder, name string) (*os.File, error) {
	fd, err := unix.Openat(dir.fd(), name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// createLink makes a new link, and opens it itself. Only what nobody else can have put there by
// then is taken.
func createLink(dir *folder, name, target string) (*os.File, error) {
	if err := unix.Symlinkat(target, dir.fd(), name); err != nil {
		return nil, err
	}
	f, st, err := openAt(dir, name, unix.O_PATH)
	if err != nil {
		return nil, err
	}
	is, err := readLink(int(f.Fd()))
	ours := st.Uid == uint32(os.Geteuid()) && st.Nlink == 1
	if err != nil || is != target || !ours {
		f.Close()
		return nil, errors.Join(err, fmt.Errorf("somebody exchanged the link that was made there"))
	}
	return f, nil
}

// sweep removes what an installer that was killed left beside these paths.
func (m *Machine) sweep(puts []put) {
	for _, p := range puts {
		dir, _, err := m.parent(p.Path, false)
		if err != nil {
			continue
		}
		unix.Unlinkat(dir.fd(), beside(p.Path), 0)
		dir.Close()
	}
}

// removeFolders removes those of dirs that are empty, the deepest first, and returns those
// that stay.
func (m *Machine) removeFolders(dirs []string) (left []string) {
	dirs = append([]string(nil), dirs...)
	sort.Slice(dirs, func(i, j int) bool { return strings.Count(dirs[i], "/") > strings.Count(dirs[j], "/") })
	for _, d := range dirs {
		up, name, err := m.parent(d, false)
		if err != nil {
			if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
				left = append(left, d)
			}
			continue
		}
		err = unix.Unlinkat(up.fd(), name, unix.AT_REMOVEDIR)
		up.Close()
		if err != nil && err != unix.ENOENT && err != unix.ENOTDIR {
			left = append(left, d)
		}
	}
	sort.Strings(left)
	return left
}
