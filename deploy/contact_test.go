package deploy_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"bellhop/deploy/plan"
	"bellhop/internal/bundle"
	"bellhop/internal/history"
)

// A bundle that failed is not tried again by deploy --all, but its host is asked what it holds: it may have
// been restored from a backup meanwhile.
func TestAllAsksHostsThatAreLeftAlone(t *testing.T) {
	w := newWorld(t, "a", "b")
	w.top = atOnce
	w.push("first", history.OutcomeDone)
	w.change("two")
	w.push("second", history.OutcomeDone)
	breaks(w, "web")
	w.push("third", history.OutcomeFailed)
	w.wantState("a", history.RolledBack, w.commits[1].Commit)
	other := w.deployer("SHA256:two") // that has a on its own list
	other.History = historyOf(t)
	if _, err := other.Run(t.Context(), plan.Request{Cause: "deploy", On: "a", TakeOver: true}); err != nil {
		t.Fatal(err)
	}

	starts := w.machines["a"].Count("restart", "web.service")
	opened := sessionsOf(w, func() { w.run(plan.Request{Cause: "deploy", All: true, On: "a"}, history.OutcomeFailed) }, "a", "b")
	if opened[0] != 1 || opened[1] != 0 {
		t.Errorf("deploy --all on a opened the sessions %v, want one, there", opened)
	}
	if n := w.machines["a"].Count("restart", "web.service"); n != starts {
		t.Errorf("web was started %d times more", n-starts)
	}
	if h, _ := w.db.Host("a"); h.Generation != recordOf(w, "a").Generation {
		t.Errorf("history has generation %d of a, which holds %d", h.Generation, recordOf(w, "a").Generation)
	}

	opened = sessionsOf(w, func() { w.run(plan.Request{Cause: "push"}, history.OutcomeFailed) }, "a", "b")
	if opened[0]+opened[1] != 0 {
		t.Errorf("a push that changed nothing opened the sessions %v", opened)
	}
}

// loses has a push of the newest commit go on at a, while its deployer dies and the host is away after it.
func (w *world) loses(t *testing.T, ended func() bool) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	w.d.Limits.Retry = time.Minute // nobody looks for the run before the deployer is gone
	begun := func() bool {
		is := ended() || exists(w.machines["a"].Path("/var/lib/bellhop/journal"))
		if is {
			cancel()
		}
		return is
	}
	w.d.Links = &cutter{Links: w.d.Links, when: after(bundle.FrameData), arrived: begun}
	w.d.Run(ctx, plan.Request{Cause: "push"})
	eventually(t, "the host goes on by itself", ended)
	w.hosts["a"].Cut()
	w.d = w.deployer(w.d.ID)
	w.run(plan.Request{Cause: "start"}, history.OutcomeFailed)
	w.must(w.hosts["a"].Mend())
}

// What came of a push whose end was not heard is taken as the result of the next push of the same bundle: it
// failed, and is not tried again.
func TestAPushThatWasLostAndFailed(t *testing.T) {
	w := newWorld(t, "a")
	w.push("first", history.OutcomeDone)
	breaks(w, "web")
	w.commit("second")
	tries := func() int { return w.machines["a"].Starts("web.service") }
	first := tries()
	w.loses(t, func() bool {
		return tries() > first && holds(w, "a", "web") == "hello\n" && !exists(w.machines["a"].Path("/var/lib/bellhop/journal"))
	})

	before := tries()
	w.run(plan.Request{Cause: "push"}, history.OutcomeFailed)
	w.wantState("a", history.RolledBack, w.commits[0].Commit)
	if n := tries() - before; n != 0 {
		t.Errorf("web was started %d times more", n)
	}
}

// The same on a host that is left alone since then: the next run asks it what it holds.
func TestAPushThatWasLostOnAHostThatIsLeftAlone(t *testing.T) {
	w := newWorld(t, "a")
	w.service("db", nil)
	w.service("app", nil)
	w.enable("a", "web", "db", "app")
	w.push("first", history.OutcomeDone)
	w.change("two")
	w.commit("second")
	w.loses(t, func() bool { return holds(w, "a", "web") == "two\n" && recordOf(w, "a").Generation == 2 })

	w.enable("a") // refused by the prune guard
	opened := sessionsOf(w, func() { w.push("third", history.OutcomeRefused) }, "a")
	if opened[0] != 1 {
		t.Errorf("%d sessions on a host whose push was lost, want 1", opened[0])
	}
	if h, _ := w.db.Host("a"); h.Generation != 2 || h.Digest != recordOf(w, "a").Digest || h.State != history.Refused {
		t.Errorf("history has %s, generation %d, digest %.8s", h.State, h.Generation, h.Digest)
	}
	if opened := sessionsOf(w, func() { w.run(plan.Request{Cause: "push"}, history.OutcomeRefused) }, "a"); opened[0] != 0 {
		t.Errorf("it was asked %d times more", opened[0])
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func historyOf(t *testing.T) *history.DB {
	db, err := history.Open(filepath.Join(t.TempDir(), "two.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// How far the clock of a host is off is known of its hello: no contact is made for it.
func TestClocksAreKnownOfHellos(t *testing.T) {
	w := newWorld(t, "a", "b")
	if got := w.d.Ahead(); len(got) != 0 {
		t.Errorf("before the first contact: %v", got)
	}
	w.push("first", history.OutcomeDone)
	before := w.sessions("a")
	got := w.d.Ahead()
	if a, ok := got["a"]; !ok || a.Abs() > time.Hour || len(got) != 2 {
		t.Errorf("Ahead = %v, want both hosts, on one machine with this test", got)
	}
	if w.sessions("a") != before {
		t.Error("the host was asked")
	}
}
