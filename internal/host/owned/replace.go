package owned

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"sort"
	"strings"

	"golang.org/x/sys/unix"

	"bellhop/internal/bundle"
)

// fewFiles is up to how many files are synced one by one. A syncfs also waits for what others
// wrote, so it pays only for more.
const fewFiles = 12

// A Change is one path that changes.
type Change struct {
	Path string `json:"path"`
	Was  Entry  `json:"was"`  // what stands there before the run
	Want Entry  `json:"want"` // what shall stand there

	Shared bool `json:"shared,omitempty"` // somebody but root could have put Was there
	Back   bool `json:"back,omitempty"`   // Want is what stood there once
}

// Undone is the change that brings back what stood at p's path, where is stands now.
func (p Change) Undone(is Entry) Change {
	q := Change{Path: p.Path, Was: is, Want: p.Was, Shared: p.Shared, Back: true}
	if p.Shared {
		q.Want = q.Want.Plain()
	}
	return q
}

// mode is what the file of p gets in a folder. What comes back is setuid only where nobody but
// root can have made it so.
func (p Change) mode(dir *Folder) uint32 {
	if p.Back && dir.Shared {
		return p.Want.Plain().Mode
	}
	return p.Want.Mode
}

// ParentOf is the folder that p lies in.
func ParentOf(p string) string { return path.Dir(path.Clean(p)) }

// beside is the name under which a new file waits in its folder. It follows from the path
// alone, so whoever undoes a killed run finds what it left.
func beside(p string) string { return ".bellhop-" + bundle.DigestBytes([]byte(p))[:16] }

// A replacer brings paths to what they shall be: all are written beside their place and
// synced, then all are renamed, then the folders are synced. A reader may see old and new
// for the length of the renames, and a half-written file never.
type replacer struct {
	t       *Tree
	blobs   *Blobs
	step    Step
	folders map[string]*Folder // open, by path
	written map[string]Stamp   // files that wait beside their place, by path
}

// A Step is told of each path that was replaced or removed. is is the file that was put there; zero where
// none was, or where somebody wrote to it already.
type Step func(path string, is Stamp)

// Replace does what changes say. It may be done again after it was cut off.
func (t *Tree) Replace(blobs *Blobs, changes []Change, step Step) error {
	in := &replacer{t: t, blobs: blobs, step: step, folders: map[string]*Folder{}, written: map[string]Stamp{}}
	err := in.run(changes)
	for _, f := range in.folders {
		f.Close()
	}
	return err
}

func (in *replacer) run(changes []Change) error {
	changes, err := in.clearWay(changes)
	if err != nil {
		return err
	}

	files := 0
	for _, p := range changes {
		if p.Want.Kind == File {
			files++
		}
	}

	for _, p := range changes {
		if err := in.write(p, files <= fewFiles); err != nil {
			return &ChangeError{p.Path, fmt.Errorf("write %s: %w", p.Path, Locked(err))}
		}
	}

	if files > fewFiles {
		if err := in.syncFilesystems(); err != nil {
			return err
		}
	}

	for _, p := range changes {
		if err := in.move(p); err != nil {
			return &ChangeError{p.Path, fmt.Errorf("replace %s: %w", p.Path, Locked(err))}
		}
		in.step(p.Path, in.stamp(p))
	}

	for _, f := range in.folders {
		if err := in.t.Disk.Sync(f.File); err != nil {
			return err
		}
	}

	return nil
}

// A ChangeError says that one path could not be changed.
type ChangeError struct {
	Path string
	Err  error
}

func (e *ChangeError) Error() string { return e.Err.Error() }

func (e *ChangeError) Unwrap() error { return e.Err }

// IsOfPath says that what is in the way is at that path alone, such as a file that is immutable or a mount
// point. A disk that is full or broken is in the way of others too.
func (e *ChangeError) IsOfPath() bool {
	var blocked *BlockedError
	return errors.As(e.Err, &blocked) || e.IsTaken() || e.is(unix.EPERM, unix.EBUSY, unix.ETXTBSY)
}

// IsTaken says that something of another kind stands at the path, or above it. Whoever may write there can do that.
func (e *ChangeError) IsTaken() bool {
	return e.IsOfFolder() || e.is(unix.EISDIR, unix.ELOOP, unix.ENOTEMPTY)
}

// IsOfFolder says that the folder of the path is none.
func (e *ChangeError) IsOfFolder() bool { return e.is(unix.ENOTDIR) }

func (e *ChangeError) is(of ...error) bool {
	return slices.ContainsFunc(of, func(errno error) bool { return errors.Is(e.Err, errno) })
}

// Locked says what root is denied for: somebody took the right from everyone.
func Locked(err error) error {
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%w: is it, or its folder, immutable? lsattr shows that, chattr -i ends it", err)
	}
	return err
}

// folder opens the folder of p once. To remove something no folder is made.
func (in *replacer) folder(p Change) (*Folder, error) {
	dir := ParentOf(p.Path)
	if f := in.folders[dir]; f != nil {
		return f, nil
	}

	f, err := in.t.Folder(dir, p.Want.Kind != Nothing)
	if err == nil {
		in.folders[dir] = f
	}

	return f, err
}

func (in *replacer) write(p Change, sync bool) error {
	if p.Want.Kind == Nothing {
		return nil
	}

	dir, err := in.folder(p)
	if err != nil {
		return err
	}

	tmp := beside(p.Path)
	if err := unix.Unlinkat(dir.FD(), tmp, 0); err != nil && err != unix.ENOENT {
		return err
	}

	f, err := in.create(dir, tmp, p)
	if err != nil {
		return err
	}

	return errors.Join(in.fill(dir, f, p, sync), f.Close())
}

