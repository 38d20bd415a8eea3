package bellhop_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"bellhop/internal/nixos/nixtest"
	"bellhop/internal/nixos/nixtree"
)

// The flake, its modules and its package, evaluated by Nix with testdata/nixpkgs in place of nixpkgs.

// needNix skips a test where this machine has no Nix.
func needNix(t *testing.T) {
	t.Helper()
	nixtest.Need(t, "experimental-features = nix-command flakes\n")
}

// nixpkgs is a copy of the stand-in for nixpkgs, alone in a folder.
func nixpkgs(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/nixpkgs")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// nixValue is the value of an expression, in which np is the stand-in for nixpkgs, here is this repo, and system makes
// a NixOS system of a list of modules.
func nixValue(t *testing.T, expr string, into any) error {
	t.Helper()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	expr = fmt.Sprintf("let np = %s/testdata/nixpkgs; here = %[1]s; system = modules: import (np + \"/nixos/lib/eval-config.nix\") { inherit modules; }; in %s", here, expr)
	cmd := exec.Command("nix-instantiate", "--eval", "--strict", "--json", "-E", expr)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("%w: %s", err, errs.String())
	}
	return json.Unmarshal(out, into)
}

// A flake that uses this one has its modules and its package.
func TestFlakeIsUsedByAnother(t *testing.T) {
	needNix(t)
	ours, user := t.TempDir(), t.TempDir()
	if err := os.CopyFS(filepath.Join(ours, "contrib/nixos"), os.DirFS("contrib/nixos")); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		filepath.Join(ours, "flake.nix"): readText(t, "flake.nix"),
		filepath.Join(user, "flake.nix"): `{
		  inputs = { nixpkgs.url = "path:` + nixpkgs(t) + `"; bellhop = { url = "path:` + ours + `"; inputs.nixpkgs.follows = "nixpkgs"; }; };
		  outputs = { self, nixpkgs, bellhop }: {
		    package = { inherit (bellhop.packages.x86_64-linux.default) name vendorHash; };
		    modules = builtins.attrNames bellhop.nixosModules;
		    nixosConfigurations.box = nixpkgs.lib.nixosSystem { system = "x86_64-linux"; modules = [
		      bellhop.nixosModules.bellhop-host bellhop.nixosModules.bellhop
		      { services.bellhop = { enable = true; settings.repo = "https://example.org/fleet.git"; }; deployment.keys.a.text = "x"; } ]; };
		  };
		}`,
	} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}

	value := func(what string) string {
		cmd := exec.Command("nix", "eval", "--json", "path:"+user+"#"+what)
		cmd.Env = append(os.Environ(), "XDG_CACHE_HOME="+user)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("nix eval %s: %v\n%s", what, err, out)
		}
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		return lines[len(lines)-1]
	}
	if got := value("modules"); got != `["bellhop","bellhop-host"]` {
		t.Errorf("nixosModules are %s", got)
	}
	if got := value("package"); !strings.Contains(got, `"name":"bellhop-`) || !strings.Contains(got, `"vendorHash":"sha256-`) {
		t.Errorf("packages.default is %s", got)
	}
	start := value("nixosConfigurations.box.config.systemd.services.bellhop.serviceConfig.ExecStart")
	if !regexp.MustCompile(`^"/nix/store/[^/]+-bellhop-[^/]+/bin/bellhop serve \\"--repo=https://example.org/fleet.git\\""$`).MatchString(start) {
		t.Errorf("ExecStart is %s", start)
	}
	if got := value(`nixosConfigurations.box.config.systemd.services.a-key.script`); !strings.Contains(got, "/run/keys/a") {
		t.Errorf("the script of a-key is %s", got)
	}
}

func readText(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The vendorHash of the package is that of what go mod vendor makes, so that a changed go.mod can't leave a package
// that nobody can build.
func TestVendorHash(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "vendor")
	if out, err := exec.Command("go", "mod", "vendor", "-o", dir).CombinedOutput(); err != nil {
		t.Skipf("go mod vendor does not work here, it needs modules that tests do not: %v: %s", err, out)
	}
	h := sha256.New()
	if err := nixtree.WriteNAR(h, dir); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("vendorHash = %q;", "sha256-"+base64.StdEncoding.EncodeToString(h.Sum(nil)))
	if !strings.Contains(readText(t, "contrib/nixos/package.nix"), want) {
		t.Errorf("contrib/nixos/package.nix wants: %s", want)
	}
}

