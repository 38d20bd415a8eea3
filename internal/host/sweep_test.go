package host_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bellhop/internal/bundle"
)

// Values that a killed session or run left in RAM are gone after the next session, whatever
// was left of the session on disk. One that still lives keeps its own.
func TestLeftoverKeysAreSwept(t *testing.T) {
	b := newBox(t)
	b.deploy(bot("one"), bundle.OutcomeDone)
	keys := filepath.Join(b.m.Root, bundle.KeyDir)
	for _, name := range []string{".new-dead", ".new-dead.abcdefgh", ".old-dead", ".before/dead"} {
		if err := os.MkdirAll(filepath.Join(keys, name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(keys, name, "x"), []byte("hunter2"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b.deploy(bot("two"), bundle.OutcomeDone)
	names, err := os.ReadDir(keys)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range names {
		if strings.HasPrefix(e.Name(), ".") {
			t.Errorf("%s is left in %s", e.Name(), bundle.KeyDir)
		}
	}
}
