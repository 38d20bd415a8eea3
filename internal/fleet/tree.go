package fleet

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"unicode/utf8"

	"bellhop/internal/bundle"
	"bellhop/internal/limits"
	"bellhop/internal/plain"
)

// maxBlob caps a file of the repo; what is larger belongs in a package.
const maxBlob = limits.RepoFile

// hasher is a tree that knows what its files and folders hold without reading them.
type hasher interface {
	Hash(name string) (string, bool)
}

// A tree is one commit as the loader sees it. Where the tree knows no hashes, files are
// hashed by reading them, once a load.
type tree struct {
	fs.FS
	hasher hasher
	read   map[string][]byte // what was read for its hash
	budget *budget
	hints  hints

	outside outside
}

func newTree(fsys fs.FS, b *budget) *tree {
	h, _ := fsys.(hasher)
	return &tree{FS: fsys, hasher: h, read: map[string][]byte{}, budget: b}
}

// dirHash names the whole content of a folder, where the tree knows it.
func (t *tree) dirHash(name string) string {
	if t.hasher == nil {
		return ""
	}
	h, _ := t.hasher.Hash(name)
	return h
}

// fileHash names the content of a file; it reads the file only if the tree can't say.
func (t *tree) fileHash(name string) (string, error) {
	if t.hasher != nil {
		if h, ok := t.hasher.Hash(name); ok {
			return h, nil
		}
	}
	data, err := t.bytes(name)
	if err != nil {
		return "", err
	}
	h := bundle.DigestBytes(data)
	t.read[name] = data
	return h, nil
}

var errTooLarge = errors.New("larger than 32 MiB")

// tooLargeWords say what to do with a file of a service that is too large for the repo.
const tooLargeWords = "larger than 32 MiB: a file of that size comes from a web server, by package: { url: https://…, sha256: … } in service.yaml; `sha256sum FILE` prints the sum"

// bytes is the content of a file.
func (t *tree) bytes(name string) ([]byte, error) {
	if data, ok := t.read[name]; ok {
		return data, nil
	}
	t.budget.at(name)
	data, err := readBlob(t.FS, name)
	if err != nil {
		return nil, err
	}
	return data, t.budget.read(int64(len(data)))
}

func readBlob(fsys fs.FS, name string) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read %s: not a regular file", name)
	}
	if info.Size() > maxBlob {
		return nil, errTooLarge
	}
	var b bytes.Buffer
	b.Grow(int(info.Size()) + bytes.MinRead)
	if _, err := b.ReadFrom(f); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if b.Len() > maxBlob {
		return nil, errTooLarge
	}
	return b.Bytes(), nil
}

// An object is one file, link or folder in a listing.
type object struct {
	path string
	mode fs.FileMode // type and permissions
	hash string      // of a file; of a link its target
	odd  bool        // its name is not UTF-8: no file of the tree has the path, which shows it
}

func (o object) name() string { return path.Base(o.path) }

// list lists one folder, without what is below. Hashes are not filled in.
func (t *tree) list(dir string) ([]object, error) {
	t.budget.at(dir)
	des, err := fs.ReadDir(t.FS, dir)
	if errors.Is(err, fs.ErrInvalid) { // no fault of the disk, nor of the repo
		return nil, t.budget.spend(plain.Line(bare(err), 200))
	}
	if err == nil {
		err = t.budget.list(len(des))
	}
	if err != nil {
		return nil, err
	}
	out := make([]object, 0, len(des))
	for _, de := range des {
		o := object{path: path.Join(dir, de.Name()), mode: de.Type()}
		if !utf8.ValidString(de.Name()) {
			o.odd, o.path = true, path.Join(dir, strings.Trim(strconv.Quote(de.Name()), `"`))
		}
		if de.Type().IsRegular() {
			info, err := de.Info()
			if err != nil {
				return nil, err
			}
			o.mode = info.Mode()
		}
		out = append(out, o)
	}
	return out, nil
}

// bare is err without the path that it names, which stands beside it.
func bare(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}

// link reads where a link points.
func (t *tree) link(name string) (string, error) {
	target, err := fs.ReadLink(t.FS, name)
	if err != nil {
		return "", fmt.Errorf("read link %s: %w", name, err)
	}
	return target, nil
}

// linked tells whether name, or a folder above it, is a symbolic link. Git's hash of a link
// says nothing of what it leads to, so a change behind it would go unseen.
func (t *tree) linked(name string) bool {
	for p := name; p != "."; p = path.Dir(p) {
		if info, err := fs.Lstat(t.FS, p); err == nil && info.Mode()&fs.ModeSymlink != 0 {
			return true
		}
	}
	return false
}

// A blob is what the loader remembers of a file's content.
type blob struct {
	digest string
	size   int64
	lfs    bool
	head   []byte // the first bytes of what begins as an archive
	data   []byte // kept for what is parsed: units, templates, YAML
}

const lfsMagic = "version https://git-lfs.github.com/spec/"

func newBlob(data []byte, keep bool) *blob {
	b := &blob{digest: bundle.DigestBytes(data), size: int64(len(data))}
	b.lfs = len(data) < 1024 && bytes.HasPrefix(data, []byte(lfsMagic))
	if head := data[:min(len(data), bundle.SniffLen)]; bundle.Sniff(head) != "" {
		b.head = bytes.Clone(head)
	}
	if keep {
		b.data = data
	}
	return b
}

// badObject says why a thing of the tree may not stand where it does; "" when it may.
func badObject(o object, links bool) string {
	switch {
	case o.odd:
		return "a name that is not UTF-8: rename it"
	case o.mode&fs.ModeIrregular != 0:
		return "a submodule: its files are in another repo; copy them here, or use a package"
	case o.mode&fs.ModeSymlink != 0 && !links:
		return "a symbolic link: links are installed from below files/ only"
	case o.mode&fs.ModeSymlink != 0 || o.mode.IsDir() || o.mode.IsRegular():
		return ""
	}
	return "not a regular file"
}

// caseLost ends what is said of twins.
const caseLost = "a checkout on macOS or Windows holds only one of them"

// twins calls f for names of one folder that differ only by case.
func twins(os []object, f func(a, b object)) {
	seen := make(map[string]object, len(os))
	for _, o := range os {
		key := strings.ToLower(o.name())
		if was, ok := seen[key]; ok {
			f(was, o)
		}
		seen[key] = o
	}
}
