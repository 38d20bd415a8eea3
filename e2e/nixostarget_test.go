//go:build e2e

package e2e

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// ranSystem is the store path of what runs on host3, which is what its profile has.
func ranSystem(t testing.TB) string {
	t.Helper()
	path, rest, _ := strings.Cut(systemLinks(t), "\n")
	if !strings.HasPrefix(rest, path+"\n") {
		t.Errorf("the profile has %s, and this runs: %s", path, rest)
	}
	return path
}

// A plan of the head asks a host what going over to its system would do, and of nothing else.
func (w *world) nixosDryActivates() {
	t := w.t
	t.Helper()
	before := systemLinks(t)
	w.write(systemWith(map[string]string{"web": "exec sleep 1010"}))
	w.commit("what would it do")
	if out := w.bellhop("plan", "--dry-activate", "chrysalis"); !strings.Contains(out, "dry-activate: would restart web.service") {
		t.Errorf("nobody is told what would restart:\n%s", out)
	}
	if now := systemLinks(t); now != before {
		t.Errorf("after a plan:\n%s\nbefore:\n%s", now, before)
	}
	if out, code := w.try("plan", "--dry-activate", "lufta"); code == 0 || !strings.Contains(out, "lufta is no NixOS host") {
		t.Errorf("a host that is none: exit %d\n%s", code, out)
	}
}

// With build_on: target the host builds its system, and, where the deployer has no Nix, evaluates it.
func (w *world) nixosBuildsItself() {
	t := w.t
	t.Helper()
	w.edit("bellhop.yaml", "nixos: .#chrysalis", "nixos: { attr: chrysalis, build_on: target }")
	w.write(systemWith(map[string]string{"web": "exec sleep 1005; " + rand.Text()}))
	w.deployBoth("built there", "current")
	built := ranSystem(t)
	if _, err := os.Stat(built); !os.IsNotExist(err) {
		t.Errorf("%s is on the deployer too: %v", built, err)
	}
	if got := on(t, "host3", "systemctl show -P ExecStart web; cat /run/keys/token; readlink -f /nix/var/nix/gcroots/bellhop/derivation"); !strings.Contains(got, "1005") || !strings.Contains(got, "another") || !strings.HasSuffix(got, ".drv") {
		t.Errorf("after a system that the host built: %s", got)
	}

	w.write(flakeOf(`import ./nixos/system.nix { name = "nixos-system-bad"; make = "echo it does not fit; exit 3"; }`))
	if out := w.deployBoth("does not build", "refused"); !strings.Contains(out, "it does not fit") {
		t.Errorf("nobody is told why:\n%s", out)
	}
	if now := ranSystem(t); now != built {
		t.Errorf("after a system that can't be built %s runs, want %s", now, built)
	}

	w.withoutNix()
	w.write(systemWith(map[string]string{"web": "exec sleep 1006"}))
	if out := w.deployBoth("with a key", "failed"); !strings.Contains(out, "could so ask for the keys of others") {
		t.Errorf("a host that evaluates gets keys:\n%s", out)
	}
	w.write(map[string]string{"flake.nix": `{ outputs = { self }: { nixosConfigurations.chrysalis.config.system.build.toplevel = ` +
		systemOf("nixos-system-own", "./nixos/system.nix", "", map[string]string{"web": "exec sleep 1007; " + rand.Text()}) + `; }; }` + "\n"})
	w.deployBoth("evaluated there", "current")
	own := ranSystem(t)
	if _, err := os.Stat(own); !strings.HasSuffix(own, "-nixos-system-own") || !os.IsNotExist(err) {
		t.Errorf("%s runs; on the deployer: %v", own, err)
	}
	if got := on(t, "host3", "ls -d /run/bellhop-nix-* 2>/dev/null; systemctl show -P ExecStart web"); strings.Contains(got, "bellhop-nix-") || !strings.Contains(got, "1007") {
		t.Errorf("after a system that the host evaluated: %s", got)
	}
}

// withoutNix takes the programs of Nix from the PATH of the deployer.
func (w *world) withoutNix() {
	w.t.Helper()
	dir := w.t.TempDir()
	w.sh(dir, "ln -s /usr/bin/* . && rm nix*")
	if left, _ := filepath.Glob(filepath.Join(dir, "nix*")); len(left) > 0 {
		w.t.Fatalf("left: %q", left)
	}
	w.stop()
	w.env = append(w.env, "PATH="+dir)
	w.start()
}
