package systems

import (
	"bytes"
	"sync"
	"testing"
)

// Both streams of a session write what is said, at once, and the first of it is kept.
func TestLimited(t *testing.T) {
	out := &limited{}
	var work sync.WaitGroup
	for range 2 {
		work.Go(func() {
			for range maxSaid / 16 {
				out.Write(bytes.Repeat([]byte("x"), 10))
			}
		})
	}
	work.Wait()
	if len(out.b) != maxSaid {
		t.Errorf("%d bytes are kept of what was said, want %d", len(out.b), maxSaid)
	}
}
