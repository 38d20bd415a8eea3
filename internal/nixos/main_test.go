package nixos_test

import (
	"os"
	"testing"

	"bellhop/internal/nixos"
	"bellhop/internal/nixos/nixtest"
)

// Nix starts this binary as its ssh.
func TestMain(m *testing.M) {
	if nixos.IsSSH() {
		os.Exit(nixos.SSH(os.Args[1:], os.Stdin, os.Stdout))
	}
	os.Exit(m.Run())
}

// needNix skips a test where this machine has no Nix.
func needNix(t *testing.T) {
	t.Helper()
	nixtest.Need(t, "")
}

// newNix counts the processes that it starts.
func newNix(t *testing.T) (n *nixos.Nix, started *[]string) {
	t.Helper()
	started = new([]string)
	n = &nixos.Nix{Dir: t.TempDir(), Started: func(argv []string) { *started = append(*started, argv[0]) }}
	return n, started
}
