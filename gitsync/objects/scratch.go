package objects

import (
	"bytes"
	"fmt"
	"io"
	"os"
)

// A content is an object's bytes, in memory or in a temporary file.
type content interface {
	io.ReaderAt
	Size() int64
}

// A scratch holds contents, the newest on top, as a walk through deltas needs them. What does
// not fit into its memory lies in one temporary file without a name.
type scratch struct {
	dir    string // of the temporary file
	memory int64  // bytes that may be held in memory
	disk   int64  // bytes that may lie in the file

	held int64 // in memory now
	file *os.File
	top  int64 // of the file
}

// A slot is one content of a scratch while it is written and until it is released.
type slot struct {
	s    *scratch
	size int64
	buf  *bytes.Buffer // nil: in the file
	at   int64
	n    int64
}

// push makes room for a content of a size. Slots are released in the opposite order.
func (s *scratch) push(size int64) (*slot, error) {
	t := &slot{s: s, size: size}
	if s.held+size <= s.memory {
		s.held += size
		t.buf = bytes.NewBuffer(make([]byte, 0, size))
		return t, nil
	}

	if s.top+size > s.disk {
		return nil, over("its deltas need more than %s of temporary space", Bytes(s.disk))
	}

	if s.file == nil {
		f, err := os.CreateTemp(s.dir, "tmp_pack_scratch_")
		if err != nil {
			return nil, fmt.Errorf("make temporary file: %w", err)
		}
		os.Remove(f.Name())
		s.file = f
	}

	t.at = s.top
	s.top += size
	return t, nil
}

func (t *slot) Write(p []byte) (int, error) {
	if t.n+int64(len(p)) > t.size {
		return 0, broken("an object is larger than it says")
	}

	n, err := len(p), error(nil)
	if t.buf != nil {
		t.buf.Write(p)
	} else {
		n, err = t.s.file.WriteAt(p, t.at+t.n)
	}

	t.n += int64(n)
	return n, err
}

// content is what was written.
func (t *slot) content() content {
	if t.buf != nil {
		return bytes.NewReader(t.buf.Bytes())
	}

	return io.NewSectionReader(t.s.file, t.at, t.n)
}

// bytes is what was written, if it lies in memory.
func (t *slot) bytes() ([]byte, bool) {
	if t.buf == nil {
		return nil, false
	}

	return t.buf.Bytes(), true
}

func (t *slot) release() {
	if t.buf != nil {
		t.s.held -= t.size
		t.buf = nil
		return
	}

	t.s.top = t.at
}

func (s *scratch) close() {
	if s.file != nil {
		s.file.Close()
	}
}

// forget is release for a content below the top: its memory counts no more; its place in the
// file stays taken until what is above it is released.
func (s *scratch) forget(t *slot) {
	if t.buf != nil {
		s.held -= t.size
		t.buf = nil
	}
}
