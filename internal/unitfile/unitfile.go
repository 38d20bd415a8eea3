// Package unitfile reads unit files as systemd reads them, and says what systemd makes of them.
//
// A unit file has sections ("[Service]") and assignments ("ExecStart=/bin/true"). A drop-in is a
// further file for the same unit. Parse reads one file; a Unit joins a file and its drop-ins.
// A key is known when a systemd from version 245 to 257 reads it; Check compares a file with the
// tables of keys and values, and reports what systemd would refuse or ignore.
//
// The package is pure: it opens no file and starts no program. Its promise: for every input the
// assignments are those that systemd's own parser finds, in time linear in the input, with no
// memory beyond the input and its assignments.
package unitfile

import (
	"bytes"
	"slices"
	"strings"
	"unicode/utf8"
)

// MaxLine is the longest line that systemd reads, continued lines joined, in bytes. A longer one
// makes it give up the whole file.
const MaxLine = 1 << 20

// MaxItems bounds what is kept of one file: headers and assignments together, and the faults. No
// unit that people use comes near it.
const (
	MaxItems  = 1 << 16
	maxFaults = 100
)

// Whitespace is what systemd removes around sections, keys and values. A no-break space is
// none: it becomes part of the key or the value.
const Whitespace = " \t\n\r"

// A File is one unit file or drop-in, as systemd parses it.
type File struct {
	Sections    []Section
	Assignments []Assignment // of known and unknown sections, in the order of the file
	Faults      []Fault      // what systemd's parser itself refuses or passes over
}

// A Section is one header; a file may have the same one several times.
type Section struct {
	Name string // without brackets
	Pos
}

// An Assignment is one KEY=VALUE.
type Assignment struct {
	Section string // "Service"; never empty
	Key     string
	Value   string // continued lines joined, whitespace around it gone; "" resets the key
	Pos            // of the key
}

// A Pos is a place in a file.
type Pos struct {
	Line   int // from 1; of continued lines the first
	Column int // from 1, in bytes
}

// A FaultKind says what is wrong with a line as such.
type FaultKind int

const (
	BadHeader   FaultKind = iota + 1 // a section header without "]": systemd gives up the file
	LineTooLong                      // longer than MaxLine: systemd gives up the file
	NotUTF8                          // systemd gives up the file
	NoEquals                         // neither header nor assignment: systemd ignores the line
	NoKey                            // nothing before "=": systemd ignores the line
	TooMany                          // more than MaxItems: systemd would read it, bellhop does not
	NoSection                        // an assignment before the first header: systemd ignores it
)

// Fatal tells whether nothing of the file counts.
func (k FaultKind) Fatal() bool {
	return slices.Contains([]FaultKind{BadHeader, LineTooLong, NotUTF8, TooMany}, k)
}

// A Fault is a line that is no part of the unit.
type Fault struct {
	Kind FaultKind
	Text string // the line without whitespace around it; of a long one the beginning
	// Section is where the line is. What is below a section that systemd does not know, it does
	// not read at all.
	Section string
	Pos
}

// Parse reads a unit file. What follows a fatal fault is not read, as systemd does it.
func Parse(data []byte) *File {
	p := parser{file: &File{}}
	bom := false // only the first one is removed, wherever it is

	for no := 1; len(data) > 0; no++ {
		var line []byte
		line, data = cutLine(data)

		if len(line) >= MaxLine {
			p.fault(LineTooLong, line, Pos{no, 1})
			return p.file
		}
		if isComment(line) {
			continue // also between continued lines
		}
		if rest, ok := bytes.CutPrefix(line, []byte("\ufeff")); ok && !bom {
			line, bom = rest, true
		}
		if !p.add(line, no) {
			return p.file
		}
	}

	if p.continued {
		p.take(p.joined, p.start)
	}

	return p.file
}

