package unitfile

import (
	"errors"
	"strings"
)

// errQuote says that a quote has no end.
var errQuote = errors.New("a quote is not closed")

// Words splits the value of a list at whitespace, as systemd does for lists of names: quotes are
// removed, also inside a word, and backslashes stay.
func Words(value string) ([]string, error) { return split(value, false) }

// CommandWords splits a command line: quotes are removed, and C escapes are replaced. Where a
// backslash escapes nothing that systemd knows, it stays, as in systemd: "\\;" is two characters.
func CommandWords(value string) ([]string, error) { return split(value, true) }

// split is the loop of both: one pass, each byte looked at once.
func split(value string, unescape bool) ([]string, error) {
	var words []string
	var word strings.Builder
	inWord := false
	quote := byte(0)

	for i := 0; i < len(value); i++ {
		c := value[i]
		switch {
		case c == '\\' && unescape:
			text, n, ok := unescapeC(value[i:])
			if !ok {
				text, n = `\`, 1
			}
			word.WriteString(text)
			inWord = true
			i += n - 1
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			word.WriteByte(c)
		case c == '"' || c == '\'':
			quote, inWord = c, true
		case strings.IndexByte(Whitespace, c) >= 0:
			if inWord {
				words = append(words, word.String())
				word.Reset()
				inWord = false
			}
		default:
			word.WriteByte(c)
			inWord = true
		}
	}

	if quote != 0 {
		return words, errQuote
	}

	if inWord {
		words = append(words, word.String())
	}

	return words, nil
}

// simpleEscapes are the escapes of one letter. "\s" is systemd's own, a space.
var simpleEscapes = map[byte]string{
	'a': "\a", 'b': "\b", 'f': "\f", 'n': "\n", 'r': "\r", 't': "\t", 'v': "\v",
	'\\': `\`, '"': `"`, '\'': `'`, 's': " ",
}

// unescapeC reads the escape at the beginning of s, and its length.
func unescapeC(s string) (text string, length int, ok bool) {
	if len(s) < 2 {
		return "", 0, false
	}

	if text, ok := simpleEscapes[s[1]]; ok {
		return text, 2, true
	}

	digits, base := 0, rune(16)
	begin := 2
	switch s[1] {
	case 'x':
		digits = 2
	case 'u':
		digits = 4
	case 'U':
		digits = 8
	case '0', '1', '2', '3':
		digits, base, begin = 3, 8, 1
	default:
		return "", 0, false
	}

	if len(s) < begin+digits {
		return "", 0, false
	}

	var r rune
	for _, c := range s[begin : begin+digits] {
		d := strings.IndexRune("0123456789abcdef", lower(c))
		if d < 0 || rune(d) >= base {
			return "", 0, false
		}
		r = r*base + rune(d)
	}

	if r <= 0 || r > 0x10ffff {
		return "", 0, false
	}

	isByte := s[1] != 'u' && s[1] != 'U'
	if isByte {
		return string([]byte{byte(r)}), begin + digits, true
	}

	return string(r), begin + digits, true
}

func lower(c rune) rune {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}

	return c
}
