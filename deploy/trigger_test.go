package deploy_test

import (
	"errors"
	"testing"

	"bellhop/deploy"
	"bellhop/internal/history"
)

// A host may be called pollux: what a run does follows from its trigger, not from the words of
// its cause.
func TestTriggerDecidesNotTheCause(t *testing.T) {
	w := newWorld(t, "pollux")
	w.push("first", history.OutcomeDone)

	for _, c := range []struct {
		req    deploy.Request
		stored bool
	}{
		{deploy.Request{Cause: "pollux is back"}, true},
		{deploy.Request{Cause: "poll"}, true},
		{deploy.Request{Cause: "poll", Trigger: deploy.TriggerClock}, false},
		{deploy.Request{Cause: "push (looked again)", Trigger: deploy.TriggerClock}, false},
	} {
		r := w.run(c.req, history.OutcomeNothing)
		if _, err := w.db.Run(t.Context(), r.ID); errors.Is(err, history.ErrNoRun) == c.stored {
			t.Errorf("a run that found nothing, %+v: stored %v, want %v", c.req, !c.stored, c.stored)
		}
	}
}
