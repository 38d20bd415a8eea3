//go:build e2e

package e2e

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// The stand-in for NixOS: systems from derivations alone, without nixpkgs, on a host with Nix.
const standInDir = "../internal/host/testdata/nixos"

// nixosCanary is the value of a key, which no store may have.
const nixosCanary = "canary-5f1c0a7e93"

// nixOffline is how Nix runs in the tests: nothing is fetched, and root builds.
const nixOffline = "substituters =\nsandbox = false\nbuild-users-group =\n"

// standIn reads the files that systems are made from.
func standIn(t testing.TB) map[string]string {
	t.Helper()
	files := map[string]string{}
	for _, name := range []string{"switch.sh", "system.nix"} {
		text, err := os.ReadFile(filepath.Join(standInDir, name))
		if err != nil {
			t.Fatal(err)
		}
		files[name] = string(text)
	}
	return files
}

// becomesNixOS gives a host a first system, built there, and what bellhop knows a NixOS host by.
func becomesNixOS(t testing.TB, host string) {
	t.Helper()
	dir := filepath.Join(rigDir(), host, "root/root/standin")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	files := standIn(t)
	files["first.nix"] = systemOf("nixos-system-first", "./system.nix", "", map[string]string{"web": "exec sleep 1000"}) + "\n"
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// What boots is what the boot loader of a NixOS host would have; here a unit brings it.
	boots := "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh -c 's=$$(readlink /nix/boots) && ln -sfn $$s /run/booted-system && exec $$s/bin/switch-to-configuration test'\n[Install]\nWantedBy=multi-user.target\n"
	if err := os.WriteFile(filepath.Join(rigDir(), host, "root/etc/systemd/system/nixos-boots.service"), []byte(boots), 0o644); err != nil {
		t.Fatal(err)
	}
	on(t, host, `one=$(HOME=/root nix-build --no-out-link /root/standin/first.nix) && touch /etc/NIXOS &&
		nix-env -p /nix/var/nix/profiles/system --set $one && $one/bin/switch-to-configuration switch && ln -sfn $one /run/booted-system && systemctl enable -q nixos-boots`)
}

// systemOf is a Nix expression of a system with a user, unless that is "", and services, each of which runs a line
// of shell.
func systemOf(name, from, user string, services map[string]string) string {
	return systemThat(name, from, user, services, "")
}

// systemThat is systemOf with one more line of shell that makes the system.
func systemThat(name, from, user string, services map[string]string, more string) string {
	var units strings.Builder
	units.WriteString("echo " + user + " >$out/users\n")
	for _, unit := range slices.Sorted(maps.Keys(services)) {
		units.WriteString("printf '%s\\n' '[Service]' 'Type=exec' 'ExecStart=/bin/sh -c \"" + services[unit] + "\"' >$out/units/" + unit + ".service\n")
	}
	units.WriteString(more + "\n")
	return "import " + from + " { name = \"" + name + "\"; make = ''\n" + units.String() + "''; }"
}

// flakeOf is a flake whose chrysalis is system, with one key that is sealed in the repo.
func flakeOf(system string) map[string]string {
	return map[string]string{"flake.nix": `{ outputs = { self }: { nixosConfigurations.chrysalis = {
  config = { system.build.toplevel = ` + system + `; 
  deployment.keys.token = { keyFile = ./secrets/token.age; user = "bot"; group = "bot"; permissions = "0440"; }; };
}; }; }
`}
}

func systemWith(services map[string]string) map[string]string {
	return flakeOf(systemOf("nixos-system-chrysalis", "./nixos/system.nix", "bot", services))
}

// systemLinks are where the profile and what runs lead to, and the generations of the profile.
func systemLinks(t testing.TB) string {
	t.Helper()
	return on(t, "host3", "cd /nix/var/nix/profiles && readlink -f system /run/current-system && for l in system*; do echo $l $(readlink $l); done")
}

// nixWorld has chrysalis, which is a NixOS host with a key that is sealed in the repo, and lufta, which is none.
func nixWorld(t testing.TB) *world {
	t.Helper()
	t.Setenv("NIX_CONFIG", nixOffline)
	rig(t, "wipe", "host2")
	becomesNixOS(t, "host3")

	w := newDeployer(t)
	w.bellhop("init")
	w.edit("bellhop.yaml", "network:", "rollout: { waves: [] }\nnetwork:")
	w.bellhop("host", "add", "chrysalis", "root@"+addr("host3"))
	w.bellhop("host", "add", "lufta", "root@"+addr("host2"))
	w.edit("bellhop.yaml", "  chrysalis:\n", "  chrysalis:\n    nixos: .#chrysalis\n")
	w.edit("bellhop.yaml", "  lufta:\n", "  lufta:\n    services: { x: true }\n")
	if out, code := w.tryIn(strings.NewReader(nixosCanary), "secret", "set", "token"); code != 0 {
		t.Fatal(out)
	}
	for name, text := range standIn(t) {
		w.write(map[string]string{"nixos/" + name: text})
	}
	return w
}

