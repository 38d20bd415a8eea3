package main

import (
	"fmt"
	"io"
)

// indented is a writer that gets whole lines and puts them a little to the right.
type indented struct{ w io.Writer }

func (i *indented) Write(b []byte) (int, error) {
	if string(b) == "\n" {
		return i.w.Write(b)
	}
	if _, err := fmt.Fprintf(i.w, "   %s", b); err != nil {
		return 0, err
	}
	return len(b), nil
}
