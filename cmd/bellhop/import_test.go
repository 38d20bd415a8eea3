package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bellhop/internal/nixos"
	"bellhop/internal/nixos/nixtest"
)

// runIn runs bellhop with a home of its own, and returns what it said and its exit code.
func runIn(t *testing.T, home string, args ...string) (string, int) {
	t.Helper()
	var out strings.Builder
	vars := map[string]string{"HOME": home, "USER": "cadey", "NO_COLOR": "1", "BELLHOP_STATE_DIR": filepath.Join(home, "state")}
	e := &Env{Args: args, Stdin: strings.NewReader(""), Stdout: &out, Stderr: &out, Getenv: func(k string) string { return vars[k] }}
	code := e.Run(t.Context())
	return out.String(), code
}

// A folder with network.nix becomes a config repo whose only problem is the host key that nobody knows yet, and
// a second import overwrites nothing.
func TestImport(t *testing.T) {
	nixtest.Need(t, "")
	nixpkgs, err := filepath.Abs("../../testdata/nixpkgs")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("NIX_PATH", "nixpkgs="+nixpkgs)
	home, dir := t.TempDir(), filepath.Join(t.TempDir(), "hexagone")
	key := "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKq0xoQZL6pFM8qYcF1CTYvWb8hQ3a1Qpi6oK4pjcCLe"
	for path, text := range map[string]string{
		filepath.Join(home, ".ssh/known_hosts"): "192.168.0.12 " + key + "\n",
		filepath.Join(dir, "network.nix"): `{ chrysalis = { deployment.targetHost = "192.168.0.12"; deployment.keys.bot.keyFile = ./secrets/bot.env; };
			lufta = { deployment.targetHost = "192.168.0.13"; }; }`,
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}

	out, code := runIn(t, home, "import", "nixops", dir)
	if code != 0 || !strings.Contains(out, "wrote bellhop.yaml") || !strings.Contains(out, "bellhop secret set bot < secrets/bot.env") {
		t.Fatalf("import: exit %d\n%s", code, out)
	}
	out, code = runIn(t, home, "check", dir)
	if code != 1 || !strings.Contains(out, "1 problem\n") || !strings.Contains(out, "host lufta has no host_key") {
		t.Errorf("check after it: exit %d\n%s", code, out)
	}

	was, err := os.ReadFile(filepath.Join(dir, "bellhop.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	out, code = runIn(t, home, "import", "nixops", filepath.Join(dir, "network.nix"))
	if now, _ := os.ReadFile(filepath.Join(dir, "bellhop.yaml")); code != 1 || !strings.Contains(out, "overwrites nothing") || string(now) != string(was) {
		t.Errorf("the second time: exit %d\n%s", code, out)
	}

	out, code = runIn(t, home, "import", "colmena", home)
	if code != 1 || !strings.Contains(out, "hive.nix") || !strings.Contains(out, "hint: ") {
		t.Errorf("a folder without hive.nix: exit %d\n%s", code, out)
	}
}

// Where Nix is missing, the error says so, and what to do.
func TestImportWithoutNix(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if nixos.Installed() {
		t.Skip("this machine has Nix outside of PATH")
	}
	out, code := runIn(t, t.TempDir(), "import", "nixops", t.TempDir())
	if code != 1 || !strings.Contains(out, "this machine has no Nix") || !strings.Contains(out, "hint: ") {
		t.Errorf("import: exit %d\n%s", code, out)
	}
}
