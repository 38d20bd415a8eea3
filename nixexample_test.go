package bellhop_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"bellhop/internal/nixos"
	"bellhop/internal/nixos/nixtree"
)

// nixExample is a copy of examples/nixos whose flake has the stand-in for nixpkgs as a folder of the repo, and so no
// inputs: bellhop refuses inputs that are local files.
func nixExample(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for from, to := range map[string]string{"examples/nixos": dir, "testdata/nixpkgs": filepath.Join(dir, "nixpkgs")} {
		if err := os.CopyFS(to, os.DirFS(from)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Rename(filepath.Join(dir, "flake.nix"), filepath.Join(dir, "example.nix")); err != nil {
		t.Fatal(err)
	}
	text := `{ outputs = { self }: (import ./example.nix).outputs { inherit self; nixpkgs = (import ./nixpkgs/flake.nix).outputs { self = { }; }; }; }`
	if err := os.WriteFile(filepath.Join(dir, "flake.nix"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// The example is a repo that check takes without a word.
func TestNixExampleIsARepo(t *testing.T) {
	if readText(t, "examples/nixos/bellhop-host.nix") != readText(t, "contrib/nixos/bellhop-host.nix") {
		t.Error("examples/nixos/bellhop-host.nix is no copy of contrib/nixos/bellhop-host.nix")
	}
	out, err := exec.Command("go", "run", "./cmd/bellhop", "check", "examples/nixos").CombinedOutput()
	if got := string(out); err != nil || got != "ok hexagone: 2 hosts\n" {
		t.Errorf("bellhop check examples/nixos: %v\n%s", err, got)
	}
}

// The systems of the example evaluate, and bellhop finds in them the key that is sealed in the repo.
func TestNixExampleEvaluates(t *testing.T) {
	needNix(t)
	n := &nixos.Nix{Dir: t.TempDir()}
	s, err := nixtree.NewSource(os.DirFS(nixExample(t)), "")
	if err != nil {
		t.Fatal(err)
	}
	e, err := n.Systems(t.Context(), s, []nixos.Ask{{Host: "chrysalis", Attr: "chrysalis"}, {Host: "lufta", Attr: "lufta"}})
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]int{"chrysalis": 1, "lufta": 0} {
		if sys := e.Systems[host]; sys.Err != "" || !strings.Contains(sys.Out, "-nixos-system-"+host+"-") || len(sys.Keys) != want {
			t.Errorf("%s came to %+v", host, sys)
		}
	}
	for _, k := range e.Systems["chrysalis"].Keys {
		if want := (nixos.Key{Name: "withinbot", Path: "/run/keys/withinbot", User: "withinbot", Group: "within", Mode: 0o640, File: "secrets/withinbot.age"}); k.Name != want.Name || k.File != want.File || k.User != want.User || k.Mode != want.Mode || k.Path != want.Path {
			t.Errorf("the key is %+v, want %+v", k, want)
		}
	}
}

// The flakes that the pages for newcomers show read a network and a hive as they are.
func TestFlakesOfDocs(t *testing.T) {
	needNix(t)
	block := regexp.MustCompile("(?ms)^```nix\n(\\{\n  inputs.*?)^```")
	modules := `web = { name, nodes, pkgs, ... }: { networking.hostName = name; deployment = { targetHost = nodes.db.config.deployment.targetHost;
		keys.tls = { keyFile = ./secrets/tls.age; user = "web"; }; }; };
	db = { name, ... }: { networking.hostName = name; deployment.targetHost = "10.0.0.2"; };`
	for page, file := range map[string]struct{ name, text string }{
		"docs/from-nixops.md":  {"network.nix", "{ network.nixpkgs = import <nixpkgs> { }; defaults.deployment.targetUser = \"cadey\"; " + modules + " }"},
		"docs/from-colmena.md": {"hive.nix", "{ meta.nixpkgs = <nixpkgs>; defaults.deployment.tags = [ \"all\" ]; " + modules + " }"},
	} {
		found := block.FindStringSubmatch(readText(t, page))
		if found == nil {
			t.Fatalf("%s shows no flake", page)
		}
		dir := nixExample(t)
		for name, text := range map[string]string{"example.nix": found[1], file.name: file.text} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}

		s, err := nixtree.NewSource(os.DirFS(dir), "")
		if err != nil {
			t.Fatal(err)
		}
		e, err := (&nixos.Nix{Dir: t.TempDir()}).Systems(t.Context(), s, []nixos.Ask{{Host: "db", Attr: "db"}, {Host: "web", Attr: "web"}})
		if err != nil {
			t.Errorf("%s: %v", page, err)
			continue
		}
		if web := e.Systems["web"]; web.Err != "" || len(web.Keys) != 1 || web.Keys[0].File != "secrets/tls.age" || e.Systems["db"].Err != "" {
			t.Errorf("%s: web came to %+v, db to %+v", page, web, e.Systems["db"])
		}
	}
}
