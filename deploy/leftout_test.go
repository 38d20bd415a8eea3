package deploy_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"bellhop/deploy/plan"
	"bellhop/internal/history"
	"bellhop/internal/link"
)

// A host on which a service is held back is behind a commit that changes another one, where a run leaves it out: it is
// not asked for, the run stops before it, or it is cancelled.
func TestAHeldBackHostThatARunLeavesOut(t *testing.T) {
	newHeldBack := func(t *testing.T) *world {
		w := newWorld(t, "a", "b")
		w.service("bad", map[string]string{"files/etc/bad.conf": "one\n"})
		w.enable("b", "web", "bad")
		w.push("first", history.OutcomeDone)
		breaks(w, "bad")
		w.change("two")
		w.push("second", history.OutcomePartial)
		if s := w.state("b").State; s != history.HeldBack {
			t.Fatalf("b is %s", s)
		}
		return w
	}

	t.Run("not asked for", func(t *testing.T) {
		w := newHeldBack(t)
		w.change("three")
		w.commit("third")
		w.run(plan.Request{Cause: "deploy", By: "cadey", On: "a"}, history.OutcomeDone)
		if h := w.state("b"); h.State != history.Behind {
			t.Errorf("b is %s (%s)", h.State, text(h.Error))
		}
	})
	t.Run("the run stops before it", func(t *testing.T) {
		w := newHeldBack(t)
		breaks(w, "web")
		w.push("third", history.OutcomeFailed)
		if h := w.state("b"); h.State != history.Behind {
			t.Errorf("b is %s (%s)", h.State, text(h.Error))
		}
		w.run(plan.Request{Cause: "push"}, history.OutcomeFailed)
		if h := w.state("b"); h.State != history.Behind {
			t.Errorf("after another run b is %s (%s)", h.State, text(h.Error))
		}
	})
	t.Run("a rollback is cancelled before it", func(t *testing.T) {
		w := newHeldBack(t)
		was := w.state("b")
		hold := w.slowly("a", time.Minute)
		var cancel func()
		w.when("a", "connect", func() { cancel() })
		bell, stop := serve(t, w)
		cancel = func() {
			if c, ok := bell.Cancel("ann"); !ok || !slices.Equal(c.Left, []string{"b"}) {
				t.Errorf("Cancel = %+v, %v", c, ok)
			}
			close(hold)
		}

		ended := func(runs int) bool {
			h, err := w.db.Runs(t.Context(), 50)
			return err == nil && len(h.Runs) == runs && h.Runs[0].FinishedAt != nil
		}
		eventually(t, "the run of the start is over", func() bool { return ended(3) })
		bell.Do(plan.Request{Cause: "rollback", By: "cadey", Rollback: &plan.Rollback{}})
		eventually(t, "the rollback is over", func() bool { return ended(4) })
		stop()

		h := w.state("b")
		if h.State != history.HeldBack || text(h.Error) != text(was.Error)+"\nthe rollback was cancelled by ann" {
			t.Errorf("b is %s (%s), and was held-back (%s)", h.State, text(h.Error), text(was.Error))
		}
	})
}

// A host leaves the repo while the end of a run there is not known. When bellhop begins, and can't ask it, the
// run is over: no other run would ask.
func TestAnOpenRunOnAHostThatLeft(t *testing.T) {
	w := confirmed(t, "3s", "a", "b")
	ctx, die := context.WithCancel(t.Context())
	w.when("b", "files", die)
	w.change("new")
	w.commit("second")
	second, _ := w.d.Run(ctx, plan.Request{Cause: "push"})

	outcome := func() history.Outcome {
		r, err := w.db.Run(t.Context(), second.ID)
		w.must(err)
		i := slices.IndexFunc(r.Hosts, func(res history.RunResult) bool { return res.Name == "b" })
		return deref(r.Hosts[i].Outcome)
	}
	restart := func() {
		w.d = w.deployer(w.d.ID)
		w.d.Links = scripted{Links: w.d.Links, name: "b", err: &link.Error{Host: "b", Kind: link.ErrUnreachable, Err: errors.New("no answer")}}
		w.must(w.d.Settle(t.Context()))
	}
	restart()
	if got := outcome(); got != "" {
		t.Errorf("a host of the repo that could not be asked yet is %s", got)
	}

	delete(w.yaml, "b")
	w.push("without b", history.OutcomeNothing)
	restart()
	if got := outcome(); got != history.OutcomeUnknown {
		t.Errorf("the run on a host that left is %q, want it unknown", got)
	}
}
