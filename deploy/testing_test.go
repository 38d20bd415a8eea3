package deploy_test

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"

	"bellhop/deploy/commits"
	"bellhop/deploy/plan"
	"bellhop/deploy/routes"
	"bellhop/deploy/testbranch"
	"bellhop/internal/fleet"
	"bellhop/internal/history"
	"bellhop/internal/lab"
	"bellhop/internal/link"
	"bellhop/internal/nixos"
)

// ready has every system on its host before it is asked for.
type ready struct{ routes.Links }

func (ready) Carry(context.Context, link.Target, string, io.Reader, io.Writer, io.Writer) (int, error) {
	return 0, nil
}

// A tested world has NixOS hosts whose systems are named in files of the repo, and testing branches.
type tested struct {
	*world
	branches map[string]string // commit of testing-HOST, by host
	all      map[string]commits.Snapshot
	below    map[string]string // what a commit is on top of
}

func newTested(t *testing.T, names ...string) *tested {
	t.Helper()
	w := &tested{world: newWorld(t, "plain"), branches: map[string]string{}, all: map[string]commits.Snapshot{}, below: map[string]string{}}
	w.top = atOnce
	w.nixosHosts(names...)
	for _, n := range names {
		w.yaml[n] = strings.Replace(w.yaml[n], "nixos: .#"+n, "nixos: { attr: "+n+", build_on: target }", 1)
		w.files["systems/"+n] = firstSystem
	}
	w.d.Nix, w.d.Links = &nixos.Nix{Dir: t.TempDir()}, ready{w.d.Links}
	w.d.Loader.Systems = func(_ context.Context, tree fs.FS, _ string, hosts []*fleet.Host) map[string]*fleet.HostSystem {
		found := map[string]*fleet.HostSystem{}
		for _, h := range hosts {
			text, err := fs.ReadFile(tree, "systems/"+h.Name)
			found[h.Name] = &fleet.HostSystem{Path: string(text), Err: err}
			if problem, ok := strings.CutPrefix(string(text), "error: "); ok {
				found[h.Name] = &fleet.HostSystem{Err: &fleet.SystemError{Text: problem, Later: problem == "later"}}
			}
		}
		return found
	}
	w.d.At = func(_ context.Context, commit string) (commits.Snapshot, error) {
		if c, ok := w.all[commit]; ok {
			return c, nil
		}
		return commits.Snapshot{}, fs.ErrNotExist
	}
	w.looks()
	return w
}

// looks has the deployer look at testing branches, as after a start.
func (w *tested) looks() {
	w.d.Testing = &testbranch.Finder{Repo: w, Loader: w.d.Loader, Check: w.d.Check, Log: w.d.Log}
}

func (w *tested) Heads(string) map[string]string { return w.branches }

func (w *tested) OfBranch(ctx context.Context, branch, commit string) (commits.Snapshot, error) {
	return w.d.At(ctx, commit)
}

func (w *tested) Holds(_ context.Context, commit, old string) (bool, error) {
	for c := commit; c != ""; c = w.below[c] {
		if c == old {
			return true, nil
		}
	}
	return false, nil
}

// main is the head of the branch that is deployed.
func (w *tested) main() string {
	if len(w.commits) == 0 {
		return ""
	}
	return w.commits[len(w.commits)-1].Commit
}

// toMain commits to the branch that is deployed.
func (w *tested) toMain(message string) string {
	w.t.Helper()
	before := w.main()
	id := w.commit(message)
	w.all[id], w.below[id] = w.commits[len(w.commits)-1], before
	return id
}

// branch commits to testing-HOST, on top of what is deployed, what host is to run.
func (w *tested) branch(host, system string) string {
	w.t.Helper()
	former, before := w.files["systems/"+host], w.main()
	w.files["systems/"+host] = system
	w.commit("try it")
	snap := w.commits[len(w.commits)-1]
	w.commits, w.files["systems/"+host] = w.commits[:len(w.commits)-1], former
	snap.Commit = fmt.Sprintf("%039x%x", len(w.all)+1, 0xf)
	w.all[snap.Commit], w.below[snap.Commit], w.branches[host] = snap, before, snap.Commit
	return snap.Commit
}

// system is the store path of one more system of a host, which has its closure.
func (w *tested) system(host, name string, top lab.Toplevel) string {
	path := "/nix/store/" + strings.Repeat("0", 31) + fmt.Sprint(len(name)%10) + "-nixos-system-" + name
	w.machines[host].AddSystem(path, top)
	return path
}