// deployBoth commits and deploys; chrysalis must end in state, and lufta must have what the commit brings it.
func (w *world) deployBoth(msg, state string) string {
	w.t.Helper()
	w.write(map[string]string{"services/x/x.service": sleeper + "# " + msg + "\n"})
	w.commit(msg)
	out, _ := w.try("deploy")
	for range 20 { // on a slow machine the run may go on without a system that is still built
		if w.status().state("chrysalis") != "pending" {
			break
		}
		time.Sleep(5 * time.Second)
		out, _ = w.try("deploy")
	}
	if s := w.status(); s.state("chrysalis") != state || s.state("lufta") != "current" {
		w.t.Fatalf("%s: chrysalis is %s, want %s; lufta is %s\n%s", msg, s.state("chrysalis"), state, s.state("lufta"), out)
	}
	if got := on(w.t, "host2", "cat /etc/systemd/system/x.service"); !strings.Contains(got, msg) {
		w.t.Errorf("%s: lufta has not got it:\n%s", msg, got)
	}
	return out
}

// A push evaluates, builds and copies a NixOS system, and the host goes over to it with its key; one that fails
// there goes back to the exact path; one that can't be evaluated stops no other host.
func TestNixOS(t *testing.T) { onEachSuite(t, nixosStory) }

func nixosStory(t *testing.T) {
	w := nixWorld(t)
	w.write(map[string]string{"services/x/x.service": sleeper})
	w.write(systemWith(map[string]string{"web": "cat /run/keys/token >/run/said; exec sleep 1001"}))
	w.push("a system")
	one := systemLinks(t)
	path, _, _ := strings.Cut(one, "\n")
	if !strings.HasSuffix(path, "-nixos-system-chrysalis") || !strings.HasPrefix(one, path+"\n"+path+"\n") || !strings.Contains(one, "system system-2-link") {
		t.Errorf("after the first push:\n%s", one)
	}
	if got := on(t, "host3", "systemctl is-active web; stat -c '%U:%G %a' /run/keys/token; cat /run/said"); got != "active\nbot:bot 440\n"+nixosCanary {
		t.Errorf("web is %q", got)
	}

	w.write(systemWith(map[string]string{"web": "exec sleep 1002", "comes": "echo it does not work; exit 7"}))
	out := w.deployBoth("a unit that fails", "rolled-back")
	if now := systemLinks(t); now != one || !strings.Contains(out, "it does not work") {
		t.Errorf("after a unit that failed:\n%s\nbefore:\n%s\n%s", now, one, out)
	}
	if got := on(t, "host3", "systemctl show -P ExecStart web; systemctl is-active web"); !strings.Contains(got, "1001") || !strings.HasSuffix(got, "\nactive") {
		t.Errorf("web is %s", got)
	}

	w.write(flakeOf(`throw "the disk is too small"`))
	if out := w.deployBoth("no system", "failed"); !strings.Contains(out, "the disk is too small") {
		t.Errorf("nobody is told why:\n%s", out)
	}
	if now := systemLinks(t); now != one {
		t.Errorf("without a system:\n%s\nbefore:\n%s", now, one)
	}

	w.write(systemWith(map[string]string{"web": "exec sleep 1003"}))
	w.deployBoth("good again", "current")
	good := systemLinks(t)
	if !strings.Contains(good, "system system-3-link") || on(t, "host3", "systemctl is-active web") != "active" {
		t.Errorf("after the last push:\n%s", good)
	}

	w.nixosOneIsBroken()
	w.write(systemWith(map[string]string{"web": "exec sleep 1003"}))
	w.deployBoth("good once more", "current")
	good = systemLinks(t)
	w.nixosTriesABranch()
	w.nixosDryActivates()
	w.nixosGoesBack(good)
	w.bellhop("resume", "chrysalis")
	w.nixosLosesItsPlug()
	w.nixosIsCutOff()
	w.nixosCopyIsCut()
	w.nixosBuildsItself()
	w.noCanaryInStores()
}

// nixosGoesBack has a rollback bring back a system with the key of its time.
func (w *world) nixosGoesBack(good string) {
	t := w.t
	t.Helper()
	w.secret("token", "another")
	w.write(systemWith(map[string]string{"web": "exec sleep 1004"}))
	w.deployBoth("another key", "current")
	if got := on(t, "host3", "cat /run/keys/token"); got != "another" {
		t.Errorf("the key is %q", got)
	}

	w.bellhop("rollback", "chrysalis", "--reason", "1004 is bad")
	path, _, _ := strings.Cut(good, "\n")
	if got := systemLinks(t); !strings.HasPrefix(got, path+"\n"+path+"\n") {
		t.Errorf("after the rollback:\n%s\nwant %s", got, path)
	}
	if got := on(t, "host3", "stat -c '%U %a' /run/keys/token; cat /run/keys/token"); got != "bot 440\n"+nixosCanary {
		t.Errorf("after the rollback the key is %q", got)
	}
}

// noCanaryInStores looks for the value of the key in both stores.
func (w *world) noCanaryInStores() {
	w.t.Helper()
	look := "grep -rlF " + nixosCanary + " /nix/store /nix/var/log 2>/dev/null | head -n 5"
	if got := on(w.t, "host3", look); got != "" {
		w.t.Errorf("the value of the key is in the host's store: %s", got)
	}
	if got := w.sh("", look); got != "" {
		w.t.Errorf("the value of the key is in the deployer's store: %s", got)
	}
}
