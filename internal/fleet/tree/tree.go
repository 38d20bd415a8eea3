// Package tree reads one commit of a config repo, within the bounds of a budget.
//
// A Tree is the commit as an fs.FS. Where that knows the hashes of its files and folders, as git
// does, nothing is read to find out that it did not change. A Budget bounds what one load may read,
// list, parse and render in all.
package tree

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"bellhop/internal/archive"
	"bellhop/internal/bundle"
	"bellhop/internal/fleet/problem"
	"bellhop/internal/limits"
	"bellhop/internal/plain"
)

// MaxFile caps a file of the repo; what is larger belongs in a package.
const MaxFile = limits.RepoFile

// Hasher is a tree that knows what its files and folders hold without reading them.
type Hasher interface {
	Hash(name string) (string, bool)
}

// A Tree is one commit as the loader sees it. Where the tree knows no hashes, files are
// hashed by reading them, once a load.
type Tree struct {
	fs.FS
	hasher Hasher
	read   map[string][]byte // what was read for its hash
	budget *Budget
	Hints  problem.Hints

	outside outside
}

func New(fsys fs.FS, b *Budget) *Tree {
	h, _ := fsys.(Hasher)
	return &Tree{FS: fsys, hasher: h, read: map[string][]byte{}, budget: b}
}

// KnowsHashes says whether the tree can name the content of files and folders without reading them.
func (t *Tree) KnowsHashes() bool { return t.hasher != nil }

// Release ends a load: what was read for it goes, since secrets would stay otherwise, and no budget
// bounds what is read from now on.
func (t *Tree) Release() {
	if far, ok := t.FS.(interface{ Forget() }); ok {
		far.Forget()
	}
	t.read, t.budget = map[string][]byte{}, nil
}

// DirHash names the whole content of a folder, where the tree knows it.
func (t *Tree) DirHash(name string) string {
	if t.hasher == nil {
		return ""
	}
	h, _ := t.hasher.Hash(name)
	return h
}

// FileHash names the content of a file; it reads the file only if the tree can't say.
func (t *Tree) FileHash(name string) (string, error) {
	if t.hasher != nil {
		if h, ok := t.hasher.Hash(name); ok {
			return h, nil
		}
	}

	data, err := t.Bytes(name)
	if err != nil {
		return "", err
	}
	h := bundle.DigestBytes(data)
	t.read[name] = data
	return h, nil
}

var ErrTooLarge = errors.New("larger than 32 MiB")

// TooLargeHint say what to do with a file of a service that is too large for the repo.
const TooLargeHint = "larger than 32 MiB: a file of that size comes from a web server, by package: { url: https://…, sha256: … } in service.yaml; `sha256sum FILE` prints the sum"

// Bytes is the content of a file.
func (t *Tree) Bytes(name string) ([]byte, error) {
	if data, ok := t.read[name]; ok {
		return data, nil
	}
	t.budget.At(name)
	data, err := ReadFile(t.FS, name)
	if err != nil {
		return nil, err
	}
	return data, t.budget.read(int64(len(data)))
}

func ReadFile(fsys fs.FS, name string) ([]byte, error) {
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
	if info.Size() > MaxFile {
		return nil, ErrTooLarge
	}
	var b bytes.Buffer
	b.Grow(int(info.Size()) + bytes.MinRead)
	if _, err := b.ReadFrom(f); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if b.Len() > MaxFile {
		return nil, ErrTooLarge
	}
	return b.Bytes(), nil
}

// An Object is one file, link or folder in a listing.
type Object struct {
	Path string
	Mode fs.FileMode // type and permissions
	Hash string      // of a file; of a link its target
	odd  bool        // its name is not UTF-8: no file of the tree has the path, which shows it
}

func (o Object) Name() string { return path.Base(o.Path) }

