package main

import (
	"bytes"
	"io"
	"os"
	"regexp"
	"strings"
	"sync"
	"unicode/utf8"

	"bellhop/internal/plain"
	"bellhop/internal/privatekey"
)

// The last fence before a terminal, a pipe or a log: names, subjects, authors and causes are
// strangers' text, and this spells out whatever in them a terminal would obey, or not show. Our
// own colours, and the cursor of a live display, pass to a terminal alone. A private key that came
// into a message, since somebody typed it where a path or a name is wanted, is masked, and so is the login of an address.

// An output is stdout or stderr of a command. It remembers the first write that failed.
type output struct {
	io.Writer
	hasColour bool // it is a terminal

	mu   sync.Mutex
	part []byte // the beginning of a character whose rest is yet to be written
	err  error
}

func newOutput(w io.Writer) *output { return &output{Writer: w, hasColour: isTerminal(w)} }

var (
	ownColour = regexp.MustCompile("\x1b\\[(?:0|1|2|31|32|33|36)m")
	ownCursor = regexp.MustCompile("^\x1b\\[[0-9]+A\x1b\\[J") // of progress, at the start of a write
)

// Write passes p on, made visible.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()

	text := append(o.part, p...)
	whole := len(text) - unfinished(text)
	o.part = append([]byte(nil), text[whole:]...)
	return len(p), o.write([]byte(o.visible(string(text[:whole]))))
}

// write passes bytes on as they are. The lock is held.
func (o *output) write(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	_, err := o.Writer.Write(p)
	if o.err == nil {
		o.err = err
	}
	return err
}

func (o *output) visible(s string) string {
	s = plain.WithoutLogin(privatekey.Mask(s))
	s = strings.ReplaceAll(s, "\r\n", "\n") // as ssh ends its lines
	if !o.hasColour || !strings.Contains(s, "\x1b") {
		return plain.Visible(s)
	}

	cursor := ownCursor.FindString(s)
	s = s[len(cursor):]

	var b strings.Builder
	b.WriteString(cursor)
	at := 0
	for _, where := range ownColour.FindAllStringIndex(s, -1) {
		b.WriteString(plain.Visible(s[at:where[0]]) + s[where[0]:where[1]])
		at = where[1]
	}

	b.WriteString(plain.Visible(s[at:]))
	return b.String()
}

// unfinished is how many bytes at the end of p begin a character, or a line end, that p does not
// end.
func unfinished(p []byte) int {
	if bytes.HasSuffix(p, []byte("\r")) {
		return 1
	}

	for n := 1; n < utf8.UTFMax && n <= len(p); n++ {
		tail := p[len(p)-n:]
		if utf8.RuneStart(tail[0]) {
			if utf8.FullRune(tail) {
				return 0
			}
			return n
		}
	}
	return 0
}

func (o *output) failed() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

// A rawOutput is an output for bytes that somebody asked for as they are: a secret's value, what a
// command on a host writes.
type rawOutput struct{ *output }

func (o rawOutput) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(p), o.write(p)
}

// raw is w without the fence.
func raw(w io.Writer) io.Writer {
	if o, ok := w.(*output); ok {
		return rawOutput{o}
	}
	return w
}

// rawUnlessShown is w as it is for a program that reads it, and behind the fence for a person.
func rawUnlessShown(w io.Writer) io.Writer {
	if isTerminal(w) {
		return w
	}
	return raw(w)
}

// direct is what a child writes to by itself: a terminal must reach it as one.
func direct(w io.Writer) io.Writer {
	if o, ok := w.(*output); ok {
		return o.Writer
	}
	return w
}

// fileOf is the file that w is in the end; nil when it is none.
func fileOf(w any) *os.File {
	if o, ok := w.(*output); ok {
		w = o.Writer
	}
	f, _ := w.(*os.File)
	return f
}
