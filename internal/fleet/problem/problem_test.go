package problem

import (
	"bytes"
	"testing"
)

// TestLinesInOnePass: the source lines of many problems are found in one pass over the file.
func TestLinesInOnePass(t *testing.T) {
	data := bytes.Repeat([]byte("    x99: 1\n"), 100_000)
	var c citer
	for n := 2; n < 2000; n++ {
		c.line(data, n)
	}
	if c.seen > 40_000 {
		t.Errorf("%d bytes were gone through for 2000 lines in a row", c.seen)
	}
}