// services.bellhop has a setting for each flag of serve, and no other.
func TestNixServiceHasEachFlag(t *testing.T) {
	needNix(t)
	out, err := exec.Command("go", "run", "./cmd/bellhop", "serve", "--help").Output()
	if err != nil {
		t.Fatal(err)
	}
	var flags []string
	for _, m := range regexp.MustCompile(`(?m)^ +(?:-\w, )?--([a-z-]+)`).FindAllStringSubmatch(string(out), -1) {
		if m[1] != "help" && m[1] != "state-dir" { // the state directory is the unit's
			flags = append(flags, m[1])
		}
	}
	slices.Sort(flags)

	var settings []string
	if err := nixValue(t, `builtins.attrNames (system [ (here + "/contrib/nixos/bellhop.nix") ]).options.services.bellhop.settings`, &settings); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(settings, flags) {
		t.Errorf("the settings of services.bellhop are %v\nthe flags of bellhop serve are         %v", settings, flags)
	}
}

const nixService = `system [ (here + "/contrib/nixos/bellhop.nix") { services.bellhop = { enable = true; package = "/opt/bellhop";
	settings = { repo = "git@example.org:fleet $HOME 100%.git"; admin-open = true; trust-proxy = [ "10.0.0.0/8" "127.0.0.0/8" ]; poll = "0"; }; }; } ]`

// The units of services.bellhop are those of contrib, but for where the program is and how it is configured.
func TestNixServiceIsThatOfContrib(t *testing.T) {
	needNix(t)
	var units map[string]map[string]any
	err := nixValue(t, "let s = ("+nixService+`).config.systemd; in { "bellhop.service" = s.services.bellhop.serviceConfig;
		"bellhop-nix@.service" = s.services."bellhop-nix@".serviceConfig; "bellhop-nix.socket" = s.sockets.bellhop-nix.socketConfig; }`, &units)
	if err != nil {
		t.Fatal(err)
	}
	start := units["bellhop.service"]["ExecStart"]
	if want := `/opt/bellhop/bin/bellhop serve "--admin-open=true" "--poll=0" "--repo=git@example.org:fleet $$HOME 100%%.git" "--trust-proxy=10.0.0.0/8" "--trust-proxy=127.0.0.0/8"`; start != want {
		t.Errorf("ExecStart is %s\nwant         %s", start, want)
	}

	for name, unit := range units {
		got, want := settingsOf(unit), sectionOf(readText(t, "contrib/"+name))
		for _, own := range []string{"ExecStart", "EnvironmentFile", "Environment"} {
			delete(got, own)
			delete(want, own)
		}
		if !maps.Equal(got, want) {
			t.Errorf("%s: services.bellhop has %v\ncontrib %v", name, got, want)
		}
	}
}

// A switch of the deployer's own machine starts no worker anew: systemd can't start one without its connection.
func TestSwitchLeavesWorkersAlone(t *testing.T) {
	needNix(t)
	var restarts bool
	if err := nixValue(t, "("+nixService+`).config.systemd.services."bellhop-nix@".restartIfChanged`, &restarts); err != nil {
		t.Fatal(err)
	}
	if restarts {
		t.Error("a switch restarts bellhop-nix@.service where its unit changed")
	}
}

// The worker may run as root: no disk and no socket of another daemon leads out of its unit.
func TestWorkerHasNoWayOut(t *testing.T) {
	unit := sectionOf(readText(t, "contrib/bellhop-nix@.service"))
	for key, want := range map[string]string{"PrivateDevices": "yes", "TemporaryFileSystem": "/run:ro", "ProtectSystem": "strict", "NoNewPrivileges": "yes"} {
		if unit[key] != want {
			t.Errorf("bellhop-nix@.service has %s=%s, want %s", key, unit[key], want)
		}
	}
	for _, bound := range strings.Fields(unit["BindReadOnlyPaths"]) {
		names := []string{"-/run/systemd/resolve", "-/run/resolvconf", "-/run/NetworkManager/resolv.conf", "-/run/nscd", "-/run/current-system"}
		if !slices.Contains(names, bound) {
			t.Errorf("%s of /run is bound into the worker", bound)
		}
	}
}

