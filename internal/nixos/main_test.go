package nixos_test

import (
	"os"
	"os/exec"
	"testing"

	"bellhop/internal/nixos"
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
	if !nixos.Installed() {
		t.Skip("needs Nix on this machine: on Debian the package nix-bin has it")
	}
	if out, err := exec.Command("nix-store", "--version").CombinedOutput(); err != nil {
		t.Skipf("nix-store does not work here: %v: %s", err, out)
	}
	// No cache is asked: tests have no network. Builds of root need no users and no sandbox.
	t.Setenv("NIX_CONFIG", "substituters =\nsandbox = false\nbuild-users-group =\n")
}

// newNix counts the processes that it starts.
func newNix(t *testing.T) (n *nixos.Nix, started *[]string) {
	t.Helper()
	started = new([]string)
	n = &nixos.Nix{Dir: t.TempDir(), Started: func(argv []string) { *started = append(*started, argv[0]) }}
	return n, started
}
