// Package nixtest prepares tests that run real Nix.
package nixtest

import (
	"os/exec"
	"testing"

	"bellhop/internal/nixos"
)

// Need skips a test where this machine has no Nix that works. more are further lines for NIX_CONFIG.
func Need(t *testing.T, more string) {
	t.Helper()
	if !nixos.Installed() {
		t.Skip("needs Nix on this machine: on Debian the package nix-bin has it")
	}
	if out, err := exec.Command("nix-store", "--version").CombinedOutput(); err != nil {
		t.Skipf("nix-store does not work here: %v: %s", err, out)
	}

	// No cache is asked: tests have no network. Builds of root need no users and no sandbox.
	t.Setenv("NIX_CONFIG", "substituters =\nsandbox = false\nbuild-users-group =\n"+more)
}
