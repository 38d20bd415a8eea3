package deploy_test

import (
	"testing"

	"bellhop/deploy/plan"
	"bellhop/internal/history"
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
}
