package packages

import (
	"archive/tar"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"bellhop/internal/archive"
	"bellhop/internal/bundle"
)

// maxName is PATH_MAX of Linux, in bytes: what is longer nobody can open, and one name could make
// folders without end.
const maxName = 4096

// maxDepth is how many folders deep an entry may lie: each costs a system call for each entry.
const maxDepth = 100

// Caps bound what comes out of one archive. A cap of 0 is the usual one.
type Caps struct {
	Bytes   int64
	Entries int // files, links and folders
}

func (c Caps) orUsual() Caps {
	return Caps{cmp.Or(c.Bytes, 4<<30), cmp.Or(c.Entries, 200_000)}
}

// A Store keeps packages, each in a folder of its own.
type Store struct {
	Dir    string               // root's alone
	Caps   Caps                 // on one archive
	Syncfs func(*os.File) error // writes out the filesystem that a file lies on
}

// Name is the folder of a package in the store. The same archive unpacked in another way
// is another folder.
func Name(p bundle.Package) string {
	if p.Strip == 0 && !archive.IsSingle(p.Kind) {
		return p.Digest
	}
	how := fmt.Sprintf("%s\n%d\n%s", p.Kind, p.Strip, p.File)
	return p.Digest + "-" + bundle.DigestBytes([]byte(how))[:8]
}

// Has says whether the store has a package.
func (s *Store) Has(p bundle.Package) bool {
	st, err := os.Stat(filepath.Join(s.Dir, Name(p)))
	return err == nil && st.IsDir()
}

// Unpack puts p into the store from the archive at file, whose digest was verified. notes are what a
// person should hear of it.
func (s *Store) Unpack(p bundle.Package, file string) (notes []string, err error) {
	if s.Has(p) {
		return nil, s.ownName(p)
	}
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return nil, err
	}

	tmp := filepath.Join(s.Dir, ".new-"+Name(p))
	if err := RemoveTree(tmp); err != nil {
		return nil, err
	}
	if err := os.Mkdir(tmp, 0o755); err != nil {
		return nil, err
	}

	root, err := os.OpenRoot(tmp)
	if err != nil {
		return nil, err
	}
	defer root.Close()

	u := &unpacker{root: root, caps: s.Caps.orUsual(), strip: p.Strip, dirs: map[string]bool{".": true}}
	if err := u.unpack(p, file); err != nil {
		RemoveTree(tmp)
		return nil, fmt.Errorf("unpack package %s: %w", p.Name, err)
	}

	d, err := os.Open(tmp)
	if err != nil {
		return nil, err
	}
	defer d.Close()

	if err := s.Syncfs(d); err != nil {
		return nil, err
	}
	if err := os.Rename(tmp, filepath.Join(s.Dir, Name(p))); err != nil {
		return nil, err
	}

	return u.notes(p), s.ownName(p)
}

// ownName links a single file under the name that it has where it comes from, beside the name of its
// service: units may use either.
func (s *Store) ownName(p bundle.Package) error {
	if !archive.IsSingle(p.Kind) || p.As == "" || p.As == p.File {
		return nil
	}

	err := os.Symlink(p.File, filepath.Join(s.Dir, Name(p), p.As))
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// An unpacker writes the entries of one archive.
type unpacker struct {
	root    *os.Root
	caps    Caps
	strip   int
	size    int64
	entries int // folders that no entry of their own made among them
	dirs    map[string]bool
	written int      // files, folders and links
	links   []string // checked when all is there
	guessed []string // files of a zip without modes that were made executable
}

// notes are what a person should hear of p, once it is unpacked.
func (u *unpacker) notes(p bundle.Package) []string {
	if len(u.guessed) == 0 {
		return nil
	}

	names := strings.Join(u.guessed[:min(len(u.guessed), 5)], ", ")
	if n := len(u.guessed) - 5; n > 0 {
		names += fmt.Sprintf(" and %d more", n)
	}
	return []string{fmt.Sprintf("package %s is a zip without modes: %s made executable, by the first bytes", p.Name, names)}
}

func (u *unpacker) tar(t *tar.Reader) error {
	for {
		h, err := t.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return err
		}

		name, err := u.name(h.Name)
		if err != nil {
			return err
		}
		if name == "" {
			continue
		}

		switch h.Typeflag {
		case tar.TypeDir:
			u.written++
			err = u.mkdir(name)
		case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse: // the reader fills the holes of a sparse file with zeros
			err = u.sizedFile(name, fs.FileMode(h.Mode), h.Size, t)
		case tar.TypeSymlink:
			err = u.link(name, h.Linkname)
		case tar.TypeLink:
			err = u.hardlink(name, h.Linkname)
		case tar.TypeXGlobalHeader:
		default:
			err = fmt.Errorf("%s is a device, a pipe or worse", h.Name)
		}

		if err != nil {
			return err
		}
	}
}

