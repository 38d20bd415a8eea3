package gitsync

// What a tree hands out: files, entries of folders, and their fs.FileInfo.

import (
	"bytes"
	"io/fs"
	"sync"
	"time"
)

// info is the fs.FileInfo of an entry.
type info struct {
	t *Tree
	e entry
}

func (i info) sized() (fs.FileInfo, error) {
	n, err := i.t.size(i.e)
	if err != nil {
		return nil, &fs.PathError{Op: "stat", Path: i.e.name, Err: err}
	}

	return sizedInfo{i, n}, nil
}

type sizedInfo struct {
	info
	size int64
}

func (i sizedInfo) Name() string       { return i.e.name }
func (i sizedInfo) Size() int64        { return i.size }
func (i sizedInfo) Mode() fs.FileMode  { return i.e.mode }
func (i sizedInfo) ModTime() time.Time { return i.t.time }
func (i sizedInfo) IsDir() bool        { return i.e.mode.IsDir() }
func (i sizedInfo) Sys() any           { return nil }

type dirEntry struct {
	t *Tree
	e entry
}

func (d dirEntry) Name() string               { return d.e.name }
func (d dirEntry) IsDir() bool                { return d.e.mode.IsDir() }
func (d dirEntry) Type() fs.FileMode          { return d.e.mode.Type() }
func (d dirEntry) Info() (fs.FileInfo, error) { return info(d).sized() }
func (d dirEntry) String() string             { return fs.FormatDirEntry(d) }

// openFile is an open file; its content is read once it is asked for.
type openFile struct {
	info
	path string
	once sync.Once
	r    *bytes.Reader
	err  error
}

func (f *openFile) Stat() (fs.FileInfo, error) { return f.sized() }
func (f *openFile) Close() error               { return nil }

func (f *openFile) reader() (*bytes.Reader, error) {
	f.once.Do(func() {
		b, err := f.t.content(f.e)
		if err != nil {
			err = &fs.PathError{Op: "read", Path: f.path, Err: err}
		}
		f.r, f.err = bytes.NewReader(b), err
	})
	return f.r, f.err
}

func (f *openFile) Read(p []byte) (int, error) {
	r, err := f.reader()
	if err != nil {
		return 0, err
	}

	return r.Read(p)
}

func (f *openFile) ReadAt(p []byte, off int64) (int, error) {
	r, err := f.reader()
	if err != nil {
		return 0, err
	}

	return r.ReadAt(p, off)
}

func (f *openFile) Seek(off int64, whence int) (int64, error) {
	r, err := f.reader()
	if err != nil {
		return 0, err
	}

	return r.Seek(off, whence)
}
