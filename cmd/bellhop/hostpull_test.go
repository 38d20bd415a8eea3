package main

import (
	"os"
	"path/filepath"
	"testing"
)

// A deployer on another machine names the file that is written here: it may be one of a service, and nothing else.
func TestPulledFileIsOneOfAService(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"services/web/files/etc/x", ".git/config", "services/web/.git/config", "Makefile"} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"services/out": "../.git", "services/web/link": "../../Makefile"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()

	for name, want := range map[string]bool{
		"services/web/files/etc/x": true, "services/web/new": true, "Makefile": false, ".git/config": false, "services/web/.git/config": false,
		"services/out/config": false, "services/web/link": false, "services/web/../../Makefile": false, "/etc/passwd": false, "services/web": false, "": false,
	} {
		if got := isServiceFile(root, name); got != want {
			t.Errorf("%q: %v, want %v", name, got, want)
		}
	}
}
