package forge

import (
	"encoding/json"
	"testing"

	"bellhop/internal/forge/fakeforge"
	"bellhop/internal/history"
	"bellhop/internal/history/outbox"
)

// After a request is merged, the status says whether what was deployed is what its comment said; and it stays so.
func TestStatusSaysWhetherItWasPlanned(t *testing.T) {
	for digest, want := range map[string]string{"d1": "1 of 1 host changed; as planned in #7", "d2": "1 of 1 host changed; not as planned in #7", "": "1 of 1 host changed"} {
		w := newWorld(t, "github")
		text, err := json.Marshal(planned{Head: commitB, Digest: "d1"})
		w.must(err, w.db.Outgoing().SetMark(t.Context(), plansMark(w.r.Client), outbox.Mark{Told: map[string]string{"7": string(text)}}))
		w.forge.Open(7, fakeforge.Request{Head: commitB, Branch: "topic", Merged: commitA})
		w.r.Deployed = func(string) string { return digest }

		w.plan("r1", commitA, "web")
		w.end("r1", commitA, "web", history.OutcomeDone)
		w.finish("r1", commitA, "", "")
		if got := w.forge.Last(commitA).Description; got != want {
			t.Errorf("digest %q: the status says %q, want %q", digest, got, want)
		}

		w.start() // a later process does not know the plan any more
		before := w.forge.Requests()
		w.round()
		if got := w.forge.Last(commitA).Description; got != want || w.forge.Requests() != before {
			t.Errorf("digest %q: after a restart the status says %q, want %q", digest, got, want)
		}
		if faults := w.forge.Faults(); len(faults) > 0 {
			t.Errorf("the forge refused %q", faults)
		}
	}
}

// A deployer that ends while it deploys leaves the digest of its plan to the one that takes over.
func TestPlanIsKnownAfterARestart(t *testing.T) {
	for _, isLate := range []bool{false, true} { // the first status may be sent before the digest is known
		w := newWorld(t, "github")
		text, err := json.Marshal(planned{Head: commitB, Digest: "d1"})
		w.must(err, w.db.Outgoing().SetMark(t.Context(), plansMark(w.r.Client), outbox.Mark{Told: map[string]string{"7": string(text)}}))
		w.forge.Open(7, fakeforge.Request{Head: commitB, Branch: "topic", Merged: commitA})

		w.plan("r1", commitA, "web")
		if isLate {
			w.round()
		}
		w.r.Deployed = func(string) string { return "d1" }
		w.round()
		if n := len(w.forge.Statuses()); n != 1 {
			t.Errorf("%d statuses while it deploys, want one", n)
		}

		w.start()
		w.r.Deployed = func(string) string { return "" }
		w.end("r1", commitA, "web", history.OutcomeDone)
		w.finish("r1", commitA, "", "")
		if got, want := w.forge.Last(commitA).Description, "1 of 1 host changed; as planned in #7"; got != want {
			t.Errorf("the status says %q, want %q", got, want)
		}
	}
}

// Each forge says which request brought a commit.
func TestMerged(t *testing.T) {
	for _, kind := range []Kind{GitHub, Forgejo, Gitea, GitLab} {
		d := newDesk(t, kind)
		d.forge.Open(7, fakeforge.Request{Head: commitB, Branch: "topic", Merged: commitA})
		if got, err := d.Client.Merged(t.Context(), commitA); err != nil || len(got) != 1 || got[0] != 7 {
			t.Errorf("%s: Merged = %v, %v, want request 7", kind, got, err)
		}
		if got, err := d.Client.Merged(t.Context(), commitB); err != nil || len(got) != 0 {
			t.Errorf("%s: Merged of a commit that was pushed = %v, %v, want none", kind, got, err)
		}
	}
}
