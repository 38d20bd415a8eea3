// Package problem says what is wrong with a config repo, and where.
//
// A Problem names file, line and column, and cites the line. Problems are sorted, cut to a number
// that people read, and hold no private key: one that was put into a wrong file is masked.
package problem

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"bellhop/internal/plain"
	"bellhop/internal/privatekey"
)

// A Problem is one thing that is wrong with the config, written so that an editor can jump to it.
type Problem struct {
	File    string // path in the repo; "" when no file is at fault
	Line    int    // from 1; 0 when the whole file is meant
	Column  int    // from 1
	Source  string // the line of the file
	Host    string // set: it concerns this host alone; "": it refuses the whole push
	Message string
	Warning bool // shown, and nothing is refused

	// More is how many problems of the file are counted by this one; 0 when it is one problem.
	More int

	text []byte // of the file, until Source is cut out of it
}

// Pos is a place in a file; both numbers count from 1.
type Pos struct{ Line, Column int }

// At is a problem at a place of a file whose text is data. A private key in the message is masked.
func At(file string, data []byte, at Pos, format string, args ...any) *Problem {
	return &Problem{File: file, Line: at.Line, Column: at.Column, Message: privatekey.Mask(fmt.Sprintf(format, args...)), text: data}
}

// Max is how many problems are shown; the rest are counted.
const Max = 100

// Error is one problem as compilers write it: file:line:column: message, and below it the
// source line.
func (p *Problem) Error() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(plain.Name(p.File)) // whoever named it may have put a line end into it
		if p.Line > 0 {
			fmt.Fprintf(&b, ":%d:%d", p.Line, max(p.Column, 1))
		}
		b.WriteString(": ")
	}

	if p.Host != "" {
		b.WriteString(p.Host + ": ")
	}
	if p.Warning {
		b.WriteString("warning: ")
	}
	b.WriteString(p.Message)
	if s := strings.TrimSpace(p.Source); s != "" {
		b.WriteString("\n    " + s)
	}
	return b.String()
}

// Problems are all that is wrong, in the order of files and lines.
type Problems []*Problem

func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// Sort orders ps by place, drops repeats, and keeps the first maxProblems with their
// source lines. A last one counts the rest.
func (ps Problems) Sort() Problems {
	slices.SortStableFunc(ps, func(a, b *Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.More, b.More), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column),
			cmp.Compare(a.Host, b.Host), cmp.Compare(a.Message, b.Message))
	})

	ps = slices.CompactFunc(ps, func(a, b *Problem) bool {
		samePlace := a.File == b.File && a.Line == b.Line && a.Column == b.Column
		sameText := a.Host == b.Host && a.Message == b.Message && a.Warning == b.Warning
		return samePlace && sameText
	})
	return ps.cut().cite()
}

// Capped is ps as it is shown: no more than a hundred that refuse and a hundred that warn, the rest
// counted. Fewer stay as they are.
func (ps Problems) Capped() Problems {
	if len(ps) <= Max {
		return ps
	}
	refuse, warn := ps.Split()
	return append(refuse, warn...)
}

// cut keeps the first maxProblems.
func (ps Problems) cut() Problems {
	if len(ps) <= Max {
		return ps
	}
	rest := 0
	for _, p := range ps[Max:] {
		rest += max(1, p.More)
	}
	last := &Problem{File: ps[Max].File, Host: ps[Max].Host, Warning: ps[Max].Warning, More: rest}
	last.Message = fmt.Sprintf("and %s more", Thousands(rest))
	return append(slices.Clone(ps[:Max]), last)
}

// cite fills in the source lines. Problems of one file are in the order of its lines, so
// each file is gone through once.
func (ps Problems) cite() Problems {
	var c citer
	var text, masked []byte
	for _, p := range ps {
		if p.text != nil {
			if !sameSlice(text, p.text) {
				text, masked = p.text, maskKeys(p.text)
			}
			p.Source, p.text = c.line(masked, p.Line), nil
		}
		p.Message, p.Source, p.File = privatekey.Mask(p.Message), privatekey.Mask(p.Source), privatekey.Mask(p.File)
	}

	return ps
}

func sameSlice(a, b []byte) bool { return len(a) == len(b) && len(a) > 0 && &a[0] == &b[0] }

// maskKeys is text without private keys, line for line: one that was put where it does not belong
// must not be shown to everybody who reads the problem, nor be stored with it.
func maskKeys(text []byte) []byte {
	if masked := privatekey.Mask(string(text)); masked != string(text) {
		return []byte(masked)
	}
	return text
}

// A citer finds lines of a text that are asked for in order.
type citer struct {
	text []byte
	rest []byte // from line at on
	at   int
	seen int // bytes gone through, for tests
}

// line is line n of text, cut to what a terminal shows; "" when there is none.
func (c *citer) line(text []byte, n int) string {
	if n <= 0 || len(text) == 0 {
		return ""
	}

	if !sameSlice(c.text, text) || n < c.at {
		c.text, c.rest, c.at = text, text, 1
	}

	for c.at < n {
		i := bytes.IndexByte(c.rest, '\n')
		if i < 0 {
			return ""
		}
		c.rest = c.rest[i+1:]
		c.at++
		c.seen += i + 1
	}

	line := c.rest[:min(len(c.rest), 201)]
	if i := bytes.IndexByte(line, '\n'); i >= 0 {
		line = line[:i]
	}
	line = line[:min(len(line), 200)]
	return strings.ToValidUTF8(strings.TrimRight(string(line), "\r"), "\ufffd")
}

// LineOf is line n of text, from 1, cut to what a terminal shows; "" when there is none.
func LineOf(text []byte, n int) string { return new(citer).line(text, n) }

// Thousands writes n as people read it: 99,900.
func Thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Split parts what refuses from what is only a warning.
func (ps Problems) Split() (refuse, warn Problems) {
	for _, p := range ps {
		if p.Warning {
			warn = append(warn, p)
		} else {
			refuse = append(refuse, p)
		}
	}
	return refuse.Sort(), warn.Sort()
}

// Err is ps as an error; nil when there are none.
func (ps Problems) Err() error {
	if len(ps) == 0 {
		return nil
	}
	return ps
}
