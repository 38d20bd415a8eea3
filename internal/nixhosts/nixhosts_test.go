package nixhosts_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"bellhop/internal/fleet"
	"bellhop/internal/nixhosts"
	"bellhop/internal/nixos"
	"bellhop/internal/nixos/nixtest"
)

func needNix(t *testing.T) {
	t.Helper()
	nixtest.Need(t, "")
}

func file(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text), Mode: 0o644} }

func repo(hosts string) fstest.MapFS {
	return fstest.MapFS{"flake.nix": file(`{ outputs = { self }: let
	  host = name: script: keys: { config = { deployment.keys = keys; system.build.toplevel = derivation {
	    name = "nixos-system-${name}"; system = "x86_64-linux"; builder = "/bin/sh"; args = [ "-c" script ]; }; }; };
	in { nixosConfigurations = { ` + hosts + ` }; }; }`),
		"secrets/db.age": file("age-encryption.org/v1\n"), "secrets/plain": file("plain")}
}

func hostsOf(names ...string) []*fleet.Host {
	var all []*fleet.Host
	for _, n := range names {
		all = append(all, &fleet.Host{Name: n, NixOS: &fleet.NixOS{Attr: n}})
	}
	return all
}

func TestSystemsOfAFleet(t *testing.T) {
	needNix(t)
	var started []string
	h := &nixhosts.Hosts{Nix: &nixos.Nix{Dir: t.TempDir(), Started: func(argv []string) { started = append(started, argv[0]) }}}
	tree := repo(`good = host "good" "echo > $out" { db.keyFile = ./secrets/db.age; t.text = "hunter2"; p.keyFile = ./secrets/plain; };
	  thrown = throw "the disk is too small"; unbuilt = host "unbuilt" "echo why it failed; exit 3" { };`)
	all := h.Systems(t.Context(), tree, strings.Repeat("1", 40), hostsOf("good", "thrown", "unbuilt"))

	good := all["good"]
	if good.Err != nil || !strings.HasSuffix(good.Path, "-nixos-system-good") || len(good.Keys) != 3 {
		t.Fatalf("good came to %+v", good)
	}
	notices := strings.Join(good.Notices, "\n")
	if len(good.Notices) != 2 || !strings.Contains(notices, "deployment.keys.t: text stands in the repo") || !strings.Contains(notices, "deployment.keys.p: keyFile secrets/plain is in the repo as it is") {
		t.Errorf("notices are %q", good.Notices)
	}
	if strings.Contains(notices+fmt.Sprintf("%+v", good.Keys), "hunter2") {
		t.Error("the value of a key is told")
	}
	for _, k := range good.Keys {
		if k.Name == "t" {
			if v, err := k.Value(); err != nil || string(v) != "hunter2" {
				t.Errorf("Value of t: %d bytes, %v", len(v), err)
			}
		}
	}

	for host, want := range map[string]string{"thrown": "the disk is too small", "unbuilt": "nixos-system-unbuilt: builder failed with exit code 3"} {
		var failed *fleet.SystemError
		if !errors.As(all[host].Err, &failed) || !strings.Contains(failed.Text, want) || len(failed.Lines) == 0 {
			t.Errorf("%s: %#v, want %q and lines", host, all[host].Err, want)
		}
	}

	before := len(started)
	again := h.Systems(t.Context(), tree, strings.Repeat("2", 40), hostsOf("good", "thrown", "unbuilt"))
	if len(started) != before {
		t.Errorf("another commit with the same tree started %v", started[before:])
	}
	if again["good"].Path != good.Path || again["thrown"].Err == nil || again["unbuilt"].Err == nil {
		t.Errorf("the second time: %+v", again)
	}
}

