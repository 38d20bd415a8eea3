// Package dirfile is an open folder of a read-only tree: what fs.FS gives when a folder is opened.
//
// The tree says how to list the folder and how to stat it; File keeps how far a caller has read. A folder
// is listed when its entries are first asked for.
package dirfile

import (
	"errors"
	"io"
	"io/fs"
)

// A File is an open folder. It is an fs.ReadDirFile, for use by one goroutine.
type File struct {
	path string
	stat func() (fs.FileInfo, error)
	list func() ([]fs.DirEntry, error)

	isListed bool
	rest     []fs.DirEntry // not yet given to the caller
}

// Open opens the folder at path. The list must be sorted by name, and is not changed.
func Open(path string, stat func() (fs.FileInfo, error), list func() ([]fs.DirEntry, error)) *File {
	return &File{path: path, stat: stat, list: list}
}

// Stat is what the tree says of the folder.
func (f *File) Stat() (fs.FileInfo, error) { return f.stat() }

// Close does nothing: nothing is held open.
func (f *File) Close() error { return nil }

// Read fails: a folder has no bytes.
func (f *File) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: f.path, Err: errors.New("is a directory")}
}

// ReadDir gives the next n entries, and io.EOF when there are none left; with n of 0 or less all that are
// left, without io.EOF.
func (f *File) ReadDir(n int) ([]fs.DirEntry, error) {
	if !f.isListed {
		list, err := f.list()
		if err != nil {
			return nil, &fs.PathError{Op: "readdir", Path: f.path, Err: err}
		}
		f.rest, f.isListed = list, true
	}

	if n <= 0 {
		n = len(f.rest)
	} else if len(f.rest) == 0 {
		return nil, io.EOF
	}

	n = min(n, len(f.rest))
	next := f.rest[:n:n]
	f.rest = f.rest[n:]
	return next, nil
}
