package secrets

import (
	"os"
	"path/filepath"
	"testing"
)

// TestHalfARename: when one of several renames fails, those already done are put back.
func TestHalfARename(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "old"), []byte("before"), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	writes := []*write{
		{file: "old", data: []byte("after"), old: []byte("before")},
		{file: "new", data: []byte("after")},
		{file: "last", data: []byte("after")},
	}
	for _, w := range writes {
		if err := w.stage(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Remove(writes[2].temp); err != nil {
		t.Fatal(err)
	}
	if err := renameAll(r, writes); err == nil {
		t.Fatal("renameAll succeeded without its third file")
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("%d files stand, want the old one alone (%v)", len(left), err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "old")); err != nil || string(b) != "before" {
		t.Errorf("the old file was not put back (%v)", err)
	}
}
