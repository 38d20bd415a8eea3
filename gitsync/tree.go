package gitsync

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"

	"bellhop/gitsync/bare"
	"bellhop/gitsync/objects"
	"bellhop/internal/dirfile"
)

// MaxFile is the largest file that a tree serves. Larger things belong in a package.
const MaxFile = objects.MaxBlob

// A Tree is a folder of one commit, as fs.FS, fs.ReadFileFS, fs.ReadDirFS, fs.StatFS,
// fs.SubFS and fs.ReadLinkFS. It never changes and may be read from many goroutines.
//
// Links are listed as fs.ModeSymlink and followed by Open, Stat and ReadFile as long as they
// stay in the tree. Submodules are listed as fs.ModeIrregular and are empty.
type Tree struct {
	repo  *Repo
	root  plumbing.Hash // links may lead anywhere below it
	dir   string        // what "." is, below root; "" is root itself
	time  time.Time
	cache *treeCache
}

// errSize is in the error of a file that is larger than MaxFile.
var errSize = fmt.Errorf("larger than %d MiB: use a package", MaxFile>>20)

// An entry is one name of a folder.
type entry struct {
	name string
	hash plumbing.Hash
	mode fs.FileMode
}

// Hash is git's object id of a file or folder: equal ids mean equal content. Links are not
// followed.
func (t *Tree) Hash(name string) (string, bool) {
	e, err := t.lookup("hash", name, false)
	if err != nil {
		return "", false
	}

	return e.hash.String(), true
}

// BlobsRead counts the files of this snapshot whose content was read.
func (t *Tree) BlobsRead() int64 { return t.cache.blobs.Load() }

// Open opens a file or folder. The content of a file is read when it is first asked for.
func (t *Tree) Open(name string) (fs.File, error) {
	e, err := t.lookup("open", name, true)
	if err != nil {
		return nil, err
	}

	in := info{t, e}
	if e.mode.IsDir() {
		list := func() ([]fs.DirEntry, error) { return t.dirEntries(e) }
		return dirfile.Open(name, in.sized, list), nil
	}

	return &openFile{info: in, path: name}, nil
}

// ReadFile reads a file.
func (t *Tree) ReadFile(name string) ([]byte, error) {
	e, err := t.lookup("read", name, true)
	if err != nil {
		return nil, err
	}

	b, err := t.content(e)
	if err != nil {
		return nil, &fs.PathError{Op: "read", Path: name, Err: err}
	}

	return b, nil
}

// ReadDir lists a folder, by name.
func (t *Tree) ReadDir(name string) ([]fs.DirEntry, error) {
	e, err := t.lookup("readdir", name, true)
	if err != nil {
		return nil, err
	}

	list, err := t.dirEntries(e)
	if err != nil {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: err}
	}

	return list, nil
}

// Stat follows links; it reads no content.
func (t *Tree) Stat(name string) (fs.FileInfo, error) { return t.stat("stat", name, true) }

// Lstat follows no link at the end of name.
func (t *Tree) Lstat(name string) (fs.FileInfo, error) { return t.stat("lstat", name, false) }

func (t *Tree) stat(op, name string, follow bool) (fs.FileInfo, error) {
	e, err := t.lookup(op, name, follow)
	if err != nil {
		return nil, err
	}

	return info{t, e}.sized()
}

// ReadLink returns where a link points.
func (t *Tree) ReadLink(name string) (string, error) {
	e, err := t.lookup("readlink", name, false)
	if err != nil {
		return "", err
	}

	if e.mode&fs.ModeSymlink == 0 {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: fs.ErrInvalid}
	}

	target, err := t.blob(e.hash)
	if err != nil {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: err}
	}

	return string(target), nil
}

// Sub is the tree of a folder.
func (t *Tree) Sub(dir string) (fs.FS, error) {
	e, at, err := t.find("sub", dir, true)
	if err != nil {
		return nil, err
	}

	if !e.mode.IsDir() {
		return nil, &fs.PathError{Op: "sub", Path: dir, Err: errors.New("not a directory")}
	}

	return &Tree{repo: t.repo, root: t.root, dir: at, time: t.time, cache: t.cache}, nil
}

// sub finds a folder without links, through list.
func (t *Tree) sub(dir string, list func(plumbing.Hash) (*folder, error)) (*Tree, error) {
	h := t.root
	for part := range strings.SplitSeq(dir, "/") {
		folder, err := list(h)
		if err != nil {
			return nil, err
		}
		e, ok := search(folder.entries, part)
		if !ok || !e.mode.IsDir() {
			return nil, fs.ErrNotExist
		}
		h = e.hash
	}

	return &Tree{repo: t.repo, root: h, time: t.time, cache: t.cache}, nil
}

const (
	maxHops = 40   // links in one name, as on Linux
	maxPath = 4096 // bytes of a name, as on Linux
)

var errLongPath = fmt.Errorf("longer than %d bytes", maxPath)

// lookup finds what name stands for.
func (t *Tree) lookup(op, name string, follow bool) (entry, error) {
	e, _, err := t.find(op, name, follow)
	if err == nil && name != "." {
		e.name = path.Base(name)
	} else {
		e.name = "."
	}

	return e, err
}

