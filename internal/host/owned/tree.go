package owned

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks is how many links one path may pass, as in the kernel.
const maxLinks = 40

const openFolder = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC

// Owners tells whose an open file is, and gives it to somebody.
type Owners interface {
	Owner(f *os.File, st *unix.Stat_t) (user, group string, err error)
	Chown(f *os.File, path, user, group string) error
}

// A Tree is the files of a host.
type Tree struct {
	Root   string // "/", or the folder that stands for it
	Owners Owners
	Disk   Disk
}

// A Disk makes what was written outlive a power cut.
type Disk interface {
	Sync(f *os.File) error   // one file or folder
	Syncfs(f *os.File) error // the whole filesystem that it lies on
}

// RealDisk is that of the computer.
type RealDisk struct{}

// Sync is fsync.
func (RealDisk) Sync(f *os.File) error { return f.Sync() }

// Syncfs is syncfs.
func (RealDisk) Syncfs(f *os.File) error { return unix.Syncfs(int(f.Fd())) }

// A walker goes down one path. folders are open from the root to where it stands.
type walker struct {
	t       *Tree
	folders []*os.File
	names   []string // of folders[1:], so that what is made can be named
	rest    []string // what is left of the path, where the walk ended early
	links   int
	shared  bool // a folder on the way is another's, or others may write to it
}

// A Folder is one that is held open. What is done in it is done by its descriptor.
type Folder struct {
	*os.File
	// Shared says that somebody but root could have changed what lies in it: it, or a folder on
	// the way to it, is another's, or group or others may write to it.
	Shared bool
}

// FD is its descriptor.
func (f *Folder) FD() int { return int(f.Fd()) }

// Folder opens the folder at p. With create, missing ones are made, root's 0755.
func (t *Tree) Folder(p string, create bool) (*Folder, error) {
	root, err := os.Open(filepath.Join(t.Root, "/"))
	if err != nil {
		return nil, err
	}
	return t.folderFrom(root, p, create)
}

// FolderBelow opens the folder at p, which begins at dir.
func (t *Tree) FolderBelow(dir *os.File, p string, create bool) (*Folder, error) {
	fd, err := unix.Openat(int(dir.Fd()), ".", openFolder, 0)
	if err != nil {
		return nil, err
	}
	return t.folderFrom(os.NewFile(uintptr(fd), dir.Name()), p, create)
}

// folderFrom opens the folder at p, which begins at root. It closes root.
func (t *Tree) folderFrom(root *os.File, p string, create bool) (*Folder, error) {
	w := &walker{t: t, folders: []*os.File{root}}
	err := w.walk(p, create)
	last := w.folders[len(w.folders)-1]
	for _, f := range w.folders[:len(w.folders)-1] {
		f.Close()
	}

	if err != nil {
		last.Close()
		return nil, fmt.Errorf("open %s: %w", p, err)
	}

	return &Folder{last, w.shared}, nil
}

// Parent opens the folder that p lies in, and returns p's last component.
func (t *Tree) Parent(p string, create bool) (*Folder, string, error) {
	dir, name := path.Split(path.Clean(p))
	named := name != "" && name != "." && name != ".."
	if !named || !strings.HasPrefix(p, "/") {
		return nil, "", fmt.Errorf("path %q is not absolute, or names no file", p)
	}
	f, err := t.Folder(dir, create)
	return f, name, err
}

func (w *walker) walk(p string, create bool) error {
	rest := strings.Split(p, "/")
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			w.up(len(w.folders) - 1)
			continue
		}

		err := w.down(name, create)
		if err == unix.ENOTDIR || err == unix.ELOOP {
			var target string
			if target, err = w.link(name); err == nil {
				rest = append(strings.Split(target, "/"), rest...)
			}
		}
		if err != nil {
			w.rest = append([]string{name}, rest...)
			return w.barred(name, err)
		}
	}

	return nil
}

// barred is err, and whose fault it is where the folder that w stands in is not root's alone. What
// is missing is nobody's fault.
func (w *walker) barred(name string, err error) error {
	if !w.shared || errors.Is(err, fs.ErrNotExist) || err == unix.ENOTDIR {
		return err
	}

	here := w.folders[len(w.folders)-1]
	f, st, open := OpenAt(&Folder{File: here}, name, unix.O_PATH)
	if open != nil {
		return err
	}
	defer f.Close()

	return &BlockedError{"/" + path.Join(append(slices.Clone(w.names), name)...), w.t.OwnerName(f, &st), err}
}

// up closes all but the first n folders; the root stays.
func (w *walker) up(n int) {
	n = max(n, 1)
	for len(w.folders) > n {
		w.folders[len(w.folders)-1].Close()
		w.folders = w.folders[:len(w.folders)-1]
		w.names = w.names[:len(w.names)-1]
	}
}

func (w *walker) down(name string, create bool) error {
	here := int(w.folders[len(w.folders)-1].Fd())
	fd, err := unix.Openat(here, name, openFolder, 0)
	if err == unix.ENOENT && create {
		// Its mode is that of mkdir, for which Main sets the umask: by the time of a chmod the name
		// may mean a folder that shall stay closed.
		if err = unix.Mkdirat(here, name, 0o755); err != nil && err != unix.EEXIST {
			return err
		}
		fd, err = unix.Openat(here, name, openFolder, 0)
	}
	if err != nil {
		return err
	}

	w.folders = append(w.folders, os.NewFile(uintptr(fd), name))
	w.names = append(w.names, name)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}

	w.shared = w.shared || !rootsAlone(&st)
	return nil
}

// rootsAlone says whether a folder belongs to root (in a test: to us), and nobody else may write
// to it. An access list that lets somebody write shows in the bits of the group.
func rootsAlone(st *unix.Stat_t) bool {
	return st.Uid == uint32(os.Geteuid()) && st.Mode&0o022 == 0
}

// link reads the link name in the folder where w stands, if it may be followed, and goes to
// the root when it is absolute. The link is held open while it is judged and read, so that
// what was judged is what is followed.
func (w *walker) link(name string) (string, error) {
	if w.links++; w.links > maxLinks {
		return "", unix.ELOOP
	}

	here := int(w.folders[len(w.folders)-1].Fd())
	fd, err := unix.Openat(here, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)

	var l, d unix.Stat_t
	if err := errors.Join(unix.Fstat(fd, &l), unix.Fstat(here, &d)); err != nil {
		return "", err
	}
	if l.Mode&unix.S_IFMT != unix.S_IFLNK {
		return "", unix.ENOTDIR
	}
	if l.Uid != uint32(os.Geteuid()) || !rootsAlone(&d) {
		return "", fmt.Errorf("link %s/%s does not belong to root alone: %w",
			"/"+strings.Join(w.names, "/"), name, fs.ErrPermission)
	}

	target, err := readLink(fd)
	if err != nil {
		return "", err
	}
	if strings.HasPrefix(target, "/") {
		w.up(1)
	}

	return target, nil
}
