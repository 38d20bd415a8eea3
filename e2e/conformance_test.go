//go:build e2e

package e2e

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// onEachSuite runs a test with host3 freshly installed as each Debian that the rig offers:
// systemd 252, and systemd 257.
func onEachSuite(t *testing.T, test func(t *testing.T)) {
	for _, suite := range []string{"bookworm", "trixie"} {
		t.Run(suite, func(t *testing.T) {
			t.Setenv("BELLHOP_RIG_SUITE", suite)
			rig(t, "wipe", "host3")
			test(t)
		})
	}
	rig(t, "wipe", "host3")
}

// The suite that holds the lab's twin to its word holds for a real host as well, so what
// passes in the lab means something.
func TestConformance(t *testing.T) {
	programs := map[string]string{}
	for _, pkg := range []string{"internal/lab/conformance", "internal/host/systemd", "internal/nixos"} {
		program := filepath.Join(t.TempDir(), "suite")
		if out, err := sh("..", "CGO_ENABLED=0 go test -c -o "+program+" ./"+pkg); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		programs[filepath.Base(pkg)] = program
	}

	nix := programs["nixos"]
	delete(programs, "nixos")
	onEachSuite(t, func(t *testing.T) {
		// First: the suites stop the system bus, after which a login takes long.
		t.Run("nix worker", func(t *testing.T) { nixWorker(t, nix) })
		for name, program := range programs {
			t.Run(name, func(t *testing.T) {
				if out, err := sh("", "cp "+program+" "+rigDir()+"/host3/root/root/suite"); err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
				out, err := exec.Command("rig/rig", "ssh", "host3", "BELLHOP_CONFORMANCE=1 /root/suite -test.v").CombinedOutput()
				if err != nil {
					t.Errorf("%v\n%s", err, out)
				}
			})
		}
	})
}

// The engine's own stories on a real machine: killed, unplugged and cut off in the middle.
func TestEngine(t *testing.T) {
	onEachSuite(t, func(t *testing.T) {
		cmd := exec.Command("go", "test", "-count=1", "-timeout=40m", "-run", "TestRig", "./internal/host")
		cmd.Dir = ".."
		cmd.Env = append(cmd.Environ(), "BELLHOP_TEST_SSH=ssh -i "+rigDir()+"/id -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR root@"+addr("host3"))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
}
