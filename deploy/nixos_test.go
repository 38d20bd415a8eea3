package deploy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"bellhop/deploy/plan"
	"bellhop/deploy/routes"
	"bellhop/internal/fleet"
	"bellhop/internal/history"
	"bellhop/internal/lab"
	"bellhop/internal/link"
	"bellhop/internal/nixhosts"
	"bellhop/internal/nixos"
	"bellhop/internal/nixos/nixtest"
)

// firstSystem is what the NixOS hosts of a world run at first.
const firstSystem = "/nix/store/0ajz40m7nklbncf2czaz0iinq4frg726-nixos-system-first"

// nixosHosts makes hosts of the world NixOS hosts.
func (w *world) nixosHosts(names ...string) {
	for _, n := range names {
		w.host(n)
		w.yaml[n] += "    nixos: .#" + n + "\n"
		w.machines[n].MakeNixOS(firstSystem, lab.Toplevel{})
	}
}

func TestSystemThatFailsIsItsHostsTrouble(t *testing.T) {
	w := newWorld(t, "plain")
	w.top = atOnce
	w.nixosHosts("broken")
	w.d.Nix = &nixos.Nix{Dir: t.TempDir()}
	w.d.Loader.Systems = func(_ context.Context, _ fs.FS, commit string, hosts []*fleet.Host) map[string]*fleet.HostSystem {
		return map[string]*fleet.HostSystem{"broken": {Err: &fleet.SystemError{Text: "NixOS: the disk is too small", Lines: []string{"error: the disk is too small"}}}}
	}
	c := w.commit("first")
	r := w.run(plan.Request{}, history.OutcomePartial)
	w.wantState("plain", history.Current, c)
	if s := w.state("broken"); s.State != history.Failed || s.Error == nil || !strings.Contains(*s.Error, "the disk is too small") {
		t.Errorf("broken is %+v", s)
	}
	for _, h := range r.Hosts {
		if h.Name == "broken" && (len(h.Evidence) != 1 || len(h.Evidence[0].Lines) != 1) {
			t.Errorf("the evidence is %+v", h.Evidence)
		}
	}
	if n := w.sessions("broken"); n != 0 {
		t.Errorf("broken had %d sessions", n)
	}
}

// carried serves a store of each host's own in place of the host's.
type carried struct {
	routes.Links
	dir  string
	sent map[string]*atomic.Int64 // sessions, by host

	machines map[string]*lab.Machine
}

func (c carried) Carry(ctx context.Context, t link.Target, cmd string, in io.Reader, out, errs io.Writer) (int, error) {
	if !strings.HasSuffix(cmd, " nix-store --serve --write") {
		return 0, fmt.Errorf("asked to run %q", cmd)
	}
	c.sent[t.Name].Add(1)
	far := exec.CommandContext(ctx, "nix-store", "--store", "local?root="+c.dir+"/"+t.Name, "--serve", "--write")
	far.Stdin, far.Stdout, far.Stderr = in, out, errs
	err := far.Run()
	there, _ := filepath.Glob(c.dir + "/" + t.Name + nixos.StoreDir + "/*-nixos-system-*")
	for _, path := range there {
		c.machines[t.Name].AddSystem(nixos.StoreDir+"/"+filepath.Base(path), lab.Toplevel{})
	}
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	return 0, err
}

// Of 20 NixOS hosts one changes: one evaluation, one copy, one host that is reached. A commit that Nix does not see
// starts no process.
func TestNixOSCostsFollowTheChange(t *testing.T) {
	nixtest.Need(t, "")
	w := newWorld(t)
	w.top = atOnce
	var names []string
	for i := range 20 {
		names = append(names, fmt.Sprintf("n%02d", i))
	}
	w.nixosHosts(names...)
	var starting sync.Mutex // systems are copied side by side
	var started []string
	w.d.Nix = &nixos.Nix{Dir: t.TempDir(), Memory: func() int64 { return 64 << 30 }, Started: func(argv []string) {
		starting.Lock()
		defer starting.Unlock()
		started = append(started, argv[0]+" "+argv[min(1, len(argv)-1)])
	}}
	w.d.Loader.Systems = (&nixhosts.Hosts{Nix: w.d.Nix}).Systems
	links := carried{w.d.Links, t.TempDir(), map[string]*atomic.Int64{}, w.machines}
	for _, n := range names {
		links.sent[n] = new(atomic.Int64)
	}
	w.d.Links = links

	flake := func(special string) string {
		var hosts strings.Builder
		for _, n := range names {
			what := "plain"
			if n == "n07" {
				what = special
			}
			fmt.Fprintf(&hosts, "%s = host \"%s\" \"%s\";\n", n, n, what)
		}
		return `{ outputs = { self }: let host = name: what: { config.system.build.toplevel = derivation {
		  name = "nixos-system-${name}"; system = "x86_64-linux"; builder = "/bin/sh"; args = [ "-c" "echo ${what} > $out" ]; }; };
		in { nixosConfigurations = { ` + hosts.String() + ` }; }; }`
	}
	w.files["flake.nix"] = flake("plain")
	w.push("first", history.OutcomeDone)
	if n := evaluations(started); n != 1 {
		t.Errorf("20 hosts took %d evaluations: %q", n, started)
	}

	started = nil
	w.files["README.md"] = "seen by Nix, and by no host\n"
	w.files["bellhop.yaml.note"] = "x"
	w.files["flake.nix"] = flake("other")
	before := w.sessions("n03")
	w.push("one host", history.OutcomeDone)
	if n := evaluations(started); n != 1 {
		t.Errorf("one change took %d evaluations: %q", n, started)
	}
	for _, n := range names {
		want := int64(1)
		if n == "n07" {
			want = 2
		}
		if got := links.sent[n].Load(); got != want {
			t.Errorf("%s was copied to %d times, want %d", n, got, want)
		}
	}
	if n := w.sessions("n03"); n != before {
		t.Errorf("a host whose system is the same had %d sessions", n-before)
	}

	started = nil
	w.files["services/web/web.service"] = "[Service]\nExecStart=/bin/other\n"
	w.push("what Nix does not see", history.OutcomeNothing)
	if len(started) > 0 {
		t.Errorf("a commit that Nix does not see started %q", started)
	}
}

func evaluations(started []string) int {
	n := 0
	for _, s := range started {
		if strings.HasPrefix(s, "/usr/bin/nix ") || strings.Contains(s, "/nix --extra") {
			n++
		}
	}
	return n
}
