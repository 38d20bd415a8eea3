// Package plain makes text that a stranger wrote fit to be stored and shown.
//
// A stranger is whoever bellhop does not trust with a terminal or a web page: a host, the
// author of a commit, the sender of a webhook, the one who named a file. Their text can hold
// escape sequences, line breaks that forge a line of a log, and characters that turn the order
// of a line around.
//
// Its promise: what Line and Text return holds no control character, no invisible or
// bidirectional one, is valid UTF-8 and is not longer than asked for. Text that a host said is
// Foreign until a filter, which also knows the secret values, has made a string of it.
package plain

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxLine is how long a line is that nobody gave another limit: a subject, a name, a cause.
const MaxLine = 1 << 10

// ellipsis ends what was cut.
const ellipsis = "…"

// Line returns s as one line of at most limit bytes, and MaxLine bytes where limit is 0: line
// breaks and tabs become a space. What is longer is cut before a character and ends in "…".
func Line(s string, limit int) string {
	return cut(keep(s, func(r rune) rune {
		if isBreak(r) || r == '\t' {
			return ' '
		}
		return visible(r)
	}), limit)
}

// Text is Line for text of several lines: line breaks and tabs stay, the rarer line breaks
// (vertical tab, form feed, U+0085, U+2028, U+2029) become "\n", and "\r\n" does too.
func Text(s string, limit int) string {
	s = strings.ReplaceAll(s, "\r\n", "\n")

	return cut(keep(s, func(r rune) rune {
		switch {
		case isBreak(r):
			return '\n'
		case r == '\t':
			return r
		}
		return visible(r)
	}), limit)
}

// IsLine says whether Line would return s unchanged, but for its length.
func IsLine(s string) bool {
	for _, r := range s {
		if visible(r) < 0 {
			return false
		}
	}
	return utf8.ValidString(s)
}

// keep is strings.Map that spends nothing on printable ASCII, which nearly every text is.
func keep(s string, change func(rune) rune) string {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return strings.Map(change, strings.ToValidUTF8(s, ""))
		}
	}
	return s
}

// visible returns r, or -1 for what a reader can't see or what moves other characters.
func visible(r rune) rune {
	switch {
	case unicode.IsControl(r), isBreak(r):
		return -1
	case unicode.Is(unicode.Cf, r): // bidirectional marks, zero-width characters, tags
		return -1
	}
	return r
}

// isBreak says whether a terminal, a browser or an editor may begin a new line at r.
func isBreak(r rune) bool {
	switch r {
	case '\n', '\r', '\v', '\f', '\u0085', '\u2028', '\u2029':
		return true
	}
	return false
}

// cut shortens s to limit bytes, the ellipsis counted.
func cut(s string, limit int) string {
	if limit == 0 {
		limit = MaxLine
	}
	if len(s) <= limit {
		return s
	}
	if limit < len(ellipsis) {
		return ""
	}

	end := limit - len(ellipsis)
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + ellipsis
}

// Short is the beginning of a digest or of the id of a commit, as people read it.
func Short(id string) string { return id[:min(len(id), 12)] }

// Few is the first five names of a list, and how many more there are.
func Few(names []string) string {
	const most = 5
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}
