package nixos_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"bellhop/internal/nixos"
	"bellhop/internal/nixos/nixtree"
)

// standIn is a flake whose systems are raw derivations: there is no nixpkgs. Each system has a file that refers to a
// package, and units.
const standIn = `{ outputs = { self }: let
  drv = name: text: derivation { inherit name; system = builtins.head [ "SYSTEM" ]; builder = "/bin/sh"; args = [ "-c" text ]; };
  curl = version: drv "curl-${version}" "echo curl ${version} > $out";
  sys = { name, curlVersion ? "8.1", port ? "80", fails ? "" }: drv "nixos-system-${name}-24.05"
    "PATH=/bin:/usr/bin; ${fails} mkdir -p $out/etc/systemd/system; echo ${curl curlVersion} > $out/curl; echo '[Service]' ${port} > $out/etc/systemd/system/web.service; echo same > $out/etc/systemd/system/ssh.service";
  host = args: { config.system.build.toplevel = sys args; };
in { nixosConfigurations = rec { HOSTS }; }; }`

func flake(hosts string) fstest.MapFS {
	out, _ := exec.Command("uname", "-m").Output()
	text := strings.NewReplacer("HOSTS", hosts, "SYSTEM", strings.TrimSpace(string(out))+"-linux").Replace(standIn)
	return fstest.MapFS{"flake.nix": file(text)}
}

func source(t *testing.T, tree fstest.MapFS) *nixtree.Source {
	t.Helper()
	s, err := nixtree.NewSource(tree, strings.Repeat("1", 40))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func file(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text), Mode: 0o644} }

func asks(hosts ...string) []nixos.Ask {
	var all []nixos.Ask
	for _, h := range hosts {
		all = append(all, nixos.Ask{Host: h, Attr: h})
	}
	return all
}

func TestEvaluateAllHostsInOneProcess(t *testing.T) {
	needNix(t)
	n, started := newNix(t)
	n.Memory = func() int64 { return 64 << 30 }
	var hosts strings.Builder
	var names []string
	for i := range 20 {
		fmt.Fprintf(&hosts, "h%d = host { name = \"h%d\"; };", i, i)
		names = append(names, fmt.Sprintf("h%d", i))
	}
	s := source(t, flake(hosts.String()))
	e, err := n.Systems(t.Context(), s, asks(names...))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if sys := e.Systems[name]; sys.Err != "" || !nixos.IsStorePath(sys.Out) || !strings.Contains(sys.Out, name) {
			t.Errorf("%s came to %+v", name, sys)
		}
	}
	if len(*started) != 1 {
		t.Errorf("20 hosts took %v, want one process", *started)
	}

	if again, err := n.Systems(t.Context(), s, asks(names...)); err != nil || again.Systems["h3"].Out != e.Systems["h3"].Out {
		t.Errorf("the second time: %v, %+v", err, again)
	}
	other := &nixos.Nix{Dir: n.Dir, Started: n.Started, Memory: n.Memory} // another process of bellhop, later
	if _, err := other.Systems(t.Context(), source(t, flake(hosts.String())), asks(names...)); err != nil {
		t.Error(err)
	}
	if len(*started) != 1 {
		t.Errorf("the same tree started %v", (*started)[1:])
	}
	if left, _ := filepath.Glob(filepath.Join(n.Dir, "trees", "tree-*")); len(left) > 0 {
		t.Errorf("trees were left: %v", left)
	}
}

func TestBrokenHostIsItsOwnTrouble(t *testing.T) {
	needNix(t)
	n, started := newNix(t)
	tree := flake(`a = host { name = "a"; }; z = host { name = "z"; };
	  gone = host { name = ({ }).there; }; thrown = { config = throw "assertion: the disk is too small"; };
	  shape = { config.system.build.toplevel = "text"; };`)
	e, err := n.Systems(t.Context(), source(t, tree), asks("a", "gone", "thrown", "missing", "shape", "z"))
	if err != nil {
		t.Fatal(err)
	}
	for _, good := range []string{"a", "z"} {
		if e.Systems[good].Err != "" {
			t.Errorf("%s: %s", good, e.Systems[good].Err)
		}
	}
	for host, want := range map[string]string{"gone": "attribute 'there' missing", "thrown": "the disk is too small", "missing": "no nixosConfigurations.missing", "shape": ""} {
		s := e.Systems[host]
		if s.Err == "" || !strings.Contains(s.Err, want) {
			t.Errorf("%s came to %q, want %q", host, s.Err, want)
		}
		if strings.Contains(s.Err, "unsafeDiscard") || len(s.Lines) > 30 {
			t.Errorf("%s: the error quotes bellhop's own expression, or %d lines: %s", host, len(s.Lines), s.Err)
		}
	}
	if e.Processes > 5 || len(*started) != e.Processes {
		t.Errorf("4 broken hosts took %d processes (%v), want 5 at most", e.Processes, *started)
	}
}

