package nixos_test

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"bellhop/internal/nixos"
)

// A far host for tests: it has the store of this machine, and a folder of its own for roots.
type far struct {
	dir      string
	path     string // PATH, when the test began
	commands []string
}

func newFar(t *testing.T) *far {
	t.Helper()
	f := &far{dir: t.TempDir(), path: os.Getenv("PATH")}
	return f
}

func (f *far) shell(ctx context.Context, cmd string, in io.Reader, out, errs io.Writer) (int, error) {
	f.commands = append(f.commands, cmd)
	own := strings.NewReplacer("/nix/var/nix/gcroots", f.dir+"/gcroots", "HOME=/root", "HOME="+f.dir)
	sh := exec.CommandContext(ctx, "/bin/sh", "-c", own.Replace(cmd))
	sh.Env = append(slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, "PATH=") }), "PATH="+f.path)
	sh.Stdin, sh.Stdout, sh.Stderr = in, out, errs
	err := sh.Run()
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	return 0, err
}

// newFlake is a flake in which NEW is something that no store has.
func newFlake(hosts string) fstest.MapFS {
	return flake(strings.ReplaceAll(hosts, "NEW", rand.Text()))
}

// noNix is a Nix of a machine that has none.
func noNix(t *testing.T) *nixos.Nix {
	t.Helper()
	t.Setenv("PATH", t.TempDir())
	if nixos.Installed() {
		t.Skip("Nix lies outside of PATH here")
	}
	return &nixos.Nix{Dir: t.TempDir()}
}

// A host that builds its system itself is given the derivation; what can't be built is told with the log of the
// derivation that failed.
func TestHostBuilds(t *testing.T) {
	needNix(t)
	n, _ := newNix(t)
	f := newFar(t)
	tree := newFlake(`there = host { name = "there"; port = "NEW"; }; bad = host { name = "bad"; fails = "echo it does not fit; exit 3;"; };`)
	e, err := n.Systems(t.Context(), source(t, tree), asks("there", "bad"))
	if err != nil {
		t.Fatal(err)
	}
	s := e.Systems["there"]
	if err := n.KeepDerivation(t.Context(), s); err != nil {
		t.Fatal(err)
	}

	if _, err := n.Bring(t.Context(), s.Out, true, f.shell); err != nil || !nixos.Has(s.Out) {
		t.Fatalf("Bring: %v; it is there: %v", err, nixos.Has(s.Out))
	}
	for root, want := range map[string]string{"next": s.Out, "derivation": s.Drv} {
		if got, err := os.Readlink(filepath.Join(f.dir, "gcroots/bellhop", root)); got != want {
			t.Errorf("the root %s is %s, %v; want %s", root, got, err, want)
		}
	}

	f.commands = nil
	if copied, err := n.Bring(t.Context(), s.Out, true, f.shell); err != nil || copied.Sessions > 0 || len(f.commands) != 1 {
		t.Errorf("once more: %+v, %v, %d commands", copied, err, len(f.commands))
	}

	_, err = n.Bring(t.Context(), e.Systems["bad"].Out, true, f.shell)
	failed := new(nixos.Failure)
	if !errors.As(err, &failed) || !strings.Contains(failed.Full(), "it does not fit") {
		t.Errorf("what can't be built: %v", err)
	}
}

// What a deployer without Nix knows of a system is what the host said, and the host is not asked twice. The tree is gone
// from the host when the evaluation is over.
func TestHostEvaluates(t *testing.T) {
	needNix(t)
	needRun(t)
	f := newFar(t)
	tree := newFlake(`there = host { name = "there"; port = "NEW"; }; thrown = throw "the disk is too small";`)
	n := noNix(t)
	ask := nixos.Ask{Host: "there", Attr: "there", OnHost: true}
	s, err := n.EvaluateOnHost(t.Context(), source(t, tree), ask, f.shell)
	if err != nil || s.Err != "" || !s.There || !nixos.IsStorePath(s.Out) {
		t.Fatalf("EvaluateOnHost: %+v, %v", s, err)
	}
	dir := regexp.MustCompile(`/run/bellhop-nix-[0-9a-f]+`).FindString(f.commands[0])
	if _, err := os.Stat(dir); dir == "" || !os.IsNotExist(err) {
		t.Errorf("the folder %q is left on the host: %v", dir, err)
	}

	f.commands = nil
	other := &nixos.Nix{Dir: n.Dir} // another process of bellhop, later
	if again, err := other.EvaluateOnHost(t.Context(), source(t, tree), ask, f.shell); err != nil || again.Out != s.Out || len(f.commands) > 0 {
		t.Errorf("once more: %+v, %v, %d commands", again, err, len(f.commands))
	}
	if known, _ := other.Known(source(t, tree), []nixos.Ask{ask}); known["there"].Out != s.Out {
		t.Errorf("it is not known: %+v", known)
	}
	if _, err := other.Bring(t.Context(), s.Out, true, f.shell); err != nil || !nixos.Has(s.Out) {
		t.Errorf("Bring: %v; it is there: %v", err, nixos.Has(s.Out))
	}

	thrown, err := n.EvaluateOnHost(t.Context(), source(t, tree), nixos.Ask{Host: "thrown", Attr: "thrown", OnHost: true}, f.shell)
	if err != nil || !strings.Contains(thrown.Err, "the disk is too small") || len(thrown.Lines) == 0 {
		t.Errorf("a system that can't be evaluated: %+v, %v", thrown, err)
	}
}

