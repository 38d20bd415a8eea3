package plain

import (
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Visible returns s with what a terminal would obey, or not show, spelt as JSON does: "\u001b",
// "\u202e". Bytes that are not UTF-8 become "\u00ff" likewise. Line ends and tabs stay. Nothing is
// lost, so it fits names and JSON, in which such a character can only be inside of a string.
func Visible(s string) string {
	return spell(s, func(r rune) bool { return r == '\n' || r == '\t' })
}

// Name is Visible for what must stay on one line: the name of a file, a branch, a host.
func Name(s string) string {
	return spell(s, func(rune) bool { return false })
}

// spell returns s with all that visible drops written out, but what is kept.
func spell(s string, kept func(rune) bool) string {
	clean := true
	for i := 0; i < len(s) && clean; i++ {
		clean = s[i] >= ' ' && s[i] <= '~' || kept(rune(s[i]))
	}
	if clean {
		return s
	}

	var b strings.Builder
	for i, r := range s {
		isBroken := r == utf8.RuneError && !strings.HasPrefix(s[i:], "\ufffd")
		switch {
		case isBroken:
			fmt.Fprintf(&b, `\u%04x`, s[i])
		case kept(r), visible(r) >= 0:
			b.WriteRune(r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}