func TestBrokenFlakeIsNoHostsTrouble(t *testing.T) {
	needNix(t)
	n, started := newNix(t)
	for text, want := range map[string]string{
		"{ outputs = { self }: { nixosConfigurations = { a = 1 }; }; }": "syntax error",
		"{ outputs = { self }: throw \"no network today\"; }":           "no network today",
	} {
		*started = nil
		_, err := n.Systems(t.Context(), source(t, fstest.MapFS{"flake.nix": file(text)}), asks("a", "b"))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
		if len(*started) != 1 {
			t.Errorf("%s took %d processes, want 1", text, len(*started))
		}
	}
}

func TestClassicFile(t *testing.T) {
	needNix(t)
	n, _ := newNix(t)
	tree := fstest.MapFS{"hosts/lufta.nix": file(`let s = import ./system.nix; in { one.config.system.build.toplevel = s; }`),
		"hosts/system.nix": file(`derivation { name = "nixos-system-lufta"; system = "x86_64-linux"; builder = "/bin/sh"; args = [ "-c" "echo > $out" ]; }`)}
	e, err := n.Systems(t.Context(), source(t, tree), []nixos.Ask{{Host: "lufta", File: "hosts/lufta.nix", Attr: "one"}})
	if err != nil || e.Systems["lufta"].Err != "" || !strings.HasSuffix(e.Systems["lufta"].Out, "-nixos-system-lufta") {
		t.Errorf("a classic file came to %+v, %v", e, err)
	}
}

func TestNoImportFromDerivation(t *testing.T) {
	needNix(t)
	tree := flake(`a = host { name = builtins.readFile (drv "name" "printf name > $out"); };`)
	n, _ := newNix(t)
	e, err := n.Systems(t.Context(), source(t, tree), asks("a"))
	if err != nil || !strings.Contains(e.Systems["a"].Err, "allow-import-from-derivation") {
		t.Errorf("without consent it came to %+v, %v", e, err)
	}
	n.ImportFromDerivation = true
	e, err = n.Systems(t.Context(), source(t, tree), asks("a"))
	if err != nil || e.Systems["a"].Err != "" {
		t.Errorf("with consent it came to %+v, %v", e, err)
	}
}

func TestFewHostsAtOnceWhereMemoryIsShort(t *testing.T) {
	needNix(t)
	n, started := newNix(t)
	n.Memory = func() int64 { return 3 << 30 } // 1 GiB stays free, and each host is taken for one
	e, err := n.Systems(t.Context(), source(t, flake(`a = host { name = "a"; }; b = host { name = "b"; }; c = host { name = "c"; };`)), asks("a", "b", "c"))
	if err != nil || len(e.Systems) != 3 || len(*started) != 2 {
		t.Errorf("3 hosts took %v, %v, want 2 processes", *started, err)
	}
}

// built evaluates and builds hosts, all of which must succeed.
func built(t *testing.T, n *nixos.Nix, tree fstest.MapFS, hosts ...string) map[string]nixos.System {
	t.Helper()
	e, err := n.Systems(t.Context(), source(t, tree), asks(hosts...))
	if err != nil {
		t.Fatal(err)
	}
	if failures, err := n.Build(t.Context(), e.Systems); err != nil || len(failures) > 0 {
		t.Fatalf("Build: %v, %v", failures, err)
	}
	return e.Systems
}

