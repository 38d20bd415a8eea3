package worktree

import (
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"bellhop/internal/dirfile"
	"bellhop/internal/limits"
)

// MaxFile is the largest file that a tree serves, as in a commit.
const MaxFile = limits.RepoFile

var errTooLarge = fmt.Errorf("larger than %d MiB: use a package", MaxFile>>20)

// find finds what a name stands for, following links inside of the tree. The file is nil for a
// folder.
func (t *Tree) find(op, name string, follow bool) (string, *file, error) {
	fail := func(err error) (string, *file, error) {
		return "", nil, &fs.PathError{Op: op, Path: name, Err: err}
	}

	if !fs.ValidPath(name) {
		return fail(fs.ErrInvalid)
	}

	at := name
	for range 40 { // links, as on Linux
		link, rest := t.firstLink(at)
		if link == "" || rest == "" && !follow {
			if f, ok := t.files[at]; ok {
				return at, f, nil
			}
			if _, ok := t.dirs[at]; ok {
				return at, nil, nil
			}
			return fail(fs.ErrNotExist)
		}
		target := string(t.files[link].data)
		at = path.Join(path.Dir(link), target, rest)
		if path.IsAbs(target) || !fs.ValidPath(at) {
			return fail(errors.New("a link leaves the tree"))
		}
	}

	return fail(errors.New("too many links"))
}

// firstLink finds the first part of a path that is a link, and what stands behind it.
func (t *Tree) firstLink(name string) (link, rest string) {
	for i := 0; i <= len(name); i++ {
		if i < len(name) && name[i] != '/' {
			continue
		}
		if f, ok := t.files[name[:i]]; ok && f.mode&fs.ModeSymlink != 0 {
			return name[:i], strings.TrimPrefix(name[i:], "/")
		}
	}

	return "", ""
}

// content reads a file.
func (f *file) content() ([]byte, error) {
	switch {
	case f.mode&fs.ModeIrregular != 0:
		return []byte{}, nil // a submodule
	case f.size > MaxFile:
		return nil, errTooLarge
	case f.disk == "":
		return f.data, nil
	}

	r, err := os.Open(f.disk)
	if err != nil {
		return nil, err
	}

	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, MaxFile+1))
	if err == nil && len(b) > MaxFile {
		err = errTooLarge
	}

	return b, err
}

// Hash is git's object id of a file. It reads the file. Folders have none here.
func (t *Tree) Hash(name string) (string, bool) {
	_, f, err := t.find("hash", name, false)
	if err != nil || f == nil || f.mode&fs.ModeIrregular != 0 {
		return "", false
	}

	b, err := f.content()
	if err != nil {
		return "", false
	}

	h := sha1.New()
	fmt.Fprintf(h, "blob %d\x00", len(b))
	h.Write(b)
	return hex.EncodeToString(h.Sum(nil)), true
}

// Open opens a file or folder.
func (t *Tree) Open(name string) (fs.File, error) {
	at, f, err := t.find("open", name, true)
	if err != nil {
		return nil, err
	}

	if f == nil {
		stat := func() (fs.FileInfo, error) { return info{path.Base(name), nil}, nil }
		return dirfile.Open(name, stat, func() ([]fs.DirEntry, error) { return t.entries(at), nil }), nil
	}

	b, err := f.content()
	if errors.Is(err, errTooLarge) {
		return &openFile{Reader: bytes.NewReader(nil), info: info{path.Base(name), f}, err: err}, nil
	}

	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}

	return &openFile{Reader: bytes.NewReader(b), info: info{path.Base(name), f}}, nil
}

// Stat follows links.
func (t *Tree) Stat(name string) (fs.FileInfo, error) { return t.stat("stat", name, true) }

// Lstat follows no link at the end of name.
func (t *Tree) Lstat(name string) (fs.FileInfo, error) { return t.stat("lstat", name, false) }

func (t *Tree) stat(op, name string, follow bool) (fs.FileInfo, error) {
	_, f, err := t.find(op, name, follow)
	if err != nil {
		return nil, err
	}

	return info{path.Base(name), f}, nil
}

// ReadLink returns where a link points.
func (t *Tree) ReadLink(name string) (string, error) {
	_, f, err := t.find("readlink", name, false)
	if err != nil {
		return "", err
	}

	if f == nil || f.mode&fs.ModeSymlink == 0 {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: fs.ErrInvalid}
	}

	return string(f.data), nil
}

// ReadDir lists a folder, by name.
func (t *Tree) ReadDir(name string) ([]fs.DirEntry, error) {
	at, f, err := t.find("readdir", name, true)
	if err != nil {
		return nil, err
	}

	if f != nil {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: errors.New("not a directory")}
	}

	return t.entries(at), nil
}

func (t *Tree) entries(dir string) []fs.DirEntry {
	names := t.dirs[dir]
	out := make([]fs.DirEntry, len(names))
	for i, name := range names {
		out[i] = fs.FileInfoToDirEntry(info{name, t.files[path.Join(dir, name)]})
	}

	return out
}

// info is the fs.FileInfo of a file; of a folder when that is nil.
type info struct {
	name string
	f    *file
}

func (i info) Name() string       { return i.name }
func (i info) ModTime() time.Time { return time.Time{} }
func (i info) IsDir() bool        { return i.f == nil }
func (i info) Sys() any           { return nil }

func (i info) Size() int64 {
	if i.f == nil {
		return 0
	}

	return i.f.size
}

func (i info) Mode() fs.FileMode {
	if i.f == nil {
		return fs.ModeDir | 0o755
	}

	return i.f.mode
}

type openFile struct {
	*bytes.Reader
	info info
	err  error
}

func (o *openFile) Stat() (fs.FileInfo, error) { return o.info, nil }
func (o *openFile) Close() error               { return nil }

func (o *openFile) Read(p []byte) (int, error) {
	if o.err != nil {
		return 0, o.err
	}

	return o.Reader.Read(p)
}

// WriteTo hides that of the reader, which knows no error.
func (o *openFile) WriteTo(w io.Writer) (int64, error) {
	if o.err != nil {
		return 0, o.err
	}

	return o.Reader.WriteTo(w)
}