func TestKeysThatAreRefused(t *testing.T) {
	needNix(t)
	h := &nixhosts.Hosts{Nix: &nixos.Nix{Dir: t.TempDir()}}
	tree := repo(`cmd = host "cmd" "echo > $out" { k.keyCommand = [ "printf" "%s" "from a command" ]; };
	  away = host "away" "echo > $out" { k.keyFile = "/etc/keys/k"; }; gone = host "gone" "echo > $out" { k.keyFile = ./secrets/gone.age; };`)
	all := h.Systems(t.Context(), tree, "", hostsOf("cmd", "away", "gone"))
	for host, want := range map[string]string{"cmd": "--allow-key-command", "away": "bellhop secret set secrets/k.age < /etc/keys/k", "gone": "keyFile secrets/gone.age is not in the repo"} {
		if err := all[host].Err; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", host, err, want)
		}
	}

	h.KeyCommands = true
	cmd := h.Systems(t.Context(), tree, "", hostsOf("cmd"))["cmd"]
	if cmd.Err != nil {
		t.Fatal(cmd.Err)
	}
	if v, err := cmd.Keys[0].Value(); err != nil || string(v) != "from a command" {
		t.Errorf("Value: %q, %v", v, err)
	}
}

func TestSourceThatIsRefusedIsTheTroubleOfItsHosts(t *testing.T) {
	h := &nixhosts.Hosts{Nix: &nixos.Nix{Dir: t.TempDir()}}
	tree := fstest.MapFS{"flake.nix": file("{ inputs.a.url = \"path:/etc\"; outputs = { self, a }: { }; }")}
	all := h.Systems(t.Context(), tree, "", hostsOf("a", "b"))
	for _, host := range []string{"a", "b"} {
		if all[host] == nil || all[host].Err == nil || !strings.Contains(all[host].Err.Error(), "flake.lock") {
			t.Errorf("%s: %+v", host, all[host])
		}
	}
}

// What a request would change of systems is evaluated, and nothing is built; keys have no values, and no text of the evaluation
// is told.
func TestEvaluate(t *testing.T) {
	needNix(t)
	if out, err := exec.Command("unshare", "--net", "true").CombinedOutput(); err != nil {
		t.Skipf("needs the right to make a network namespace: %s", out)
	}
	var started []string
	h := nixhosts.NewCutOff(t.TempDir(), nil)
	h.Nix.Worker, h.Nix.Started = "", func(argv []string) { started = append(started, filepath.Base(argv[0])) }
	tree := repo(`good = host "foreseen" "echo > $out" { db.keyFile = ./secrets/db.age; t.text = "hunter2"; c.keyCommand = [ "/bin/echo" "hunter2" ]; };
	  thrown = throw "hunter2";`)
	all := h.Evaluate(t.Context(), tree, strings.Repeat("1", 40), hostsOf("good", "thrown", "missing"))

	good := all["good"]
	if good.Err != nil || !strings.HasSuffix(good.Path, "-nixos-system-foreseen") || len(good.Keys) != 3 {
		t.Fatalf("good came to %+v", good)
	}
	if nixos.Has(good.Path) || slices.Contains(started, "nix-store") {
		t.Errorf("it was built: %q were started", started)
	}
	for _, k := range good.Keys {
		if v, err := k.Value(); err == nil || len(v) > 0 {
			t.Errorf("%s has the value %q", k.Name, v)
		}
	}
	for _, host := range []string{"thrown", "missing"} {
		if err := all[host].Err; err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v, want an error without a word of the configuration", host, err)
		}
	}
	if broken := h.Evaluate(t.Context(), fstest.MapFS{"flake.nix": file("{ outputs = hunter2")}, strings.Repeat("2", 40), hostsOf("good")); broken["good"].Err == nil || strings.Contains(broken["good"].Err.Error(), "hunter2") {
		t.Errorf("a flake that is broken: %v", broken["good"].Err)
	}
}

// An evaluation that fails as a whole may fail for this machine's reasons: it is logged, and asked for again later.
func TestEvaluateThatFailsAsAWhole(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if nixos.Installed() {
		t.Skip("Nix lies outside of PATH here")
	}
	var log bytes.Buffer
	h := nixhosts.NewCutOff(t.TempDir(), slog.New(slog.NewTextHandler(&log, nil)))
	all := h.Evaluate(t.Context(), repo(`good = host "good" "echo > $out" { };`), strings.Repeat("1", 40), hostsOf("good"))
	failed := new(fleet.SystemError)
	if !errors.As(all["good"].Err, &failed) || !failed.Later || strings.Contains(failed.Text, "install it") {
		t.Errorf("without Nix: %v, want to be asked again, and no cause", all["good"].Err)
	}
	if said := log.String(); !strings.Contains(said, "level=WARN") || !strings.Contains(said, "this machine has no Nix") {
		t.Errorf("the log says %q", said)
	}
}