// settingsOf are the keys of a section as a unit file has them; a key with several lines has them joined.
func settingsOf(section map[string]any) map[string]string {
	all := map[string]string{}
	for key, v := range section {
		switch v := v.(type) {
		case bool:
			all[key] = map[bool]string{true: "yes", false: "no"}[v]
		case []any:
			for _, line := range v {
				all[key] += fmt.Sprint(line) + "\n"
			}
			all[key] = strings.TrimSuffix(all[key], "\n")
		default:
			all[key] = fmt.Sprint(v)
		}
	}
	return all
}

// sectionOf is the section [Service] or [Socket] of a unit file.
func sectionOf(unit string) map[string]string {
	all := map[string]string{}
	inside := false
	for line := range strings.Lines(unit) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			inside = line == "[Service]" || line == "[Socket]"
			continue
		}
		key, v, found := strings.Cut(line, "=")
		if !inside || !found || strings.HasPrefix(line, "#") {
			continue
		}
		if was, has := all[key]; has {
			v = was + "\n" + v
		}
		all[key] = v
	}
	return all
}

// A key unit waits for its file, and nothing but a file that is gone stops it: no new value, and no new nixpkgs.
func TestNixKeyUnits(t *testing.T) {
	needNix(t)
	var got struct {
		Service struct {
			RestartIfChanged bool
			ServiceConfig    map[string]any
			UnitConfig       map[string]any
			Script           string
			WantedBy         []string
		}
		Path, Gone, Watch map[string]any
		Names             []string
	}
	err := nixValue(t, `let s = (system [ (here + "/contrib/nixos/bellhop-host.nix") { deployment = { targetHost = "192.168.0.12"; tags = [ "bots" ];
		keys = { db.keyFile = ./secrets/db.age; renamed = { name = "tls"; text = "x"; destDir = "/run/keys/web"; user = "web"; }; }; }; } ]).config.systemd;
		in { service = s.services.tls-key; path = s.paths.tls-key.pathConfig; gone = { inherit (s.services.bellhop-keys) script; }; watch = s.paths.bellhop-keys.pathConfig;
		names = builtins.attrNames s.services; }`, &got)
	if err != nil {
		t.Fatal(err)
	}
	s := got.Service
	if s.RestartIfChanged || s.ServiceConfig["RemainAfterExit"] != true || s.ServiceConfig["Type"] != "oneshot" || s.ServiceConfig["Restart"] != nil {
		t.Errorf("tls-key.service does not stay as it is: %+v", s)
	}
	if s.ServiceConfig["TimeoutStartSec"] != "infinity" || s.Script != "until [ -e '/run/keys/web/tls' ]; do sleep 0.5; done" {
		t.Errorf("tls-key.service does not wait for its file: %+v", s)
	}
	if !slices.Equal(s.WantedBy, []string{"keys.target"}) {
		t.Errorf("tls-key.service is wanted by %v: a boot without keys would wait for it", s.WantedBy)
	}
	if got.Path["PathExists"] != "/run/keys/web/tls" || !strings.Contains(fmt.Sprint(got.Gone), "/run/keys/db") || fmt.Sprint(got.Watch["PathChanged"]) != "[/run/keys /run/keys/web]" {
		t.Errorf("the files of keys are watched by %v, %v, %v", got.Path, got.Watch, got.Gone)
	}
	if want := []string{"bellhop-keys", "bellhop-settle", "db-key", "tls-key"}; !slices.Equal(got.Names, want) {
		t.Errorf("units are %v, want %v", got.Names, want)
	}
}

func TestNixKeysThatAreRefused(t *testing.T) {
	needNix(t)
	for key, want := range map[string]string{
		`{ }`:                                 "want one of text, keyFile and keyCommand",
		`{ text = "x"; keyFile = "/etc/x"; }`: "want one of text, keyFile and keyCommand",
		`{ text = "x"; destDir = "/etc"; }`:   "destDir /etc is not below /run/keys",
		`{ text = "x"; uploadAt = "never"; }`: "uploadAt",
		`{ text = "x"; usr = "web"; }`:        "usr",
	} {
		var out string
		err := nixValue(t, `let c = (system [ (here + "/contrib/nixos/bellhop-host.nix") { deployment.keys.k = `+key+`; } ]).config;
			in builtins.deepSeq c.deployment.keys c.system.build.toplevel.outPath`, &out)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("deployment.keys.k = %s: %v, want %q", key, err, want)
		}
	}
}
