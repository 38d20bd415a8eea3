package nixfleet_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"bellhop/internal/nixfleet"
	"bellhop/internal/nixos"
	"bellhop/internal/nixos/nixtest"
)

// needNix skips a test where this machine has no Nix, and gives it the stand-in for nixpkgs.
func needNix(t *testing.T) (nixpkgs string) {
	t.Helper()
	nixtest.Need(t, "")
	nixpkgs, err := filepath.Abs("../../testdata/nixpkgs")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("NIX_PATH", "nixpkgs="+nixpkgs)
	return nixpkgs
}

// folder writes files into a new folder.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func read(t *testing.T, kind nixfleet.Kind, dir string) (*nixfleet.Fleet, error) {
	t.Helper()
	return nixfleet.Read(t.Context(), &nixos.Nix{Dir: t.TempDir()}, kind, dir)
}

func unknown(string) string { return "" }

func TestReadNetwork(t *testing.T) {
	needNix(t)
	dir := folder(t, map[string]string{
		"network.nix": `{
		  network = { description = "Hexagone home"; enableRollback = true; };
		  defaults = { deployment.targetUser = "root"; };
		  resources.sshKeyPairs.x = { };
		  require = [ ./more.nix ];
		  chrysalis = { config, pkgs, name, nodes, resources, ... }: {
		    networking.hostName = name;
		    environment.etc.peer.text = nodes.lufta.config.deployment.targetHost;
		    deployment = { targetHost = "192.168.0.12"; targetEnv = "none";
		      keys = { bot = { keyFile = ./secrets/bot.env; user = "bot"; }; tls.text = "hunter2"; sealed.keyFile = ./secrets/sealed.age; }; };
		  };
		}`,
		"more.nix": `{ lufta = { lib, ... }: { imports = [ ./lufta.nix ]; deployment = { targetUser = lib.mkForce "cadey"; ec2.region = "x";
		  keys = { bot.keyFile = ./secrets/bot.env; pw.keyCommand = [ "pass" "show" "the pw" ]; own.keyFile = "/etc/keys/own"; tls.text = "other"; }; }; }; }`,
		"lufta.nix": `{ deployment.targetHost = "lufta.lan"; deployment.targetPort = 2222; }`,
	})
	f, err := read(t, nixfleet.NixOps, dir)
	if err != nil {
		t.Fatal(err)
	}
	if f.Description != "Hexagone home" || f.File != filepath.Join(dir, "network.nix") {
		t.Errorf("the network is %q, from %s", f.Description, f.File)
	}
	key := "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKq0xoQZL6pFM8qYcF1CTYvWb8hQ3a1Qpi6oK4pjcCLe"
	got := f.YAML(func(address string) string { return map[string]string{"192.168.0.12": key}[address] })
	want := `hosts:
  chrysalis:
    address: 192.168.0.12
    host_key: ` + key + `
    nixos: .#chrysalis
  lufta:
    address: lufta.lan:2222
    # host_key: bellhop host add lufta cadey@lufta.lan:2222 tells it
    user: cadey
    nixos: .#lufta
`
	if got != want {
		t.Errorf("YAML is\n%s\nwant\n%s", got, want)
	}

	steps := f.Steps()
	for _, want := range []string{
		"bot of chrysalis, lufta\n    bellhop secret set bot < secrets/bot.env\n    deployment.keys.bot.keyFile = ./secrets/bot.age;",
		"pw of lufta\n    pass show 'the pw' | bellhop secret set pw\n",
		"own of lufta\n    bellhop secret set own < /etc/keys/own\n",
		"sealed of chrysalis\n    is an age file in the repo already",
		"tls of chrysalis\n    bellhop secret set chrysalis/tls ", "tls of lufta\n    bellhop secret set lufta/tls ",
		"nixosConfigurations for chrysalis, lufta",
	} {
		if !strings.Contains(steps, want) {
			t.Errorf("Steps lacks %q:\n%s", want, steps)
		}
	}
	if all := fmt.Sprintf("%+v %s", f, steps); strings.Contains(all, "hunter2") {
		t.Error("the text of a key is told")
	}
}

const hive = `{
  meta = { nixpkgs = NIXPKGS; specialArgs.domain = "example.org"; };
  defaults = { deployment.tags = [ "all" ]; };
  web = { name, domain, ... }: { deployment = { targetHost = "${name}.${domain}"; tags = [ "edge" "1" ]; buildOnTarget = true;
    keys."tls.pem" = { keyCommand = [ "cat" "tls.pem" ]; uploadAt = "post-activation"; }; }; };
  plain = { };
  laptop = { deployment = { targetHost = null; allowLocalDeployment = true; }; };
}`

const hiveYAML = `hosts:
  # laptop: its deployment.targetHost is null, so it is reached from itself alone
  plain:
    address: plain
    # host_key: bellhop host add plain root@plain tells it
    tags: [all]
    nixos: .#plain
  web:
    address: web.example.org
    # host_key: bellhop host add web root@web.example.org tells it
    tags: ["1", all, edge]
    nixos: .#web
`

