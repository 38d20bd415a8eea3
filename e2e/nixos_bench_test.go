//go:build e2e

package e2e

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// BenchmarkRatioNixOS brings a system with a changed unit to one host: `bellhop deploy`, less the time for which it watches
// the units, against nix build, nix copy and switch by hand. Both start cold processes; they alternate; medians of five.
func BenchmarkRatioNixOS(b *testing.B) {
	const settle = 5 * time.Second // the default; by hand nobody waits
	withSmallHelper(b)
	rig(b, "wipe", "host3")
	w := nixWorld(b)
	w.edit("bellhop.yaml", "network:", "confirm: 0s\nnetwork:")
	w.write(map[string]string{"services/x/x.service": sleeper})
	commit := func(n int) {
		w.write(systemWith(map[string]string{"web": fmt.Sprintf("exec sleep %d", n)}))
		w.commit(fmt.Sprint("web ", n))
	}
	ssh := "ssh -i " + rigDir() + "/id -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
	byHand := fmt.Sprintf(`set -e
export NIX_SSHOPTS='%[1]s'
nix='nix --extra-experimental-features nix-command --extra-experimental-features flakes'
out=$($nix build --no-link --json path:%[2]s#nixosConfigurations.chrysalis.config.system.build.toplevel | sed 's/.*"out":"\([^"]*\)".*/\1/')
$nix copy --to ssh://root@%[3]s $out
%[4]s root@%[3]s "nix-env -p /nix/var/nix/profiles/system --set $out && $out/bin/switch-to-configuration switch"
`, strings.TrimPrefix(ssh, "ssh "), w.work, addr("host3"), ssh)

	const rounds = 5
	var base, subject []time.Duration
	for i := range rounds + 1 {
		commit(2000 + i)
		began := time.Now()
		w.bellhop("deploy")
		took := time.Since(began) - settle

		commit(3000 + i)
		began = time.Now()
		if out, err := exec.Command("bash", "-c", byHand).CombinedOutput(); err != nil {
			b.Fatalf("by hand: %v\n%s", err, out)
		}
		if i > 0 { // the first round warms both
			subject, base = append(subject, took), append(base, time.Since(began))
		}
	}

	reportRatio(b, subject, base, 1.3, "a NixOS system took %.2f × nix build, nix copy and switch by hand")
}
