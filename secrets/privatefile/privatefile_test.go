package privatefile_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bellhop/secrets/privatefile"
)

// TestIdentityOfAContainer: engines mount secrets 0444, or with the owner that the file has outside.
func TestIdentityOfAContainer(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "identity")
	if err := os.WriteFile(file, []byte("hunter2"), 0o600); err != nil {
		t.Fatal(err)
	}
	load := func(mode os.FileMode) error {
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		_, err := privatefile.Read(file)
		return err
	}
	refused := new(privatefile.Error)
	if err := load(0o444); !errors.As(err, &refused) || !strings.Contains(refused.Fix, "mount it below /run/secrets") {
		t.Errorf("an identity that all may read, where no engine put it: %v, want a refusal that says where it would be taken", err)
	}
	t.Cleanup(privatefile.MountsAt(dir))
	for mode, taken := range map[os.FileMode]bool{0o444: true, 0o440: true, 0o600: true, 0o644: true, 0o664: false, 0o646: false} {
		if err := load(mode); (err == nil) != taken {
			t.Errorf("an engine's secret with mode %o: %v, want it taken: %v", mode, err, taken)
		}
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(file, 12345, 12345); err != nil {
			t.Fatal(err)
		}
		if err := load(0o444); err != nil {
			t.Errorf("an engine's secret with the owner that it has outside: %v", err)
		}
	}
}

func TestMounted(t *testing.T) {
	for path, want := range map[string]bool{
		"/run/secrets/identity": true, "/var/run/secrets/bellhop/identity": true, "/run/secrets": false, "/run/secrets/../keys/x": false,
		"/run/secretsx/identity": false, "run/secrets/identity": false, "/home/cadey/identity": false,
	} {
		if got := privatefile.Mounted(path, 0o444); got != want {
			t.Errorf("Mounted(%s) = %v, want %v", path, got, want)
		}
	}
}