func TestReadHive(t *testing.T) {
	nixpkgs := needNix(t)
	for _, np := range []string{"<nixpkgs>", "import <nixpkgs> { }", nixpkgs, `{ ... }: import <nixpkgs> { }`} {
		dir := folder(t, map[string]string{"hive.nix": strings.Replace(hive, "NIXPKGS", np, 1)})
		f, err := read(t, nixfleet.Colmena, dir)
		if err != nil {
			t.Errorf("meta.nixpkgs = %s: %v", np, err)
			continue
		}
		if want := `deployment.keys."tls.pem".keyFile = ./secrets/tls.pem.age;`; !strings.Contains(f.Steps(), want) {
			t.Errorf("Steps lacks %s:\n%s", want, f.Steps())
		}
		if got := f.YAML(unknown); got != hiveYAML {
			t.Errorf("meta.nixpkgs = %s: YAML is\n%s\nwant\n%s", np, got, hiveYAML)
		}
	}
}

// A hive may be an output of a flake, as it is or made by Colmena.
func TestReadHiveOfFlake(t *testing.T) {
	nixpkgs := needNix(t)
	for output, text := range map[string]string{
		"colmena":     strings.Replace(hive, "NIXPKGS", "import nixpkgs { system = \"x86_64-linux\"; }", 1),
		"colmenaHive": `{ __schema = "v0.5"; nodes = { web.config.deployment = { targetHost = "web.example.org"; tags = [ "edge" ]; targetPort = null; keys.k.keyFile = ./secrets/k; }; }; }`,
	} {
		dir := folder(t, map[string]string{
			"flake.nix": `{ inputs.nixpkgs.url = "path:` + nixpkgs + `"; outputs = { self, nixpkgs }: { ` + output + " = " + text + `; nixosConfigurations.web = { }; }; }`,
			"secrets/k": "x"})
		if _, err := read(t, nixfleet.Colmena, dir); err == nil || !strings.Contains(nixfleet.Colmena.Advice(err), "nix flake lock") {
			t.Errorf("%s: without flake.lock: %v, advice %q", output, err, nixfleet.Colmena.Advice(err))
		}
		lock := exec.Command("nix", "--extra-experimental-features", "nix-command flakes", "flake", "lock", "path:"+dir)
		if out, err := lock.CombinedOutput(); err != nil {
			t.Fatalf("nix flake lock: %v\n%s", err, out)
		}
		f, err := read(t, nixfleet.Colmena, dir)
		if err != nil {
			t.Errorf("%s: %v", output, err)
			continue
		}
		yaml, steps := f.YAML(unknown), f.Steps()
		if !strings.Contains(yaml, "address: web.example.org\n") || strings.Contains(steps, "nixosConfigurations for web") {
			t.Errorf("%s:\n%s%s", output, yaml, steps)
		}
		if output == "colmenaHive" && !strings.Contains(steps, "bellhop secret set k < secrets/k\n") {
			t.Errorf("a keyFile of a flake is not that of the folder:\n%s", steps)
		}
	}
}

func TestReadTellsWhatIsWrong(t *testing.T) {
	needNix(t)
	for name, c := range map[string]struct{ file, text, want string }{
		"syntax":  {"network.nix", "{ a = ", "syntax error"},
		"a host":  {"network.nix", `{ network = { }; good = { }; wrong = { deployment.targetHost = throw "which machine?"; }; }`, "host wrong: which machine?"},
		"missing": {"network.nix", `{ lost = { imports = [ ./gone.nix ]; }; }`, "gone.nix"},
	} {
		dir := folder(t, map[string]string{c.file: c.text})
		_, err := read(t, nixfleet.NixOps, dir)
		if err == nil || !strings.Contains(err.Error(), filepath.Join(dir, c.file)) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want the file and %q", name, err, c.want)
		}
		if len(nixfleet.Log(err)) == 0 || !strings.Contains(nixfleet.NixOps.Advice(err), "until NixOps itself evaluates it") {
			t.Errorf("%s: no log, or no advice: %v", name, err)
		}
	}

	_, err := read(t, nixfleet.Colmena, t.TempDir())
	if !errors.Is(err, nixfleet.ErrNothing) || !strings.Contains(err.Error(), "hive.nix") {
		t.Errorf("an empty folder: %v", err)
	}

	t.Setenv("NIX_PATH", "")
	_, err = read(t, nixfleet.NixOps, folder(t, map[string]string{"network.nix": `{ a = { }; }`}))
	if err == nil || !strings.Contains(nixfleet.NixOps.Advice(err), "NIX_PATH=nixpkgs=") {
		t.Errorf("without <nixpkgs>: %v, advice %q", err, nixfleet.NixOps.Advice(err))
	}
}

func TestKnownKey(t *testing.T) {
	if _, err := exec.LookPath("ssh-keygen"); err != nil {
		t.Skip("needs ssh-keygen")
	}
	key := "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKq0xoQZL6pFM8qYcF1CTYvWb8hQ3a1Qpi6oK4pjcCLe"
	dir := folder(t, map[string]string{"known_hosts": "a.lan " + key + "\n[b.lan]:2222,10.0.0.2 " + key + "\n@revoked c.lan " + key + "\n"})
	file := filepath.Join(dir, "known_hosts")
	for address, want := range map[string]string{"a.lan": key, "a.lan:22": key, "a.lan:23": "", "b.lan:2222": key, "10.0.0.2": key, "c.lan": "", "d.lan": "", "-oProxyCommand=x": ""} {
		if got := nixfleet.KnownKey(t.Context(), file, address); got != want {
			t.Errorf("KnownKey(%s) is %q, want %q", address, got, want)
		}
	}
	if got := nixfleet.KnownKey(t.Context(), filepath.Join(dir, "gone"), "a.lan"); got != "" {
		t.Errorf("without a file: %q", got)
	}
}
