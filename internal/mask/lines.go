package mask

import (
	"regexp"
	"strings"
	"sync"
)

// Withheld stands in place of lines over which a value is spread.
const Withheld = "‹withheld: a key's value is spread over these lines›"

// Lines are the lines of one text as mask, which Of made, lets them pass. A value that goes on over
// several lines is found too: then all of them are withheld.
func Lines(mask func(string) string, lines []string) []string {
	if len(lines) == 0 {
		return nil
	}

	shown := make([]string, len(lines))
	for i, line := range lines {
		shown[i] = mask(line)
	}

	seen := letters(strings.Join(shown, "\n"))
	for _, between := range []string{"\n", "", " "} { // as it is, as one word, and as a text that was wrapped
		if letters(mask(strings.Join(lines, between))) != seen {
			return []string{Withheld}
		}
	}
	return shown
}

var tag = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile("‹key [^‹›]*›") })

// letters are what a masked text still shows, without spaces and line breaks.
func letters(masked string) string {
	return strings.Join(strings.Fields(tag().ReplaceAllString(masked, "")), "")
}