func (in *replacer) create(dir *Folder, tmp string, p Change) (*os.File, error) {
	if p.Want.Kind == Link {
		return createLink(dir, tmp, p.Want.Target)
	}
	return create(dir, tmp)
}

func (in *replacer) fill(dir *Folder, f *os.File, p Change, sync bool) error {
	if p.Want.Kind == Link {
		return in.t.Owners.Chown(f, p.Path, p.Want.User, p.Want.Group)
	}
	if err := in.blobs.copyTo(f, p.Want.Digest); err != nil {
		return err
	}
	if err := in.t.Owners.Chown(f, p.Path, p.Want.User, p.Want.Group); err != nil {
		return err
	}
	// After chown, which would clear setuid; by descriptor, so the name may be swapped.
	if err := unix.Fchmod(int(f.Fd()), p.mode(dir)); err != nil {
		return err
	}
	if sync {
		if err := in.t.Disk.Sync(f); err != nil {
			return err
		}
	}

	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	in.written[p.Path] = stampOf(&st)
	return nil
}

// stamp is that of the file that was renamed to the path of p, which changed one of its times. It is zero
// when that is not the file any more, or not as it was written.
func (in *replacer) stamp(p Change) Stamp {
	was, ok := in.written[p.Path]
	if !ok {
		return Stamp{}
	}

	f, st, err := OpenAt(in.folders[ParentOf(p.Path)], path.Base(p.Path), unix.O_PATH)
	if err != nil {
		return Stamp{}
	}
	f.Close()

	is := stampOf(&st)
	if was.Changed = is.Changed; is != was {
		return Stamp{}
	}
	return is
}

func (in *replacer) move(p Change) error {
	dir, err := in.folder(p)
	if p.Want.Kind == Nothing && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}

	name := path.Base(p.Path)
	if p.Want.Kind == Nothing {
		if err := unix.Unlinkat(dir.FD(), name, 0); err != nil && err != unix.ENOENT {
			return err
		}
		return nil
	}

	// Who owns the folder may have put something else there by now. That is his to do, a moment
	// later too: the next look finds it.
	return unix.Renameat(dir.FD(), beside(p.Path), dir.FD(), name)
}

// syncFilesystems writes out each filesystem that a file was written to, once, and always
// before the first rename.
func (in *replacer) syncFilesystems() error {
	seen := map[uint64]bool{}
	for _, f := range in.folders {
		var st unix.Stat_t
		if err := unix.Fstat(f.FD(), &st); err != nil {
			return err
		}
		if seen[st.Dev] {
			continue
		}

		seen[st.Dev] = true
		if err := in.t.Disk.Syncfs(f.File); err != nil {
			return err
		}
	}

	return nil
}

// create makes a new file that nobody else can open, in a folder that is held open.
func create(dir *Folder, name string) (*os.File, error) {
	fd, err := unix.Openat(dir.FD(), name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// createLink makes a new link, and opens it itself. Only what nobody else can have put there by
// then is taken.
func createLink(dir *Folder, name, target string) (*os.File, error) {
	if err := unix.Symlinkat(target, dir.FD(), name); err != nil {
		return nil, err
	}

	f, st, err := OpenAt(dir, name, unix.O_PATH)
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

// Sweep removes what an replacer that was killed left beside these paths.
func (t *Tree) Sweep(changes []Change) {
	for _, p := range changes {
		dir, _, err := t.Parent(p.Path, false)
		if err != nil {
			continue
		}

		unix.Unlinkat(dir.FD(), beside(p.Path), 0)
		dir.Close()
	}
}

// RemoveFolders removes those of dirs that are empty, the deepest first, and returns those
// that stay.
func (t *Tree) RemoveFolders(dirs []string) (left []string) {
	dirs = append([]string(nil), dirs...)
	sort.Slice(dirs, func(i, j int) bool { return strings.Count(dirs[i], "/") > strings.Count(dirs[j], "/") })
	for _, d := range dirs {
		up, name, err := t.Parent(d, false)
		if err != nil {
			if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
				left = append(left, d)
			}
			continue
		}

		err = unix.Unlinkat(up.FD(), name, unix.AT_REMOVEDIR)
		up.Close()
		if err != nil && err != unix.ENOENT && err != unix.ENOTDIR {
			left = append(left, d)
		}
	}

	sort.Strings(left)
	return left
}

// clearWay removes what leaves and stands where a folder of another path is to be, or below
// where a file is to be. It returns what is left to do.
func (in *replacer) clearWay(changes []Change) (rest []Change, err error) {
	var folders []string
	for _, p := range changes {
		if p.Want.Kind != Nothing || !inTheWay(p.Path, changes, &folders) {
			rest = append(rest, p)
			continue
		}
		if err := in.move(p); err != nil {
			return nil, err
		}

		in.step(p.Path, Stamp{})
	}

	in.t.RemoveFolders(folders)
	return rest, nil
}

// inTheWay also adds the folders that are in the way together with p.
func inTheWay(p string, changes []Change, folders *[]string) bool {
	way := false
	for _, q := range changes {
		switch {
		case q.Want.Kind == Nothing:
		case Below(q.Path, p):
			way = true
		case Below(p, q.Path):
			way = true
			for up := ParentOf(p); up == q.Path || Below(up, q.Path); up = ParentOf(up) {
				*folders = append(*folders, up)
			}
		}
	}

	return way
}

// Below says whether p lies below dir.
func Below(p, dir string) bool { return strings.HasPrefix(p, dir+"/") }
