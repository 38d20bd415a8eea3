package screen_test

import (
	"slices"
	"strings"
	"testing"

	"bellhop/internal/screen"
)

// A line is cut between words where it can be; colours end with each line and begin again with the next.
func TestWrapped(t *testing.T) {
	for _, c := range []struct {
		text  string
		width int
		want  []string
	}{
		{"short\nlines\n\n", 12, []string{"short", "lines"}},
		{"runs are paused by cadey", 12, []string{"runs are", "paused by", "cadey"}},
		{"\x1b[33mruns are paused by cadey\x1b[0m", 12, []string{"\x1b[33mruns are\x1b[0m", "\x1b[33mpaused by\x1b[0m", "\x1b[33mcadey\x1b[0m"}},
		{strings.Repeat("x", 25), 10, []string{"xxxxxxxxxx", "xxxxxxxxxx", "xxxxx"}},
		{"日本語です", 4, []string{"日本", "語で", "す"}},
		{"日本", 1, []string{"日本"}},
		{"anything", 0, []string{"anything"}},
	} {
		if got := screen.Wrapped(c.text, c.width); !slices.Equal(got, c.want) {
			t.Errorf("Wrapped(%q, %d) = %q, want %q", c.text, c.width, got, c.want)
		}
	}
}