// needRun skips a test where this user may write nothing to /run, as root on a host may.
func needRun(t *testing.T) {
	t.Helper()
	if dir, err := os.MkdirTemp("/run", "bellhop-test-"); err != nil {
		t.Skipf("needs to write /run, as root may: %v", err)
	} else if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
}

// A host that evaluates says what it wants. It can have no key so: it would be given those of others.
func TestHostThatEvaluatesGetsNoKeys(t *testing.T) {
	needNix(t)
	needRun(t)
	f := newFar(t)
	tree := flake(`there = host { name = "there"; } // { config = { deployment.keys.other.keyFile = ./secrets/other.age; system = (host { name = "there"; }).config.system; }; };`)
	n := noNix(t)
	tree["secrets/other.age"] = file("age-encryption.org/v1\n")
	s, err := n.EvaluateOnHost(t.Context(), source(t, tree), nixos.Ask{Host: "there", Attr: "there", OnHost: true}, f.shell)
	if err != nil || !strings.Contains(s.Err, "could so ask for the keys of others") || len(s.Keys) > 0 {
		t.Errorf("it came to %+v, %v", s, err)
	}
}

// A host that is away, or has no Nix either, is asked again: nothing of it is remembered.
func TestHostThatCanNotEvaluate(t *testing.T) {
	tree := flake("")
	n := noNix(t)
	ask := nixos.Ask{Host: "there", Attr: "there", OnHost: true}
	away := errors.New("no route")
	_, err := n.EvaluateOnHost(t.Context(), source(t, tree), ask, func(context.Context, string, io.Reader, io.Writer, io.Writer) (int, error) { return 0, away })
	if !errors.Is(err, away) {
		t.Errorf("a host that is away: %v", err)
	}
	needRun(t)
	f := newFar(t)
	f.path = t.TempDir()
	for _, tool := range []string{"mkdir", "rm", "head", "cat", "ln"} {
		if path, err := exec.LookPath("/bin/" + tool); err == nil {
			os.Symlink(path, filepath.Join(f.path, tool))
		}
	}
	for range 2 {
		f.commands = nil
		s, err := n.EvaluateOnHost(t.Context(), source(t, tree), ask, f.shell)
		if err != nil || !strings.Contains(s.Err, "neither the deployer nor the host has Nix") || len(f.commands) != 1 {
			t.Errorf("a host without Nix: %+v, %v", s, err)
		}
	}
}

// What a host will build is compared by the derivations, and nothing is built for it.
func TestDifferenceOfBuilds(t *testing.T) {
	needNix(t)
	n, _ := newNix(t)
	system := func(name, curl, more string) string {
		return name + ` = { config.system.build.toplevel = drv "nixos-system-chrysalis" "echo ${curl "` + curl + `"} ` + more + ` > $out"; };`
	}
	unit := func(name, text string) string { return `${drv "unit-` + name + `" "` + text + `"}` }
	tree := newFlake(system("one", "8.1", unit("web.service", "1 NEW")+unit("gone.service", "NEW")+unit("same.service", "NEW")) +
		system("two", "8.2", unit("web.service", "2 NEW")+unit("x-2.timer", "NEW")+unit("same.service", "NEW")))
	e, err := n.Systems(t.Context(), source(t, tree), asks("one", "two"))
	if err != nil {
		t.Fatal(err)
	}

	one, two := e.Systems["one"].Out, e.Systems["two"].Out
	d, err := n.DifferenceOfBuilds(t.Context(), one, two)
	if err != nil {
		t.Fatalf("DifferenceOfBuilds: %v; %+v", err, e.Systems)
	}
	want := &nixos.Difference{OfBuilds: true,
		Packages: []nixos.Package{{Name: "curl", Old: []string{"8.1"}, New: []string{"8.2"}}, {Name: "nixos-system-chrysalis", Old: []string{""}, New: []string{""}}},
		Units:    []nixos.Unit{{Name: "gone.service", Action: "removed"}, {Name: "web.service", Action: "changed"}, {Name: "x-2.timer", Action: "added"}}}
	if !reflect.DeepEqual(d, want) {
		t.Errorf("the difference is %+v, want %+v", d, want)
	}
	if nixos.Has(one) || nixos.Has(two) {
		t.Error("something was built")
	}
	if _, err := n.DifferenceOfBuilds(t.Context(), one[:len(one)-1]+"x", two); !errors.Is(err, nixos.ErrNotHere) {
		t.Errorf("with a system that is not known: %v", err)
	}
}
