package host

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"bellhop/internal/bundle"
)

// Packages are unpacked into the store before anything is stopped: a broken archive is a
// refusal, and the time between stop and start does not grow with its size. The link that
// reaches a package is a thing like any other.
//
// An archive comes from the internet, known only by its digest. So: only folders, regular
// files and links that stay inside; no setuid, no device; no path that leaves; capped in
// bytes and in number. All goes through an os.Root of a folder that is bellhop's alone.

// maxName is PATH_MAX of Linux, in bytes: what is longer nobody can open, and one name could make
// folders without end.
const maxName = 4096

// maxDepth is how many folders deep an entry may lie: each costs a system call for each entry.
const maxDepth = 100

// The caps on one archive; a test lowers them.
var (
	maxUnpacked int64 = 4 << 30
	maxEntries        = 200_000
)

// storeName is the folder of a package in the store. The same archive unpacked in another way
// is another folder.
func storeName(p bundle.Package) string {
	if p.Strip == 0 && !bundle.IsSingle(p.Kind) {
		return p.Digest
	}
	how := fmt.Sprintf("%s\n%d\n%s", p.Kind, p.Strip, p.File)
	return p.Digest + "-" + bundle.DigestBytes([]byte(how))[:8]
}

func (m *Machine) hasPackage(p bundle.Package) bool {
	st, err := os.Stat(filepath.Join(m.at(bundle.StoreDir), storeName(p)))
	return err == nil && st.IsDir()
}

// unpack puts p into the store from the archive at file, whose digest was verified. notes are what a
// person should hear of it.
func (m *Machine) unpack(p bundle.Package, file string) (notes []string, err error) {
	if m.hasPackage(p) {
		return nil, m.ownName(p)
	}
	store := m.at(bundle.StoreDir)
	if err := os.MkdirAll(store, 0o755); err != nil {
		return nil, err
	}
	tmp := filepath.Join(store, ".new-"+storeName(p))
	if err := removeTree(tmp); err != nil {
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
	u := &unpacker{root: root, strip: p.Strip, dirs: map[string]bool{".": true}}
	if err := u.unpack(p, file); err != nil {
		removeTree(tmp)
		return nil, fmt.Errorf("unpack package %s: %w", p.Name, err)
	}
	d, err := os.Open(tmp)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	if err := m.syncfs(d); err != nil {
		return nil, err
	}
	if err := os.Rename(tmp, filepath.Join(store, storeName(p))); err != nil {
		return nil, err
	}
	return u.notes(p), m.ownName(p)
}

// ownName links a single file under the name that it has where it comes from, beside the name of its
// service: units may use either.
func (m *Machine) ownName(p bundle.Package) error {
	if !bundle.IsSingle(p.Kind) || p.As == "" || p.As == p.File {
		return nil
	}
	err := os.Symlink(p.File, filepath.Join(m.at(bundle.StoreDir), storeName(p), p.As))
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// An unpacker writes the entries of one archive.
type unpacker struct {
	root    *os.Root
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
	if size > maxUnpacked-u.size {
		return fmt.Errorf("more than %d bytes unpacked", maxUnpacked)
	}
	return u.file(name, mode, r)
}

func (u *unpacker) count(n int) error {
	if u.entries += n; u.entries > maxEntries {
		return tooMany(maxEntries)
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
	n, err := io.Copy(f, io.LimitReader(r, maxUnpacked-u.size+1))
	if u.size += n; u.size > maxUnpacked {
		err = fmt.Errorf("more than %d bytes unpacked", maxUnpacked)
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

// removeTree removes a tree of bellhop's own, whatever its modes.
func removeTree(p string) error {
	filepath.WalkDir(p, func(p string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			os.Chmod(p, 0o700)
		}
		return nil
	})
	return os.RemoveAll(p)
}
