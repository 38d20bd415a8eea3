package main

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os/exec"
	"path"
	"slices"
	"strings"
	"time"
)

// What git is about to commit, as a tree. A hook looks at the index, never at the files
// beside it: what is committed counts. Blobs are read when they are asked for, and object
// ids tell which ones need no look.

// A gitTree is the index, or one commit, of the repo that dir is in, from dir downwards.
type gitTree struct {
	dir   string
	blobs map[string]gitBlob
	dirs  map[string][]fs.DirEntry
}

type gitBlob struct {
	id   string
	mode fs.FileMode
}

// stagedTree is what the next commit will hold.
func stagedTree(dir string) (*gitTree, error) {
	out, err := git(dir, "ls-files", "-s", "-z")
	if err != nil {
		return nil, err
	}
	return newGitTree(dir, out, 1)
}

// headTree is what the last commit holds; nil when there is none.
func headTree(dir string) (fs.FS, error) {
	if _, err := git(dir, "rev-parse", "--verify", "--quiet", "HEAD^{commit}"); err != nil {
		return nil, nil
	}
	out, err := git(dir, "ls-tree", "-r", "-z", "HEAD", ".")
	if err != nil {
		return nil, err
	}
	t, err := newGitTree(dir, out, 2)
	if err != nil {
		return nil, err
	}
	return t, nil
}

// newGitTree parses lines of "mode … id … TAB path"; id is the field of that number.
func newGitTree(dir, list string, id int) (*gitTree, error) {
	t := &gitTree{dir: dir, blobs: map[string]gitBlob{}, dirs: map[string][]fs.DirEntry{".": nil}}
	for line := range strings.SplitSeq(list, "\x00") {
		if line == "" {
			continue
		}
		head, name, ok := strings.Cut(line, "\t")
		fields := strings.Fields(head)
		if !ok || len(fields) <= id {
			return nil, fmt.Errorf("read git's list of files: %q", line)
		}
		mode := fs.FileMode(0o644)
		switch fields[0] {
		case "120000":
			mode = fs.ModeSymlink | 0o777
		case "160000":
			mode = fs.ModeIrregular
		case "100755":
			mode = 0o755
		}
		t.add(name, gitBlob{fields[id], mode})
	}
	for _, es := range t.dirs {
		slices.SortFunc(es, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	}
	return t, nil
}

func (t *gitTree) add(name string, b gitBlob) {
	t.blobs[name] = b
	for child, mode := name, b.mode; child != "."; child, mode = path.Dir(child), fs.ModeDir|0o755 {
		parent := path.Dir(child)
		_, known := t.dirs[parent]
		t.dirs[parent] = append(t.dirs[parent], &gitEntry{t, child, mode})
		if known {
			return
		}
	}
}

// Hash is git's id of a file.
func (t *gitTree) Hash(name string) (string, bool) {
	b, ok := t.blobs[name]
	return b.id, ok
}

// ReadDir lists a folder.
func (t *gitTree) ReadDir(name string) ([]fs.DirEntry, error) {
	es, ok := t.dirs[name]
	if !ok {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrNotExist}
	}
	return slices.Clone(es), nil
}

// Open opens a file or a folder.
func (t *gitTree) Open(name string) (fs.File, error) {
	if es, ok := t.dirs[name]; ok {
		return &gitDir{gitInfo{path.Base(name), fs.ModeDir | 0o755, 0}, slices.Clone(es)}, nil
	}
	b, ok := t.blobs[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	cmd := exec.Command("git", "-C", t.dir, "cat-file", "blob", b.id)
	data, err := cmd.Output()
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return &gitFile{gitInfo{path.Base(name), b.mode, int64(len(data))}, bytes.NewReader(data)}, nil
}

// A gitEntry knows its size only when it is asked: that takes reading the blob.
type gitEntry struct {
	tree *gitTree
	path string
	mode fs.FileMode
}

func (d *gitEntry) Name() string               { return path.Base(d.path) }
func (d *gitEntry) IsDir() bool                { return d.mode.IsDir() }
func (d *gitEntry) Type() fs.FileMode          { return d.mode.Type() }
func (d *gitEntry) Info() (fs.FileInfo, error) { return fs.Stat(d.tree, d.path) }

type gitFile struct {
	info gitInfo
	*bytes.Reader
}

func (f *gitFile) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *gitFile) Close() error               { return nil }

type gitDir struct {
	info gitInfo
	left []fs.DirEntry
}

func (d *gitDir) Stat() (fs.FileInfo, error) { return d.info, nil }
func (d *gitDir) Close() error               { return nil }
func (d *gitDir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.info.name, Err: fs.ErrInvalid}
}

func (d *gitDir) ReadDir(n int) ([]fs.DirEntry, error) {
	if n <= 0 {
		n = len(d.left)
	} else if len(d.left) == 0 {
		return nil, io.EOF
	}
	n = min(n, len(d.left))
	es := d.left[:n]
	d.left = d.left[n:]
	return es, nil
}

type gitInfo struct {
	name string
	mode fs.FileMode
	size int64
}

func (i gitInfo) Name() string       { return i.name }
func (i gitInfo) Size() int64        { return i.size }
func (i gitInfo) Mode() fs.FileMode  { return i.mode }
func (i gitInfo) ModTime() time.Time { return time.Time{} }
func (i gitInfo) IsDir() bool        { return i.mode.IsDir() }
func (i gitInfo) Sys() any           { return nil }
