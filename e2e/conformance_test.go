//go:build e2e

package e2e

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// The suite that holds the lab's twin to its word holds for a real host as well, so what
// passes in the lab means something.
func TestConformance(t *testing.T) {
	rig(t, "wipe", "host3")
	for _, pkg := range []string{"internal/lab/conformance", "internal/host/systemd"} {
		t.Run(filepath.Base(pkg), func(t *testing.T) {
			suite := filepath.Join(t.TempDir(), "suite")
			if out, err := sh("..", "CGO_ENABLED=0 go test -c -o "+suite+" ./"+pkg); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if out, err := sh("", "cp "+suite+" "+rigDir()+"/host3/root/root/suite"); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			out, err := exec.Command("rig/rig", "ssh", "host3", "BELLHOP_CONFORMANCE=1 /root/suite -test.v").CombinedOutput()
			if err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// The engine's own stories on a real machine: killed, unplugged and cut off in the middle.
func TestEngine(t *testing.T) {
	rig(t, "wipe", "host3")
	cmd := exec.Command("go", "test", "-count=1", "-run", "TestRig", "./internal/host")
	cmd.Dir = ".."
	cmd.Env = append(cmd.Environ(), "BELLHOP_TEST_SSH=ssh -i "+rigDir()+"/id -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR root@"+addr("host3"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