// find finds what name stands for, and where below root that is.
func (t *Tree) find(op, name string, follow bool) (entry, string, error) {
	fail := func(err error) (entry, string, error) {
		return entry{}, "", &fs.PathError{Op: op, Path: name, Err: err}
	}

	if !fs.ValidPath(name) {
		return fail(fs.ErrInvalid)
	}

	at := path.Join(t.dir, name)
	if len(at) > maxPath {
		return fail(errLongPath)
	}

	for range maxHops {
		e, dir, rest, err := t.walk(at)
		if err != nil {
			return fail(err)
		}
		if e.mode&fs.ModeSymlink == 0 || (rest == "" && !follow) {
			return e, at, nil
		}
		if at, err = t.target(e, dir, rest); err != nil {
			return fail(err)
		}
	}

	return fail(errors.New("too many links"))
}

// target is where the link e of folder dir leads, with the rest of the path behind it.
func (t *Tree) target(e entry, dir, rest string) (string, error) {
	b, err := t.blob(e.hash)
	if err != nil {
		return "", err
	}

	to := path.Join(dir, string(b), rest)
	if len(to) > maxPath {
		return "", errLongPath
	}

	if path.IsAbs(string(b)) || !fs.ValidPath(to) {
		return "", fmt.Errorf("link to %q leaves the tree", b)
	}

	return to, nil
}

// walk goes down name as far as the first link, or its end. dir is the folder of what it ends
// at, rest what lies behind.
func (t *Tree) walk(name string) (e entry, dir, rest string, err error) {
	e = entry{name: ".", hash: t.root, mode: fs.ModeDir | 0o755}
	if name == "." {
		return e, "", "", nil
	}

	for at := 0; at < len(name); {
		dir = strings.TrimSuffix(name[:at], "/")
		if !e.mode.IsDir() {
			return e, dir, name[at:], fs.ErrNotExist
		}
		part, rest, _ := strings.Cut(name[at:], "/")
		folder, err := t.list(e.hash)
		if err != nil {
			return e, dir, rest, err
		}
		next, ok := search(folder.entries, part)
		if !ok {
			return e, dir, rest, fs.ErrNotExist
		}
		if e = next; e.mode&fs.ModeSymlink != 0 {
			return e, dir, rest, nil
		}
		at += len(part) + 1
	}

	return e, dir, "", nil
}

func search(entries []entry, name string) (entry, bool) {
	i, ok := slices.BinarySearchFunc(entries, name, func(e entry, name string) int { return strings.Compare(e.name, name) })
	if !ok {
		return entry{}, false
	}

	return entries[i], true
}

// list reads a folder, from the cache or the clone.
func (t *Tree) list(h plumbing.Hash) (*folder, error) {
	if f := t.cache.get(h); f != nil {
		return f, nil
	}

	var f *folder
	err := t.repo.healing(func() (err error) {
		f, err = t.repo.list(h)
		return err
	})
	if err == nil {
		t.cache.put(h, f)
	}

	return f, err
}

// blob reads an object, uncounted.
func (t *Tree) blob(h plumbing.Hash) (b []byte, err error) {
	err = t.repo.healing(func() (err error) {
		b, err = t.repo.blob(h)
		return err
	})
	return b, err
}

// content reads what an entry holds.
func (t *Tree) content(e entry) ([]byte, error) {
	switch {
	case e.mode.IsDir():
		return nil, errors.New("is a directory")
	case e.mode&fs.ModeIrregular != 0:
		return []byte{}, nil // a submodule
	}

	t.cache.blobs.Add(1)
	t.repo.blobs.Add(1)
	return t.blob(e.hash)
}

func (t *Tree) size(e entry) (n int64, err error) {
	if e.mode.IsDir() || e.mode&fs.ModeIrregular != 0 {
		return 0, nil
	}

	err = t.repo.healing(func() error {
		return t.repo.read(func(s *bare.Store) (err error) {
			_, n, err = s.Stat(e.hash)
			return err
		})
	})
	return n, err
}

func (t *Tree) dirEntries(e entry) ([]fs.DirEntry, error) {
	if !e.mode.IsDir() {
		return nil, errors.New("not a directory")
	}

	folder, err := t.list(e.hash)
	if err != nil {
		return nil, err
	}

	if folder.bad != nil {
		return nil, folder.bad
	}

	out := make([]fs.DirEntry, len(folder.entries))
	for i, e := range folder.entries {
		out[i] = dirEntry{t, e}
	}

	return out, nil
}

// healing does f; when the clone turns out to be damaged it is cloned anew and f done again.
func (r *Repo) healing(f func() error) error {
	r.reading.Lock()
	age := r.age
	r.reading.Unlock()
	err := f()
	if !damaged(err) {
		return err
	}

	if herr := r.heal(age, err); herr != nil {
		return herr
	}

	return f()
}

// blob reads a file's bytes, which the caller may keep.
func (r *Repo) blob(h plumbing.Hash) (b []byte, err error) {
	err = r.read(func(s *bare.Store) error {
		b, err = s.Read(context.Background(), plumbing.BlobObject, h)
		return err
	})
	var large *objects.TooLarge
	if errors.As(err, &large) {
		return nil, fmt.Errorf("it has %s, %w", objects.Bytes(large.Size), errSize)
	}

	return b, err
}
