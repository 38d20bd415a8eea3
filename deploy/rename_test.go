package deploy_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"bellhop/deploy/follow"
	"bellhop/deploy/plan"
	"bellhop/internal/history"
	"bellhop/internal/history/stops"
)

// rename gives host a the name z in the repo, with the services that it has.
func (w *world) rename(services ...string) {
	w.t.Helper()
	w.hosts["z"], w.machines["z"] = w.hosts["a"], w.machines["a"]
	delete(w.yaml, "a")
	w.enable("z", services...)
}

// A renamed host has the keys of what it holds after a reboot, also where those come from a commit that knows the
// host by its former name.
func TestKeysOfARenamedHostAfterAReboot(t *testing.T) {
	w := newWorld(t, "a")
	keyed(w, "a", 1, 5)
	w.enable("a", "web", "vault")
	versions(w, "one\n", "two\n")
	w.back("", "", history.OutcomeDone)
	w.rename("web", "vault")
	w.push("rename", history.OutcomeRefused) // it is held, as it says itself
	w.must(w.machines["z"].Reboot())

	all, err := w.d.Keys().Push(t.Context(), "z")
	w.must(err)
	if len(all) != 1 || all[0].Error != nil || !exists(w.machines["z"].Path("/run/keys/key0")) {
		t.Errorf("keys of z after a reboot: %+v: %s", all, text(all[0].Error))
	}
}

// What failed on a host is not tried again because the host gets another name. That is known once the host was
// heard, and the run after that says how it failed.
func TestARenamedHostKeepsItsFailures(t *testing.T) {
	w := newWorld(t, "a")
	w.push("first", history.OutcomeDone)
	breaks(w, "web")
	w.push("second", history.OutcomeFailed)
	w.wantState("a", history.RolledBack, w.commits[0].Commit)
	tries := w.machines["a"].Starts("web.service")

	w.rename("web")
	w.push("rename", history.OutcomeRefused)
	w.run(plan.Request{Cause: "push"}, history.OutcomeFailed)
	w.wantState("z", history.RolledBack, w.commits[0].Commit)
	if n := w.machines["z"].Starts("web.service") - tries; n != 0 {
		t.Errorf("web was started %d times more", n)
	}
	w.run(plan.Request{Cause: "deploy", By: "cadey", Retry: true}, history.OutcomeFailed)
	if n := w.machines["z"].Starts("web.service") - tries; n == 0 {
		t.Error("deploy --retry did not try it again")
	}
}

// A held-back service of a renamed host stays what it was: its bytes are in a commit that has the former name.
func TestAServiceThatIsHeldBackOnARenamedHost(t *testing.T) {
	w := newWorld(t, "a")
	w.service("bad", map[string]string{"files/etc/bad.conf": "one\n"})
	w.enable("a", "web", "bad")
	w.push("first", history.OutcomeDone)
	breaks(w, "bad")
	w.files["services/web/files/etc/web.conf"] = "two\n"
	w.push("second", history.OutcomePartial)
	w.rename("web", "bad")
	w.push("rename", history.OutcomeRefused)

	w.files["services/web/files/etc/web.conf"] = "three\n"
	w.push("third", history.OutcomePartial)
	if h := w.state("z"); h.State != history.HeldBack || !strings.Contains(text(h.Error), "service bad stays") || holds(w, "z", "web") != "three\n" {
		t.Errorf("z is %s (%s), and web holds %q", h.State, text(h.Error), holds(w, "z", "web"))
	}
}

// A host that got two names one after the other, and could be pushed under none of them, is what it was under the
// first: it is held still.
func TestAHostThatGotTwoNames(t *testing.T) {
	w := newWorld(t, "a")
	versions(w, "one\n", "two\n")
	w.back("", "", history.OutcomeDone)
	w.rename("web")
	w.push("rename", history.OutcomeRefused) // it is held, as it says itself

	w.hosts["y"], w.machines["y"] = w.hosts["a"], w.machines["a"]
	delete(w.yaml, "z")
	w.enable("y", "web")
	w.push("rename again", history.OutcomeRefused)
	if r := w.push("more", history.OutcomeNothing); len(r.Hosts) > 0 && r.Hosts[0].Outcome != nil && *r.Hosts[0].Outcome == history.OutcomeDone {
		t.Error("the rollback was overwritten")
	}
	w.wantState("y", history.Held, w.commits[0].Commit)
}

// A host that got another name and was made anew, with the host key that it had, says nothing of its former name: it
// is held still, and gets what it was brought back to.
func TestAHoldOfARenamedHostThatWasMadeAnew(t *testing.T) {
	w := newWorld(t, "a")
	versions(w, "one\n", "two\n")
	w.back("", "", history.OutcomeDone)
	w.must(os.RemoveAll(w.machines["a"].Path("/var/lib/bellhop")), os.RemoveAll(w.machines["a"].Path("/etc/web.conf")))
	w.rename("web")
	w.push("rename", history.OutcomeRefused)

	w.run(plan.Request{Cause: "push"}, history.OutcomeDone)
	if got := holds(w, "z", "web"); got != "one\n" {
		t.Errorf("web of z holds %q, want what it was brought back to", got)
	}
	w.wantState("z", history.Held, w.commits[0].Commit)
}

