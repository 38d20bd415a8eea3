// Package textdiff prepares bytes of files for a unified diff of their lines.
package textdiff

import (
	"bytes"
	"strings"
)

// MaxLines is how many lines two texts may have together to be compared: a diff takes time by the square of
// them.
const MaxLines = 10_000

// maxText is how long a text may be to be shown line by line.
const maxText = 1 << 20

// IsText says that p can be shown line by line.
func IsText(p []byte) bool {
	return len(p) <= maxText && !bytes.ContainsRune(p, 0)
}

// Lines parts p as diff wants it, each line with its end; the last says when it has none.
func Lines(p []byte) []string {
	ls := strings.SplitAfter(string(p), "\n")
	if n := len(ls) - 1; ls[n] == "" {
		ls = ls[:n]
	} else {
		ls[n] += "\n\\ No newline at end of file\n"
	}
	return ls
}