// runs wants a host to run one system, and its profile to have another.
func (w *tested) runs(host, current, profile string) {
	w.t.Helper()
	m := w.machines[host]
	generations := strings.Join(m.Generations(), "\n")
	at := generations[strings.LastIndex(generations, "system-")+len("system-") : strings.LastIndex(generations, "-link")]
	has := ""
	for _, g := range m.Generations() {
		if path, ok := strings.CutPrefix(g, at+" "); ok {
			has = path
		}
	}
	if m.CurrentSystem() != current || has != profile || m.BootsSystem() != profile {
		w.t.Errorf("%s runs %s, its profile has %s and it boots %s; want %s, and %s to boot", host, m.CurrentSystem(), has, m.BootsSystem(), current, profile)
	}
}

func (w *tested) poll(outcome history.Outcome) *history.Run {
	w.t.Helper()
	return w.run(plan.Request{Cause: "poll", Trigger: plan.TriggerClock}, outcome)
}

// A branch testing-HOST runs on that host alone, with test; it ends when the branch is deleted.
func TestTestingBranchRunsUntilItIsDeleted(t *testing.T) {
	w := newTested(t, "lufta", "other")
	main := w.toMain("first")
	w.run(plan.Request{}, history.OutcomeDone)
	other := w.sessions("other")
	try := w.system("lufta", "try", lab.Toplevel{Units: map[string]string{"new.service": "[Service]\nExecStart=/bin/new\n"}})
	branch := w.branch("lufta", try)
	w.poll(history.OutcomeDone)

	w.runs("lufta", try, firstSystem)
	w.wantState("lufta", history.Held, branch)
	w.wantState("other", history.Current, main)
	s := w.state("lufta")
	if s.Held == nil || s.Held.Test == nil || s.Held.Test.Branch != "testing-lufta" || s.Held.Test.Commit != branch {
		t.Errorf("the status says %+v", s.Held)
	}
	if n := w.sessions("other") - other; n != 0 {
		t.Errorf("another host had %d sessions", n)
	}

	before := w.sessions("lufta")
	w.poll(history.OutcomeNothing)
	w.looks() // the server was started again
	w.poll(history.OutcomeNothing)
	if n := w.sessions("lufta") - before; n != 0 {
		t.Errorf("while it runs the test, the host had %d sessions", n)
	}
	if p, err := w.d.Plan(t.Context(), plan.Request{}); err != nil || len(p.Changing()) > 0 {
		t.Errorf("a plan meanwhile: %v, %+v", err, p.Changing())
	}

	delete(w.branches, "lufta")
	r := w.poll(history.OutcomeDone)
	w.runs("lufta", firstSystem, firstSystem)
	w.wantState("lufta", history.Current, main)
	if !strings.Contains(strings.Join(r.Notes, "\n"), "lufta runs no test any more: branch testing-lufta is gone") {
		t.Errorf("the run says %q", r.Notes)
	}
}

// A test ends with the next push to the branch that is deployed, and when it is merged.
func TestTestingBranchEndsWithAPush(t *testing.T) {
	for _, merged := range []bool{false, true} {
		w := newTested(t, "lufta")
		w.toMain("first")
		w.run(plan.Request{}, history.OutcomeDone)
		try := w.system("lufta", "try", lab.Toplevel{})
		branch := w.branch("lufta", try)
		w.poll(history.OutcomeDone)
		w.runs("lufta", try, firstSystem)

		want, why := firstSystem, "is not on top of"
		if merged {
			w.files["systems/lufta"], want, why = try, try, "is merged"
		}
		main := w.toMain("next")
		if merged {
			w.below[main] = branch
		}
		r := w.run(plan.Request{Cause: "push"}, history.OutcomeDone)
		w.runs("lufta", want, want)
		w.wantState("lufta", history.Current, main)
		if !strings.Contains(strings.Join(r.Notes, "\n"), why) {
			t.Errorf("merged %v: the run says %q", merged, r.Notes)
		}
	}
}

