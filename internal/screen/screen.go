// Package screen fits text into the columns of a terminal.
//
// A text may have colours, which take no column: each line that is made of it ends them, and the next one begins with them again.
package screen

import "strings"

// Lines are the lines of a text, without those at its end that are empty.
func Lines(text string) []string { return strings.Split(strings.TrimRight(text, "\n"), "\n") }

// narrowest is the least width of a screen on which a line is more than one wide character.
const narrowest = 2

// Wrapped are the lines of text, those that are too long as several that end between words.
func Wrapped(text string, width int) []string {
	if width < narrowest {
		return Lines(text)
	}

	var out []string
	for _, line := range Lines(text) {
		for {
			first := Cut(line, width)
			if first == line {
				break
			}

			n := len(strings.TrimSuffix(first, endOfColour(line)))
			colour := lastColour(line[:n])
			if space := strings.LastIndexByte(line[:n+1], ' '); space > 0 {
				out, line = append(out, line[:space]+endOfColour(line)), colour+line[space+1:]
			} else {
				out, line = append(out, first), colour+line[n:]
			}
		}
		out = append(out, line)
	}

	return out
}

// lastColour is the colour in which text ends; "" when it ends in none.
func lastColour(text string) string {
	at := strings.LastIndex(text, "\x1b[")
	if at < 0 {
		return ""
	}

	code, _, _ := strings.Cut(text[at:], "m")
	if code == "\x1b[0" || code == "\x1b[" {
		return ""
	}
	return code + "m"
}

// Cut is the beginning of a line that fits into width columns. Colours take no column, and end with the line. A wide character
// counts as two.
func Cut(line string, width int) string {
	var b strings.Builder
	column, isCode := 0, false

	for _, r := range line {
		switch {
		case r == '\x1b':
			isCode = true
		case isCode:
			isCode = r != 'm'
		default:
			column++
			if r >= 0x2e80 {
				column++ // from here on most are wide; a narrow one that counts as two does no harm
			}
			if column > width {
				return b.String() + endOfColour(line)
			}
		}
		b.WriteRune(r)
	}

	return b.String()
}

func endOfColour(line string) string {
	if strings.Contains(line, "\x1b") {
		return "\x1b[0m"
	}
	return ""
}
