package deploy_test

import (
	"context"
	"errors"
	"testing"

	"bellhop/deploy/commits"
	"bellhop/deploy/plan"
	"bellhop/internal/history"
)

// A host may be called pollux: what a run does follows from its trigger, not from the words of
// its cause.
func TestTriggerDecidesNotTheCause(t *testing.T) {
	w := newWorld(t, "pollux")
	w.push("first", history.OutcomeDone)

	for _, c := range []struct {
		req    plan.Request
		stored bool
	}{
		{plan.Request{Cause: "pollux is back"}, true},
		{plan.Request{Cause: "poll"}, true},
		{plan.Request{Cause: "poll", Trigger: plan.TriggerClock}, false},
		{plan.Request{Cause: "push (looked again)", Trigger: plan.TriggerClock}, false},
	} {
		r := w.run(c.req, history.OutcomeNothing)
		if _, err := w.db.Run(t.Context(), r.ID); errors.Is(err, history.ErrNoRun) == c.stored {
			t.Errorf("a run that found nothing, %+v: stored %v, want %v", c.req, !c.stored, c.stored)
		}
	}
}

// The first look that can read the repo again is a run that people hear of, also when it finds nothing new: they heard
// that the repo could not be read. The one after it is none.
func TestReadableAgainIsARun(t *testing.T) {
	w := newWorld(t, "a")
	w.push("first", history.OutcomeDone)
	sync := w.d.Source.Sync
	w.d.Source.Sync = func(context.Context) (commits.Snapshot, error) {
		return commits.Snapshot{}, errors.New("no route to the remote")
	}
	poll := plan.Request{Cause: "poll", Trigger: plan.TriggerClock}
	for range 2 {
		if _, err := w.d.Run(t.Context(), poll); err == nil {
			t.Fatal("a look at a repo that can't be read is no error")
		}
	}

	w.d.Source.Sync = sync
	for i, want := range []bool{true, false} {
		r := w.run(poll, history.OutcomeNothing)
		if _, err := w.db.Run(t.Context(), r.ID); errors.Is(err, history.ErrNoRun) == want {
			t.Errorf("good look %d: %v, stored should be %v", i+1, err, want)
		}
	}
}
