package plain

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// A Quote is an error that quotes a stranger. Its Error says only how much was quoted; Reveal
// shows the quote through a filter, also when other errors were wrapped around it.
type Quote struct {
	What  string // what failed, in our own words
	Said  Foreign
	Cause error // for errors.Is and errors.As; its text is not shown. May be nil
}

// maxSaid is how much of a stranger's words Quoted keeps, bytes: the end.
const maxSaid = 4 << 10

// Quoted is an error that quotes what a stranger said, after a text of our own made as by
// fmt.Sprintf. Where nothing was said, it says so.
func Quoted(said []byte, format string, args ...any) error {
	what := fmt.Sprintf(format, args...)
	if len(bytes.TrimSpace(said)) == 0 {
		return errors.New(what + ": it said nothing")
	}

	return &Quote{What: what, Said: NewForeign(string(said[max(0, len(said)-maxSaid):]))}
}

// Error is what failed, and how many bytes the host said.
func (q *Quote) Error() string { return q.with(q.Said.mark()) }

func (q *Quote) with(said string) string {
	switch {
	case q.What == "":
		return said
	case q.Said.IsEmpty():
		return q.What
	}
	return q.What + ": " + said
}

// Unwrap returns the cause.
func (q *Quote) Unwrap() error { return q.Cause }

// maxQuote is how much of a quote is shown, bytes: its end, which tells what went wrong.
const maxQuote = 300

// Reveal is the text of err with each Quote in it as filter makes it: one line, of which the
// end is kept. So secret values are taken out before anything is cut or joined.
func Reveal(err error, filter func(string) string) string {
	if err == nil {
		return ""
	}

	text := err.Error()
	for _, q := range quotes(err, nil) {
		if !q.Said.IsEmpty() {
			text = strings.Replace(text, q.Said.mark(), lastLine(q.Said.Filtered(filter)), 1)
		}
	}
	return text
}

func lastLine(s string) string {
	s = strings.Join(strings.Fields(Text(s, max(len(s), 1))), " ")
	if len(s) <= maxQuote {
		return s
	}

	s = s[len(s)-maxQuote:]
	for len(s) > 0 && !utf8.RuneStart(s[0]) {
		s = s[1:]
	}
	return ellipsis + s
}

// HasQuote says whether err quotes a stranger.
func HasQuote(err error) bool {
	var q *Quote
	return errors.As(err, &q)
}

// quotes lists the Quotes in err, in the order of their texts.
func quotes(err error, found []*Quote) []*Quote {
	if q, ok := err.(*Quote); ok {
		return append(found, q)
	}

	switch e := err.(type) {
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil {
			found = quotes(inner, found)
		}
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			if inner != nil {
				found = quotes(inner, found)
			}
		}
	}
	return found
}

// Equal says whether two texts are the same, byte for byte.
func (f Foreign) Equal(other Foreign) bool { return f.raw() == other.raw() }
