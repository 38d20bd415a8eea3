package nixos_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bellhop/internal/nixos"
)

// On the host the root of what is copied is there before the copy begins, so no collector comes between.
func TestCopyHasARootOnTheHost(t *testing.T) {
	const path = "/nix/store/0ajz40m7nklbncf2czaz0iinq4frg726-nixos-system-a"
	root, bin := t.TempDir(), t.TempDir()
	far := "#!/bin/sh\necho $@; readlink " + root + "/gcroots/bellhop/next\n"
	if err := os.WriteFile(filepath.Join(bin, "nix-store"), []byte(far), 0o755); err != nil {
		t.Fatal(err)
	}

	for range 2 { // the second time takes the place of the first
		cmd := exec.Command("sh", "-c", strings.ReplaceAll(nixos.ServeCommand(path), "/nix/var/nix/gcroots", root+"/gcroots"))
		cmd.Env = []string{"PATH=" + bin + ":" + os.Getenv("PATH")}
		out, err := cmd.CombinedOutput()
		if want := "--serve --write\n" + path + "\n"; err != nil || string(out) != want {
			t.Errorf("the far end of a copy says %q, %v; want %q", out, err, want)
		}
	}
}

// deleteFrom has Nix's garbage collector take what nothing keeps of a system.
func deleteFrom(t *testing.T, paths ...string) {
	t.Helper()
	if out, err := exec.Command("nix-store", append([]string{"--delete"}, paths...)...).CombinedOutput(); err != nil {
		t.Fatalf("collect %q: %v\n%s", paths, err, out)
	}
}

// A collector that runs between a build and its root costs another build, and no error.
func TestSystemIsCollectedBeforeItHasARoot(t *testing.T) {
	needNix(t)
	n, _ := newNix(t)
	e, err := n.Systems(t.Context(), source(t, flake(`collected = host { name = "collected"; };`)), asks("collected"))
	if err != nil {
		t.Fatal(err)
	}
	s := e.Systems["collected"]
	n.Started = func(argv []string) {
		if slices.Contains(argv, "--add-root") {
			deleteFrom(t, s.Out)
		}
	}
	if failures, err := n.Build(t.Context(), e.Systems); err != nil || len(failures) > 0 {
		t.Fatalf("Build: %v, %v", failures, err)
	}
	if !nixos.Has(s.Out) {
		t.Error("it is not there")
	}
}

// An evaluation that is remembered is worth nothing once the collector took its derivation.
func TestDerivationIsCollected(t *testing.T) {
	needNix(t)
	n, started := newNix(t)
	tree := flake(`gone = host { name = "gone"; };`)
	s := built(t, n, tree, "gone")["gone"]
	if err := n.Keep(nil, 0); err != nil {
		t.Fatal(err)
	}
	deleteFrom(t, s.Drv, s.Out)

	*started = nil
	if again := built(t, n, tree, "gone")["gone"]; again.Out != s.Out || !nixos.Has(s.Out) {
		t.Errorf("it came to %+v", again)
	}
	if len(*started) == 0 || filepath.Base((*started)[0]) != "nix" {
		t.Errorf("it was not evaluated again: %q", *started)
	}
}
