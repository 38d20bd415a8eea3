package edit_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"bellhop/secrets/edit"
)

// The editor sees the value; what it saves comes back, bounded, and nothing is left in RAM.
func TestInRAM(t *testing.T) {
	dir, err := os.MkdirTemp("/dev/shm", "bellhop-test-")
	if err != nil {
		t.Skip("no /dev/shm here")
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	t.Setenv("XDG_RUNTIME_DIR", dir)

	got, err := edit.InRAM("token", []byte("hunter2"), 100, edit.Editor{Command: `sed -i s/2/3/`})
	if err != nil || string(got) != "hunter3" {
		t.Errorf("InRAM(sed) = %q, %v, want hunter3", got, err)
	}
	got, err = edit.InRAM("token", []byte("hunter2"), 3, edit.Editor{Command: "true"})
	if err != nil || len(got) != 4 {
		t.Errorf("InRAM with a limit of 3 gave %d bytes, %v, want 4: too many to be taken", len(got), err)
	}
	if _, err := edit.InRAM("token", nil, 100, edit.Editor{Command: "false"}); err == nil {
		t.Error("InRAM took what an editor left that failed")
	}
	if _, err := edit.InRAM("token", nil, 100, edit.Editor{Command: "rm"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("InRAM with an editor that removes the file = %v, want that it is not there", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 0 {
		t.Errorf("left in RAM: %v", left)
	}
}
