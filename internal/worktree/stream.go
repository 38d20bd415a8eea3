package worktree

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"bellhop/internal/plain"
)

// MaxStream is how many bytes a tree has on a wire.
const MaxStream = 64 << 20

var errStream = fmt.Errorf("the tree has more than %d MiB: a large file belongs in a package, or in .gitignore", MaxStream>>20)

// Pack writes the tree as a tar stream. A file that is larger than a tree serves is written as
// its size alone: nobody can read it anyway.
func (t *Tree) Pack(w io.Writer) error {
	out := tar.NewWriter(&capped{w: w, left: MaxStream})
	for _, name := range slices.Sorted(maps.Keys(t.files)) {
		if err := packFile(out, name, t.files[name]); err != nil {
			return fmt.Errorf("pack %s: %w", plain.Line(name, 200), err)
		}
	}

	return out.Close()
}

func packFile(out *tar.Writer, name string, f *file) error {
	h := &tar.Header{Name: name, Mode: int64(f.mode.Perm()), Typeflag: tar.TypeReg, Format: tar.FormatPAX, ModTime: time.Unix(0, 0)}
	switch {
	case strings.Contains(name, "\x00"):
		return fs.ErrInvalid
	case f.mode&fs.ModeSymlink != 0:
		h.Typeflag, h.Linkname = tar.TypeSymlink, string(f.data)
	case f.mode&fs.ModeIrregular != 0:
		h.PAXRecords = map[string]string{paxKind: kindModule}
	case f.size > MaxFile:
		h.PAXRecords = map[string]string{paxKind: kindLarge, paxSize: fmt.Sprint(f.size)}
	default:
		data, err := f.content()
		if err != nil {
			return err
		}
		h.Size = int64(len(data))
		if err := out.WriteHeader(h); err != nil {
			return err
		}
		_, err = out.Write(data)
		return err
	}

	return out.WriteHeader(h)
}

// Records of an entry that is no plain file.
const (
	paxKind    = "BELLHOP.kind"
	paxSize    = "BELLHOP.size"
	kindModule = "submodule"
	kindLarge  = "large"
)

// Unpack reads what Pack wrote, into memory: at most MaxStream bytes.
func Unpack(r io.Reader) (*Tree, error) {
	in := &io.LimitedReader{R: r, N: MaxStream + 1}
	t := newTree()
	for entries := tar.NewReader(in); ; {
		h, err := entries.Next()
		if err == io.EOF {
			t.sort()
			return t, nil
		}
		if in.N == 0 {
			return nil, errStream
		}
		if err != nil {
			return nil, fmt.Errorf("read the tree: %w", err)
		}
		if err := t.unpackFile(h, entries); err != nil {
			if in.N == 0 {
				err = errStream
			}
			return nil, fmt.Errorf("read the tree: %s: %w", plain.Line(h.Name, 200), err)
		}
	}
}

func (t *Tree) unpackFile(h *tar.Header, r io.Reader) error {
	if !isName(h.Name) {
		return errors.New("a name that no file may have")
	}

	f := &file{mode: filePerm(fs.FileMode(h.Mode & 0o777)), size: h.Size}
	switch {
	case h.Typeflag == tar.TypeSymlink:
		f.mode, f.data, f.size = fs.ModeSymlink|0o777, []byte(h.Linkname), int64(len(h.Linkname))
	case h.Typeflag != tar.TypeReg:
		return errors.New("neither a file nor a link")
	case h.PAXRecords[paxKind] == kindModule:
		f.mode = fs.ModeIrregular
	case h.PAXRecords[paxKind] == kindLarge:
		if _, err := fmt.Sscanf(h.PAXRecords[paxSize], "%d", &f.size); err != nil || f.size <= MaxFile {
			return errors.New("a size that is none")
		}
	case h.Size > MaxFile:
		return errTooLarge
	default:
		var err error
		if f.data, err = io.ReadAll(r); err != nil {
			return err
		}
	}

	return t.add(h.Name, f)
}

// isName takes what may stand in a commit: no way out of the tree, bytes that are no UTF-8 too.
func isName(name string) bool {
	if name == "" || len(name) > 4096 {
		return false
	}
	if path.Clean(name) != name || path.IsAbs(name) {
		return false
	}

	for part := range strings.SplitSeq(name, "/") {
		if part == "." || part == ".." || strings.EqualFold(part, ".git") {
			return false
		}
	}

	return true
}

// capped fails, instead of ending, when more is written than it lets through.
type capped struct {
	w    io.Writer
	left int64
}

func (c *capped) Write(p []byte) (int, error) {
	if c.left -= int64(len(p)); c.left < 0 {
		return 0, errStream
	}

	return c.w.Write(p)
}
