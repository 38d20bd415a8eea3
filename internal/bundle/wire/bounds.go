package wire

import (
	"bytes"
	"fmt"
)

// bounds say what a message of a host may be made of, beside its bytes: three bytes of JSON
// ("{},") can be a struct of a hundred bytes in memory.
type bounds struct {
	values int // everything that a comma, a colon or a bracket begins
	text   int // bytes of one string, as written
}

const (
	maxDepth  = 8  // of brackets within each other; the deepest message has four
	maxNumber = 24 // bytes of a number or a word
)

// checkJSON counts what p is made of, before anything is allocated for it. It does not check
// the grammar, which the decoder does after it.
func checkJSON(p []byte, max bounds) error {
	depth, values, number := 0, 0, 0

	for i := 0; i < len(p); i++ {
		switch c := p[i]; c {
		case '"':
			end, err := endOfText(p[i+1:], max.text)
			if err != nil {
				return err
			}
			i += end
			number = 0

		case '{', '[':
			depth++
			values++
			number = 0

		case '}', ']':
			depth--
			number = 0

		case ',', ':':
			values++
			number = 0

		default:
			number++
		}

		switch {
		case depth > maxDepth:
			return fmt.Errorf("more than %d brackets within each other", maxDepth)
		case values > max.values:
			return fmt.Errorf("more than %d values", max.values)
		case number > maxNumber:
			return fmt.Errorf("a number of more than %d digits", maxNumber)
		}
	}

	return nil
}

// endOfText is how many bytes there are up to and with the quote that ends a string.
func endOfText(p []byte, most int) (int, error) {
	for n := 0; n <= most; {
		i := bytes.IndexAny(p[n:min(len(p), most+1)], `"\`)
		switch {
		case i < 0 && len(p) <= most:
			return 0, fmt.Errorf("a text without an end")
		case i < 0:
			return 0, fmt.Errorf("a text of more than %d bytes", most)
		case p[n+i] == '"':
			return n + i + 1, nil
		}
		n += i + 2 // what a backslash escapes
		if n > len(p) {
			return 0, fmt.Errorf("a text without an end")
		}
	}
	return 0, fmt.Errorf("a text of more than %d bytes", most)
}
