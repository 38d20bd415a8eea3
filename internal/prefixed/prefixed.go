// Package prefixed writes what several hosts print at the same time: whole lines, each behind the name of its host.
package prefixed

import (
	"bytes"
	"fmt"
	"io"
	"sync"
)

// A Writer puts a head before each line, and lets only whole lines through, so that hosts
// do not write into each other's.
type Writer struct {
	Mu   *sync.Mutex // of all that write to W
	W    io.Writer
	Head string
	part []byte
}

// maxPart is how much of a line is kept until its end comes.
const maxPart = 64 << 10

// Write takes a part of the output, which may end within a line.
func (p *Writer) Write(b []byte) (int, error) {
	p.part = append(p.part, b...)
	for {
		i := bytes.IndexByte(p.part, '\n')
		if i < 0 && len(p.part) < maxPart {
			return len(b), nil
		} else if i < 0 {
			p.End() // a long line is written in parts
			return len(b), nil
		}

		p.line(p.part[:i])
		p.part = p.part[i+1:]
	}
}

func (p *Writer) line(b []byte) {
	p.Mu.Lock()
	defer p.Mu.Unlock()
	fmt.Fprintf(p.W, "%s%s\n", p.Head, b)
}

// End writes what is left of a line.
func (p *Writer) End() {
	if len(p.part) > 0 {
		p.line(p.part)
		p.part = nil
	}
}