// List lists one folder, without what is below. Hashes are not filled in.
func (t *Tree) List(dir string) ([]Object, error) {
	t.budget.At(dir)
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
	out := make([]Object, 0, len(des))
	for _, de := range des {
		o := Object{Path: path.Join(dir, de.Name()), Mode: de.Type()}
		if !utf8.ValidString(de.Name()) {
			o.odd, o.Path = true, path.Join(dir, strings.Trim(strconv.Quote(de.Name()), `"`))
		}
		if de.Type().IsRegular() {
			info, err := de.Info()
			if err != nil {
				return nil, err
			}
			o.Mode = info.Mode()
		}

		out = append(out, o)
	}

	return out, nil
}

// bare is err without the path that it names, since the message has it already.
func bare(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}

// Link reads where a link points.
func (t *Tree) Link(name string) (string, error) {
	target, err := fs.ReadLink(t.FS, name)
	if err != nil {
		return "", fmt.Errorf("read link %s: %w", name, err)
	}
	return target, nil
}

// Linked says whether name, or a folder above it, is a symbolic link. Git's hash of a link
// says nothing of what it leads to, so a change behind it would go unseen.
func (t *Tree) Linked(name string) bool {
	for p := name; p != "."; p = path.Dir(p) {
		if info, err := fs.Lstat(t.FS, p); err == nil && info.Mode()&fs.ModeSymlink != 0 {
			return true
		}
	}
	return false
}

// A Blob is what the loader remembers of a file's content.
type Blob struct {
	Digest string
	Size   int64
	LFS    bool
	Head   []byte // the first bytes of what begins as an archive
	Data   []byte // kept for what is parsed: units, templates, YAML
}

const lfsMagic = "version https://git-lfs.github.com/spec/"

func NewBlob(data []byte, keep bool) *Blob {
	b := &Blob{Digest: bundle.DigestBytes(data), Size: int64(len(data))}
	b.LFS = len(data) < 1024 && bytes.HasPrefix(data, []byte(lfsMagic))
	if head := data[:min(len(data), archive.SniffLen)]; archive.Sniff(head) != "" {
		b.Head = bytes.Clone(head)
	}
	if keep {
		b.Data = data
	}
	return b
}

// LinkTrouble is what is wrong with a symbolic link outside of files/.
const LinkTrouble = "a symbolic link: links are installed from below files/ only"

// BadObject says why an object of the tree may not be where it is; "" when it may.
func BadObject(o Object, links bool) string {
	switch {
	case o.odd:
		return "a name that is not UTF-8: rename it"
	case o.Mode&fs.ModeIrregular != 0:
		return "a submodule: its files are in another repo; copy them here, or use a package"
	case o.Mode&fs.ModeSymlink != 0 && !links:
		return LinkTrouble
	case o.Mode&fs.ModeSymlink != 0 || o.Mode.IsDir() || o.Mode.IsRegular():
		return ""
	}
	return "not a regular file"
}

// CaseLost ends what is said of twins.
const CaseLost = "a checkout on macOS or Windows holds only one of them"

// Twins calls f for names of one folder that differ only by case.
func Twins(os []Object, f func(a, b Object)) {
	seen := make(map[string]Object, len(os))
	for _, o := range os {
		key := strings.ToLower(o.Name())
		if was, ok := seen[key]; ok {
			f(was, o)
		}
		seen[key] = o
	}
}

// Ignored says whether a file of that name means nothing to bellhop. Nix files are read by Nix, for a host that
// names one of them or the flake.
func Ignored(name string) bool {
	isForPeople := strings.HasPrefix(name, "README") || strings.HasPrefix(name, "LICENSE") || strings.HasSuffix(name, ".md")
	return isForPeople || strings.HasPrefix(name, ".") || IsNix(name)
}

// IsNix says whether a file of that name is in the language of Nix.
func IsNix(name string) bool { return strings.HasSuffix(name, ".nix") }

// HasNix says whether one of os is a Nix file.
func HasNix(os []Object) bool {
	return slices.ContainsFunc(os, func(o Object) bool { return !o.Mode.IsDir() && IsNix(o.Name()) })
}

// IsNixFolder says whether o is a folder with Nix files in it, such as hosts/chrysalis with configuration.nix.
func (t *Tree) IsNixFolder(o Object) (bool, error) {
	if !o.Mode.IsDir() {
		return false, nil
	}
	inside, err := t.List(o.Path)
	return HasNix(inside), err
}
