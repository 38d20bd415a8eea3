package gitsync

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"
)

// TestCommitFaults: what is wrong with a commit itself can be told from a clone that is damaged.
func TestCommitFaults(t *testing.T) {
	err := &fs.PathError{Op: "readdir", Path: "x", Err: fmt.Errorf("%w: %q", errName, "a/b")}
	if !errors.Is(err, fs.ErrInvalid) || !errors.Is(err, errName) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v is not taken for a fault of the commit", err)
	}
}
