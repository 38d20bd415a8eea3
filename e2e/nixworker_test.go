//go:build e2e

package e2e

import (
	"os/exec"
	"testing"
)

// nixWorker has the units of contrib run a worker on host3, which has no daemon of Nix, and looks what a configuration can
// read there: the program is internal/nixos's own test.
func nixWorker(t *testing.T, program string) {
	t.Helper()
	root := rigDir() + "/host3/root"
	must := func(line string) {
		t.Helper()
		if out, err := sh("", line); err != nil {
			t.Fatalf("%s: %v\n%s", line, err, out)
		}
	}
	must("cp " + program + " " + root + "/root/nixos.test && cp " + bin + " " + root + "/usr/local/bin/bellhop")
	must("mkdir -p " + root + "/etc/sysusers.d && cp ../contrib/bellhop-nix.socket ../contrib/bellhop-nix@.service " + root + "/etc/systemd/system/ && cp ../contrib/bellhop.sysusers " + root + "/etc/sysusers.d/bellhop.conf")
	on(t, "host3", `set -e
mkdir -p /etc/systemd/system/bellhop-nix@.service.d /var/lib/bellhop-deployer
printf '[Service]\nUser=root\nReadWritePaths=/nix\n' >/etc/systemd/system/bellhop-nix@.service.d/root.conf
umask 077; echo what-the-state-has >/var/lib/bellhop-deployer/secret
systemd-sysusers; systemctl daemon-reload; systemctl start bellhop-nix.socket`)

	run := "BELLHOP_TEST_NIX_WORKER=/run/bellhop-nix/socket BELLHOP_TEST_STATE=/var/lib/bellhop-deployer /root/nixos.test -test.v -test.run 'TestWorkerSeesNoState|TestWorker$'"
	out, err := exec.Command("rig/rig", "ssh", "host3", run+"; code=$?; journalctl -q --no-pager -n 20 -u 'bellhop-nix@*'; exit $code").CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