// A run that comes to a host under a name which left the repo meanwhile begins nothing there, and takes nothing from
// the name that the machine has now.
func TestAnOlderRunOfAFormerName(t *testing.T) {
	for _, step := range []string{"connect", "begin"} {
		t.Run(step, func(t *testing.T) {
			w := newWorld(t, "a")
			w.push("first", history.OutcomeDone)
			w.change("second")
			w.when("a", step, func() {
				w.must(w.db.Plan(t.Context(), history.Start{ID: "newer", Commit: "c", At: time.Now()}, "c", nil, []string{"a"}))
			})
			outcome := history.OutcomeRefused
			if step == "begin" { // it is at work there, and ends
				outcome = history.OutcomeDone
			}
			w.push("second", outcome)
			if h := w.state("a"); h.State != history.Released {
				t.Errorf("a is %s (%s), want released", h.State, text(h.Error))
			}
			if got, isNew := holds(w, "a", "web"), step == "begin"; (got == "second\n") != isNew {
				t.Errorf("web of a holds %q", got)
			}
		})
	}
}

// A run that comes to a machine under its former name, when history has given all that is known of it to the new one,
// takes nothing back: no run would correct that until the list of hosts changes.
func TestAnOlderRunOfAHostThatHasAnotherName(t *testing.T) {
	w := newWorld(t, "a")
	w.push("first", history.OutcomeDone)
	w.change("second")
	w.when("a", "connect", func() {
		start := history.Start{ID: "newer", Commit: "c", At: time.Now()}
		w.must(w.db.Plan(t.Context(), start, "c", []history.Planned{{Name: "z", State: history.Behind, Wanted: "d"}}, []string{"a"}))
		w.must(w.db.Rename(t.Context(), "a", "z"))
	})
	w.push("second", history.OutcomeRefused)

	if h, isKnown := w.db.Host("a"); isKnown {
		t.Errorf("a is known again, as %s", h.State)
	}
	if h, _ := w.db.Host("z"); !h.Had || h.Digest == "" {
		t.Errorf("z lost what it holds: %+v", h)
	}
	if got := holds(w, "a", "web"); got == "second\n" {
		t.Error("the machine got what its former name was to have")
	}
}

// A renamed host that no run came to, since one was stopped before it and it was away then, has its keys after a
// reboot: what it holds is known by its host key.
func TestKeysOfARenamedHostThatNoRunCameTo(t *testing.T) {
	w := newWorld(t, "a", "b")
	w.top = "isolate: false\nrollout: { waves: [1] }\n"
	keyed(w, "a", 2, 5)
	b, _ := serve(t, w)
	w.commit("first")
	follow := func() { _, _ = b.Follow(t.Context(), b.Ring("push"), func(follow.Event) {}) }
	follow()

	w.hosts["a"].Cut()
	breaks(w, "web")
	w.rename("web") // which has no keys
	w.commit("rename, with a bad service")
	follow()
	if s := w.state("z"); s.State != history.Never || !strings.HasPrefix(text(s.Error), "stopped: ") {
		t.Fatalf("z is %s (%s), want one that a stopped run did not come to", s.State, text(s.Error))
	}

	w.must(w.machines["a"].Reboot())
	w.hosts["a"].Mend()
	wantKeys(t, w)
}

// A hold goes along with a host that gets two names one after the other, and its bundle is made again of a commit that
// has neither, also where a person asks for all hosts.
func TestAHoldUnderTwoNames(t *testing.T) {
	w := newWorld(t, "a")
	versions(w, "one\n", "two\n")
	w.rename("web")
	w.push("rename", history.OutcomeNothing)
	w.back("z", "", history.OutcomeDone)
	w.hosts["y"], w.machines["y"] = w.hosts["a"], w.machines["a"]
	delete(w.yaml, "z")
	w.enable("y", "web")
	w.push("rename again", history.OutcomeRefused) // it is held, as it says itself

	w.must(os.WriteFile(w.machines["a"].Path("/etc/web.conf"), []byte("by hand\n"), 0o644))
	w.run(plan.Request{Cause: "deploy", By: "cadey", All: true}, history.OutcomeDone)
	w.wantState("y", history.Held, w.commits[0].Commit)
	if got := holds(w, "y", "web"); got != "one\n" {
		t.Errorf("web of y holds %q, want what it is held to", got)
	}
}

// A deployer that has planned nothing yet, and puts keys back on a host under its new name, takes nothing of the host's
// past from it: it is held still.
func TestKeysOfARenamedHostBeforeAnyRun(t *testing.T) {
	w := newWorld(t, "a")
	keyed(w, "a", 1, 5)
	w.enable("a", "web", "vault")
	versions(w, "one\n", "two\n")
	w.back("", "", history.OutcomeDone)
	w.hosts["a"].Cut()
	w.rename("web", "vault")
	w.push("rename", history.OutcomeFailed) // it is away
	w.wantState("z", history.Pending, "")
	w.hosts["a"].Mend()
	w.must(w.machines["a"].Reboot())

	w.d = w.deployer("SHA256:one")
	w.pause(stops.Pause{By: "cadey", Since: time.Now()})
	serve(t, w) // its line heals the host: no plan is made
	eventually(t, "the key is back", func() bool { return exists(w.machines["a"].Path("/run/keys/key0")) })
	if w.db.Holds().Of("z") == nil {
		t.Errorf("z is held no longer: %+v", w.state("z"))
	}
}
