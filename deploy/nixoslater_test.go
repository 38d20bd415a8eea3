package deploy_test

import (
	"context"
	"io/fs"
	"strings"
	"testing"

	"bellhop/deploy/plan"
	"bellhop/internal/fleet"
	"bellhop/internal/history"
	"bellhop/internal/nixos"
)

// systemsOf has the loader ask f for the system of each host.
func (w *world) systemsOf(f func(host string) *fleet.HostSystem) {
	w.d.Nix = &nixos.Nix{Dir: w.t.TempDir()}
	w.d.Loader.Systems = func(_ context.Context, _ fs.FS, _ string, hosts []*fleet.Host) map[string]*fleet.HostSystem {
		all := map[string]*fleet.HostSystem{}
		for _, h := range hosts {
			all[h.Name] = f(h.Name)
		}
		return all
	}
}

// A host whose system takes long waits for it, no other host does, and the next run asks for it again.
func TestSystemThatIsStillMade(t *testing.T) {
	w := newWorld(t, "plain")
	w.top = atOnce
	w.nixosHosts("slow")
	answer := &fleet.HostSystem{Err: &fleet.SystemError{Text: "still being made", Later: true}}
	w.systemsOf(func(string) *fleet.HostSystem { return answer })
	c := w.commit("first")
	w.run(plan.Request{}, history.OutcomePartial)
	w.wantState("plain", history.Current, c)
	if s := w.state("slow"); s.State != history.Never || s.Error == nil || !strings.Contains(*s.Error, "still being made") {
		t.Errorf("while its system is made the host is %+v", s)
	}

	stored := func() int {
		runs, err := w.db.Runs(t.Context(), 0)
		w.must(err)
		return len(runs.Runs)
	}
	before := stored()
	for range 3 { // each asks anew, and gets another error that says the same
		answer = &fleet.HostSystem{Err: &fleet.SystemError{Text: answer.Err.Error(), Later: true}}
		w.run(plan.Request{Cause: "poll", Trigger: plan.TriggerClock}, history.OutcomeNothing)
	}
	if n := stored() - before; n > 0 {
		t.Errorf("while its system is made, 3 polls stored %d runs", n)
	}

	answer = &fleet.HostSystem{Err: &fleet.SystemError{Text: "the disk is too small"}}
	w.run(plan.Request{}, history.OutcomeFailed)
	if s := w.state("slow"); s.State != history.Failed {
		t.Errorf("once its system was tried the host is %+v", s)
	}
	before = stored()
	w.run(plan.Request{Cause: "poll", Trigger: plan.TriggerClock}, history.OutcomeNothing)
	if n := stored() - before; n > 0 {
		t.Errorf("a poll that finds the same error stored %d runs", n)
	}
}

// While a run waits for systems, others plan, also another commit; and the run goes on with its own.
func TestPlansAreMadeWhileSystemsAre(t *testing.T) {
	w := newWorld(t, "plain")
	w.top = atOnce
	w.nixosHosts("slow")
	var planned *plan.Plan
	waits := false
	w.systemsOf(func(string) *fleet.HostSystem {
		if waits {
			waits = false
			w.files["services/web/web.service"] = "[Service]\nExecStart=/bin/newer\n"
			w.commit("newer")
			var err error
			if planned, err = w.d.Plan(t.Context(), plan.Request{}); err != nil { // it never returns where the run holds the planner
				t.Errorf("Plan while a run waits: %v", err)
			}
		}
		return &fleet.HostSystem{Err: &fleet.SystemError{Text: "no system"}}
	})
	c := w.commit("first")
	waits = true
	w.run(plan.Request{}, history.OutcomePartial)
	if planned == nil || planned.Snapshot.Commit == c {
		t.Fatalf("nothing newer was planned: %+v", planned)
	}
	w.wantState("plain", history.Current, c)

	w.run(plan.Request{}, history.OutcomePartial)
	w.wantState("plain", history.Current, planned.Snapshot.Commit)
}

// A plan of what is not to be deployed has its systems made aside, so that no run waits for them.
func TestPlanOfMakesSystemsAside(t *testing.T) {
	w := newWorld(t, "plain")
	w.nixosHosts("nix")
	w.systemsOf(func(string) *fleet.HostSystem {
		t.Error("the systems of a plan wait in the line of runs")
		return &fleet.HostSystem{Err: &fleet.SystemError{Text: "no system"}}
	})
	asked := false
	w.d.Loader.SystemsAside = func(context.Context, fs.FS, string, []*fleet.Host) map[string]*fleet.HostSystem {
		asked = true
		return map[string]*fleet.HostSystem{"nix": {Err: &fleet.SystemError{Text: "no system"}}}
	}
	w.commit("first")
	if _, err := w.d.PlanOf(t.Context(), plan.Request{}, w.commits[0]); err != nil || !asked {
		t.Errorf("PlanOf: %v; asked aside: %v", err, asked)
	}
}