// A test that fails goes back to what the host ran, is not tried again, and a better one follows it.
func TestTestingBranchThatFails(t *testing.T) {
	w := newTested(t, "lufta")
	main := w.toMain("first")
	w.run(plan.Request{}, history.OutcomeDone)
	bad := w.system("lufta", "bad", lab.Toplevel{Exit: 1})
	w.branch("lufta", bad)
	w.poll(history.OutcomeFailed)
	w.runs("lufta", firstSystem, firstSystem)
	before := w.sessions("lufta")
	w.poll(history.OutcomeNothing)
	if s := w.state("lufta"); s.State != history.RolledBack || w.sessions("lufta") != before {
		t.Errorf("after a test that failed: %s, %d more sessions", s.State, w.sessions("lufta")-before)
	}

	w.branch("lufta", "error: undefined variable 'foo'")
	w.poll(history.OutcomeFailed)
	s := w.state("lufta")
	if s.State != history.Failed || s.Error == nil || !strings.Contains(*s.Error, "branch testing-lufta") || !strings.Contains(*s.Error, "undefined variable") {
		t.Errorf("a test without a system: %+v", s)
	}
	w.runs("lufta", firstSystem, firstSystem)

	w.branch("lufta", "error: later")
	w.poll(history.OutcomeNothing)
	w.runs("lufta", firstSystem, firstSystem)

	better := w.system("lufta", "better", lab.Toplevel{})
	branch := w.branch("lufta", better)
	w.poll(history.OutcomeDone)
	w.runs("lufta", better, firstSystem)
	w.wantState("lufta", history.Held, branch)

	w.branch("lufta", "error: later") // the test before goes on
	w.poll(history.OutcomeNothing)
	w.runs("lufta", better, firstSystem)
	w.d.Testing = nil // started without --testing
	w.run(plan.Request{}, history.OutcomeDone)
	w.runs("lufta", firstSystem, firstSystem)
	w.wantState("lufta", history.Current, main)
}

// A commit that can't be loaded is refused also once the head has moved to one below it.
func TestTestingBranchThatCannotBeLoaded(t *testing.T) {
	w := newTested(t, "lufta")
	w.toMain("first")
	w.run(plan.Request{}, history.OutcomeDone)
	w.yaml["lufta"] += "    nonsense: true\n"
	branch := w.branch("lufta", firstSystem)
	w.yaml["lufta"] = strings.TrimSuffix(w.yaml["lufta"], "    nonsense: true\n")
	w.poll(history.OutcomeRefused)
	half := w.toMain("the good half")
	w.below[branch] = half
	w.run(plan.Request{Cause: "push"}, history.OutcomeRefused)
	if s := w.state("lufta"); s.State != history.Refused || s.Error == nil || !strings.Contains(*s.Error, "nonsense") {
		t.Errorf("lufta is %+v", s)
	}
}

// A branch for a host that is no NixOS host, or none at all, is left alone, and so is a host that a person holds.
func TestTestingBranchThatIsNone(t *testing.T) {
	w := newTested(t, "lufta")
	main := w.toMain("first")
	w.run(plan.Request{}, history.OutcomeDone)
	first := w.state("lufta").Run
	w.branches["plain"], w.branches["nobody"] = w.branch("lufta", firstSystem), w.branch("lufta", firstSystem)
	delete(w.branches, "lufta")
	w.poll(history.OutcomeNothing)
	w.wantState("plain", history.Current, main)

	second := w.system("lufta", "second", lab.Toplevel{})
	w.files["systems/lufta"] = second
	w.toMain("second")
	w.run(plan.Request{}, history.OutcomeDone)
	w.back("lufta", *first, history.OutcomeDone)
	w.runs("lufta", firstSystem, firstSystem)
	try := w.system("lufta", "try", lab.Toplevel{})
	branch := w.branch("lufta", try)
	w.poll(history.OutcomeNothing)
	w.runs("lufta", firstSystem, firstSystem)
	w.run(plan.Request{Cause: "resume", By: "cadey", On: "lufta", Resume: true}, history.OutcomeDone)
	w.runs("lufta", try, firstSystem)
	w.wantState("lufta", history.Held, branch)
}

// A reboot ends a test on the host; its keys and its status stay those of the test until another push, or --all.
func TestTestingBranchIsGoneAtReboot(t *testing.T) {
	w := newTested(t, "lufta")
	w.toMain("first")
	w.run(plan.Request{}, history.OutcomeDone)
	try := w.system("lufta", "try", lab.Toplevel{})
	branch := w.branch("lufta", try)
	w.poll(history.OutcomeDone)
	w.machines["lufta"].Reboot()
	w.poll(history.OutcomeNothing)
	w.runs("lufta", firstSystem, firstSystem)

	w.run(plan.Request{By: "cadey", On: "lufta", All: true}, history.OutcomeDone)
	w.runs("lufta", try, firstSystem)
	w.wantState("lufta", history.Held, branch)
	w.run(plan.Request{By: "cadey", On: "lufta", All: true}, history.OutcomeNothing)
}
