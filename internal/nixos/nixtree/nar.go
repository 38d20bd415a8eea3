package nixtree

import (
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// WriteNAR writes the file, link or folder at path as Nix's archive, whose SHA-256 is its narHash. All
// that the archive knows of a mode is whether the owner can execute the file.
func WriteNAR(w io.Writer, path string) error {
	n := &narWriter{w: w}
	n.str("nix-archive-1")
	n.node(path)
	return n.err
}

type narWriter struct {
	w   io.Writer
	err error
}

func (n *narWriter) write(p []byte) {
	if n.err == nil {
		_, n.err = n.w.Write(p)
	}
}

func (n *narWriter) str(words ...string) {
	for _, s := range words {
		n.size(int64(len(s)))
		n.write([]byte(s))
		n.pad(int64(len(s)))
	}
}

func (n *narWriter) size(size int64) { n.write(binary.LittleEndian.AppendUint64(nil, uint64(size))) }

// pad fills up to a multiple of eight bytes.
func (n *narWriter) pad(size int64) { n.write(make([]byte, -size&7)) }

func (n *narWriter) node(path string) {
	info, err := os.Lstat(path)
	if err != nil {
		n.err = err
	}
	if n.err != nil {
		return
	}

	n.str("(")

	switch {
	case info.IsDir():
		n.folder(path)
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := os.Readlink(path)
		if err != nil {
			n.err = err
		}
		n.str("type", "symlink", "target", target)
	case info.Mode().IsRegular():
		n.file(path, info)
	default:
		n.err = fmt.Errorf("%s is neither file, folder nor link", path)
	}

	n.str(")")
}

func (n *narWriter) folder(path string) {
	n.str("type", "directory")
	entries, err := os.ReadDir(path) // sorted by the bytes of the names, as the archive wants it
	if err != nil {
		n.err = err
	}

	for _, e := range entries {
		n.str("entry", "(", "name", e.Name(), "node")
		n.node(filepath.Join(path, e.Name()))
		n.str(")")
	}
}

func (n *narWriter) file(path string, info fs.FileInfo) {
	n.str("type", "regular")
	if info.Mode()&0o100 != 0 {
		n.str("executable", "")
	}
	n.str("contents")
	n.size(info.Size())
	if n.err != nil {
		return
	}

	f, err := os.Open(path)
	if err != nil {
		n.err = err
		return
	}
	defer f.Close()
	copied, err := io.Copy(n.w, io.LimitReader(f, info.Size()))
	if err == nil && copied != info.Size() {
		err = fmt.Errorf("%s changed while it was read", path)
	}
	if n.err = err; err == nil {
		n.pad(info.Size())
	}
}