func TestBuild(t *testing.T) {
	needNix(t)
	n, started := newNix(t)
	tree := flake(`good = host { name = "good"; }; bad = host { name = "bad"; fails = "for i in $(seq 40); do echo line $i; done; exit 3;"; };`)
	e, err := n.Systems(t.Context(), source(t, tree), asks("good", "bad"))
	if err != nil {
		t.Fatal(err)
	}
	failures, err := n.Build(t.Context(), e.Systems)
	if err != nil {
		t.Fatal(err)
	}
	bad := failures["bad"]
	if len(failures) != 1 || bad == nil {
		t.Fatalf("Build failed for %v, want bad", failures)
	}
	if !strings.Contains(bad.Text, "nixos-system-bad") || !strings.Contains(bad.Text, "exit code 3") {
		t.Errorf("bad: %q does not tell what failed and how", bad.Text)
	}
	if len(bad.Lines) != 30 || bad.Lines[29] != "line 40" {
		t.Errorf("bad: the log has %d lines, ends with %q", len(bad.Lines), bad.Lines)
	}
	if _, err := os.Stat(e.Systems["good"].Out); err != nil {
		t.Errorf("good was not built: %v", err)
	}

	*started = nil
	again, err := n.Build(t.Context(), e.Systems)
	if err != nil || again["bad"] == nil || len(*started) > 0 {
		t.Errorf("what failed was tried again: %v, %v, %v", again, *started, err)
	}
	n.ForgetFailures()
	if again, err = n.Build(t.Context(), e.Systems); err != nil || again["bad"] == nil || len(*started) == 0 {
		t.Errorf("what failed was not tried again after ForgetFailures: %v, %v, %v", again, *started, err)
	}

	*started = nil
	if _, err := n.Build(t.Context(), map[string]nixos.System{"good": e.Systems["good"]}); err != nil || len(*started) > 0 {
		t.Errorf("what was built and kept started %v, %v", *started, err)
	}
	if out, err := exec.Command("nix-store", "-q", "--roots", e.Systems["good"].Out).Output(); err != nil || !strings.Contains(string(out), n.Dir) {
		t.Errorf("the garbage collector may have what was built: %s %v", out, err)
	}
	if err := n.Keep(nil, 0); err != nil {
		t.Fatal(err)
	}
	if out, _ := exec.Command("nix-store", "-q", "--roots", e.Systems["good"].Out).Output(); strings.Contains(string(out), n.Dir) {
		t.Errorf("it is kept after Keep let go: %s", out)
	}
}

func TestDifference(t *testing.T) {
	needNix(t)
	n, _ := newNix(t)
	old := built(t, n, flake(`a = host { name = "a"; };`), "a")["a"]
	now := built(t, n, flake(`a = host { name = "a"; curlVersion = "8.2"; port = "81"; };`), "a")["a"]
	d, err := n.Difference(t.Context(), old.Out, now.Out)
	if err != nil {
		t.Fatal(err)
	}
	var text []string
	for _, p := range d.Packages {
		text = append(text, p.String())
	}
	if want := []string{"curl 8.1 → 8.2", "nixos-system-a 24.05 (rebuilt)"}; !slices.Equal(text, want) {
		t.Errorf("packages %q, want %q", text, want)
	}
	if want := []nixos.Unit{{Name: "web.service", Action: "changed"}}; !slices.Equal(d.Units, want) {
		t.Errorf("units %v, want %v", d.Units, want)
	}
	if d, err := n.Difference(t.Context(), "", now.Out); err != nil || len(d.Packages) != 2 || d.Size <= 0 || len(d.Units) != 2 {
		t.Errorf("against nothing: %+v, %v", d, err)
	}
	gone := nixos.StoreDir + "/" + strings.Repeat("0", 32) + "-gone"
	if _, err := n.Difference(t.Context(), gone, now.Out); !errors.Is(err, nixos.ErrNotHere) {
		t.Errorf("against a path that is not here: %v", err)
	}
}

// farStore serves a store below dir, as a host would.
func farStore(dir string) nixos.Serve {
	return func(ctx context.Context, in io.Reader, out, errs io.Writer) (int, error) {
		cmd := exec.CommandContext(ctx, "nix-store", "--store", "local?root="+dir, "--serve", "--write")
		cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, errs
		err := cmd.Run()
		if exit := new(exec.ExitError); errors.As(err, &exit) {
			return exit.ExitCode(), nil
		}
		return 0, err
	}
}