// cutLine parts data behind its first line. As in systemd a line ends with a line feed, a
// carriage return or a NUL, and each of them may follow the other once: CR LF is one end.
func cutLine(data []byte) (line, rest []byte) {
	end := 0
	for end < len(data) && !endsLine(data[end]) {
		end++
	}

	next := end
	feed, carriage := false, false // seen
	for ; next < len(data); next++ {
		isSecondFeed := data[next] == '\n' && feed
		isSecondCarriage := data[next] == '\r' && carriage
		again := isSecondFeed || isSecondCarriage
		if again || !endsLine(data[next]) {
			break
		}
		if data[next] == 0 {
			next++ // nothing follows a NUL
			break
		}
		feed = feed || data[next] == '\n'
		carriage = carriage || data[next] == '\r'
	}

	return data[:end], data[next:]
}

func endsLine(c byte) bool { return c == '\n' || c == '\r' || c == 0 }

func isComment(line []byte) bool {
	line = bytes.TrimLeft(line, Whitespace)
	return len(line) > 0 && (line[0] == '#' || line[0] == ';')
}

// A parser joins continued lines and follows the current section.
type parser struct {
	file      *File
	section   string
	joined    []byte // of continued lines so far
	continued bool
	start     int // the line on which they begin
}

// add takes one physical line; false when systemd would give up the file.
func (p *parser) add(line []byte, no int) bool {
	if !p.continued {
		p.start = no
	}

	if p.continued && len(p.joined)+len(line) > MaxLine {
		p.fault(LineTooLong, p.joined, Pos{p.start, 1})
		return false
	}

	if endsInBackslash(line) {
		p.joined = append(p.joined, line[:len(line)-1]...)
		p.joined = append(p.joined, ' ')
		p.continued = true
		return true
	}

	if !p.continued {
		return p.take(line, p.start)
	}

	whole := append(p.joined, line...)
	p.joined, p.continued = whole[:0], false
	return p.take(whole, p.start)
}

// endsInBackslash tells whether the last character is a backslash that is not escaped itself.
func endsInBackslash(line []byte) bool {
	n := len(line) - len(bytes.TrimRight(line, `\`))
	return n%2 == 1
}

// take reads one logical line; false when systemd would give up the file.
func (p *parser) take(line []byte, no int) bool {
	indent := len(line) - len(bytes.TrimLeft(line, Whitespace))
	pos := Pos{no, indent + 1}
	line = bytes.Trim(line, Whitespace)

	switch {
	case len(line) == 0:
	case len(p.file.Sections)+len(p.file.Assignments) >= MaxItems:
		p.fault(TooMany, line, pos)
		return false
	case !utf8.Valid(line):
		p.fault(NotUTF8, line, pos)
		return false
	case line[0] == '[' && line[len(line)-1] != ']':
		p.fault(BadHeader, line, pos)
		return false
	case line[0] == '[':
		p.section = string(line[1 : len(line)-1])
		p.file.Sections = append(p.file.Sections, Section{p.section, pos})
	default:
		p.assign(line, pos)
	}

	return true
}

func (p *parser) assign(line []byte, pos Pos) {
	key, value, found := bytes.Cut(line, []byte("="))
	switch {
	case len(p.file.Sections) == 0:
		p.fault(NoSection, line, pos)
	case !found:
		p.fault(NoEquals, line, pos)
	case len(key) == 0:
		p.fault(NoKey, line, pos)
	default:
		p.file.Assignments = append(p.file.Assignments, Assignment{
			Section: p.section,
			Key:     string(bytes.TrimRight(key, Whitespace)),
			Value:   string(bytes.TrimLeft(value, Whitespace)),
			Pos:     pos,
		})
	}
}

// shownText is how much of a faulty line is kept for a message, in bytes.
const shownText = 200

func (p *parser) fault(kind FaultKind, text []byte, pos Pos) {
	if len(p.file.Faults) >= maxFaults && !kind.Fatal() {
		return
	}

	shown := strings.ToValidUTF8(string(text[:min(len(text), shownText)]), "\ufffd")
	p.file.Faults = append(p.file.Faults, Fault{kind, strings.Trim(shown, Whitespace), p.section, pos})
}