// name strips leading elements, and refuses a path that leaves. "" is an entry to pass over.
func (u *unpacker) name(n string) (string, error) {
	if err := u.count(1); err != nil {
		return "", err
	}
	if len(n) > maxName {
		return "", fmt.Errorf("the name of entry %.40q… is too long", n)
	}
	if strings.HasPrefix(n, "/") || strings.ContainsRune(n, 0) {
		return "", fmt.Errorf("entry %q leaves the package", n)
	}

	var parts []string
	for _, p := range strings.Split(n, "/") {
		switch p {
		case "", ".":
		case "..":
			return "", fmt.Errorf("entry %q leaves the package", n)
		default:
			parts = append(parts, p)
		}
	}

	if len(parts) <= u.strip {
		return "", nil
	}
	if len(parts) > maxDepth {
		return "", fmt.Errorf("entry %.40q… lies more than %d folders deep", n, maxDepth)
	}

	return path.Join(parts[u.strip:]...), nil
}

// sizedFile is file, for an entry that says its size: what is too large is refused before a byte of it.
func (u *unpacker) sizedFile(name string, mode fs.FileMode, size int64, r io.Reader) error {
	if size > u.caps.Bytes-u.size {
		return fmt.Errorf("more than %d bytes unpacked", u.caps.Bytes)
	}
	return u.file(name, mode, r)
}

func (u *unpacker) count(n int) error {
	if u.entries += n; u.entries > u.caps.Entries {
		return tooMany(u.caps.Entries)
	}
	return nil
}

// mkdir makes a folder and those above it, each of which counts: an archive of two kilobytes can
// name a hundred thousand.
func (u *unpacker) mkdir(name string) error {
	var made []string
	for d := name; !u.dirs[d]; d = path.Dir(d) {
		made = append(made, d)
	}

	if err := u.count(len(made)); err != nil {
		return err
	}
	if err := u.root.MkdirAll(name, 0o755); err != nil {
		return err
	}

	for _, d := range made {
		u.dirs[d] = true
	}

	return nil
}

// remove makes room for an entry whose name another had before: it is replaced, and never
// written through.
func (u *unpacker) remove(name string) {
	if u.root.Remove(name) == nil {
		delete(u.dirs, name)
	}
}

func (u *unpacker) file(name string, mode fs.FileMode, r io.Reader) error {
	u.written++
	if err := u.mkdir(path.Dir(name)); err != nil {
		return err
	}

	u.remove(name)
	perm := fs.FileMode(0o644)
	if mode&0o111 != 0 {
		perm = 0o755
	}

	f, err := u.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return err
	}

	n, err := io.Copy(f, io.LimitReader(r, u.caps.Bytes-u.size+1))
	if u.size += n; u.size > u.caps.Bytes {
		err = fmt.Errorf("more than %d bytes unpacked", u.caps.Bytes)
	}
	if err == nil {
		err = f.Chmod(perm) // whatever the umask
	}

	return errors.Join(err, f.Close())
}

func (u *unpacker) link(name, target string) error {
	if path.IsAbs(target) || !filepath.IsLocal(path.Join(path.Dir(name), target)) {
		return fmt.Errorf("link %s leaves the package", name)
	}
	if err := u.mkdir(path.Dir(name)); err != nil {
		return err
	}

	u.written++
	u.remove(name)
	u.links = append(u.links, name)
	return u.root.Symlink(target, name)
}

func (u *unpacker) hardlink(name, target string) error {
	target, err := u.name(target)
	if err != nil || target == "" {
		return fmt.Errorf("link %s leaves the package", name)
	}
	if st, err := u.root.Lstat(target); err != nil || !st.Mode().IsRegular() {
		return fmt.Errorf("link %s to no file of the package", name)
	}
	if err := u.mkdir(path.Dir(name)); err != nil {
		return err
	}

	u.written++
	u.remove(name)
	return u.root.Link(target, name)
}

// checkLinks follows every link once all is there: two links that each stay inside can leave
// together. One that points at nothing is let pass.
func (u *unpacker) checkLinks() error {
	for _, name := range u.links {
		if _, err := u.root.Stat(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("link %s: %w", name, err)
		}
	}
	return nil
}

// RemoveTree removes a tree of bellhop's own, whatever its modes.
func RemoveTree(p string) error {
	filepath.WalkDir(p, func(p string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			os.Chmod(p, 0o700)
		}
		return nil
	})
	return os.RemoveAll(p)
}