func TestCopySendsWhatIsMissing(t *testing.T) {
	needNix(t)
	n, _ := newNix(t)
	a := built(t, n, flake(`a = host { name = "a"; };`), "a")["a"]
	far := t.TempDir()
	first, err := n.Copy(t.Context(), a.Out, farStore(far))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(far, a.Out, "etc/systemd/system/web.service")); err != nil {
		t.Errorf("it is not there: %v", err)
	}
	again, err := n.Copy(t.Context(), a.Out, farStore(far))
	if err != nil || first.Sessions != 1 || again.Sent >= first.Sent || again.Sent > 1024 {
		t.Errorf("sent %d bytes in %d sessions, then %d, %v", first.Sent, first.Sessions, again.Sent, err)
	}
	if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "bellhop-nix-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestCopyTellsWhyTheHostFailed(t *testing.T) {
	needNix(t)
	n, _ := newNix(t)
	a := built(t, n, flake(`a = host { name = "a"; };`), "a")["a"]
	away := errors.New("a: can't be reached")
	_, err := n.Copy(t.Context(), a.Out, func(context.Context, io.Reader, io.Writer, io.Writer) (int, error) { return 0, away })
	if !errors.Is(err, away) {
		t.Errorf("Copy to a host that is away: %v", err)
	}
	_, err = n.Copy(t.Context(), a.Out, func(_ context.Context, _ io.Reader, _, errs io.Writer) (int, error) {
		fmt.Fprintln(errs, "sh: nix-store: not found")
		return 127, nil
	})
	if err == nil || !strings.Contains(err.Error(), "code 127") {
		t.Errorf("Copy to a host without Nix: %v", err)
	}
}

func TestKeysOfTheConfiguration(t *testing.T) {
	needNix(t)
	n, started := newNix(t)
	tree := flake(`a = host { name = "a"; } // { config = (host { name = "a"; }).config // { deployment.keys = {
	   db = { keyFile = ./secrets/db.age; user = "blog"; permissions = "0440"; };
	   rooted = { keyFile = self + "/secrets/sub/y.age"; destDir = "/run/keys/blog"; };
	   here = { keyFile = "/etc/keys/z"; }; text = { text = "hunter2"; name = "renamed"; }; cmd = { keyCommand = [ "pass" "show" "x" ]; }; }; }; };
	 copied = { config = (host { name = "c"; }).config // { deployment.keys.interp.keyFile = "${./secrets/plain.txt}"; }; };
	 elsewhere = { config = (host { name = "c"; }).config // { deployment.keys.k = { text = "x"; destDir = "/etc"; }; }; };`)
	tree["secrets/db.age"] = file("age-encryption.org/v1\n")
	tree["secrets/sub/y.age"] = file("age-encryption.org/v1\n")
	tree["secrets/plain.txt"] = file("plain")
	s := source(t, tree)
	e, err := n.Systems(t.Context(), s, asks("a", "copied", "elsewhere"))
	if err != nil {
		t.Fatal(err)
	}
	if e.Processes != 1 || len(*started) != 1 {
		t.Errorf("keys took %d processes, want that of the evaluation", e.Processes)
	}
	want := []nixos.Key{
		{Name: "cmd", Path: "/run/keys/cmd", User: "root", Group: "root", Mode: 0o600, Command: []string{"pass", "show", "x"}},
		{Name: "db", Path: "/run/keys/db", User: "blog", Group: "root", Mode: 0o440, File: "secrets/db.age"},
		{Name: "here", Path: "/run/keys/here", User: "root", Group: "root", Mode: 0o600, Local: "/etc/keys/z"},
		{Name: "renamed", Path: "/run/keys/renamed", User: "root", Group: "root", Mode: 0o600, Text: true},
		{Name: "rooted", Path: "/run/keys/blog/rooted", User: "root", Group: "root", Mode: 0o600, File: "secrets/sub/y.age"},
	}
	got := e.Systems["a"].Keys
	slices.SortFunc(got, func(a, b nixos.Key) int { return strings.Compare(a.Name, b.Name) })
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("keys are %+v (%s)\nwant %+v", got, e.Systems["a"].Err, want)
	}
	if err := e.Systems["copied"].Err; !strings.Contains(err, "interp") || !strings.Contains(err, "keyFile = ./…/plain.txt;") {
		t.Errorf("a copy in the store: %q", err)
	}
	if err := e.Systems["elsewhere"].Err; !strings.Contains(err, "destDir /etc") {
		t.Errorf("a key elsewhere: %q", err)
	}

	texts, err := n.Texts(t.Context(), s, asks("a"))
	if err != nil || texts["a"]["renamed"] != "hunter2" || len(texts["a"]) != 1 {
		t.Errorf("texts have %d hosts, %v", len(texts), err)
	}
	if b, _ := os.ReadFile(filepath.Join(n.Dir, "evaluated.json")); strings.Contains(string(b), "hunter2") {
		t.Error("the text of a key is remembered on disk")
	}
}
