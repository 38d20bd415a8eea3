package prefixed

import (
	"bytes"
	"strings"
	"sync"
	"testing"
)

func TestALineWithoutEndIsNotKept(t *testing.T) {
	var b bytes.Buffer
	p := &Writer{Mu: new(sync.Mutex), W: &b, Head: "h | "}
	chunk := bytes.Repeat([]byte("x"), 10_000)
	for range 1000 {
		p.Write(chunk)
		if len(p.part) > 2*maxPart {
			t.Fatalf("%d bytes of a line are kept", len(p.part))
		}
	}
	p.End()
	if n := strings.Count(b.String(), "x"); n != 10_000_000 {
		t.Errorf("%d bytes came through, want all", n)
	}
}

// A host that prints without a line break may not fill this machine's memory.
func TestPrefixedLines(t *testing.T) {
	var out bytes.Buffer
	p := &Writer{Mu: new(sync.Mutex), W: &out, Head: "web1 | "}

	p.Write([]byte("one\ntwo\nth"))
	p.Write([]byte("ree\n\n"))
	if got, want := out.String(), "web1 | one\nweb1 | two\nweb1 | three\nweb1 | \n"; got != want {
		t.Errorf("printed %q, want %q", got, want)
	}

	out.Reset()
	part := bytes.Repeat([]byte("x"), 32<<10)
	for range 256 {
		p.Write(part)
	}
	if cap(p.part) > 4*maxPart {
		t.Errorf("%d bytes of a line without an end are held", cap(p.part))
	}
	p.End()
	if got := strings.Count(out.String(), "x"); got != 8<<20 {
		t.Errorf("%d bytes were printed of %d", got, 8<<20)
	}
	for line := range strings.Lines(out.String()) {
		if !strings.HasPrefix(line, "web1 | ") {
			t.Fatalf("a line without its head: %.40q", line)
		}
	}
}
