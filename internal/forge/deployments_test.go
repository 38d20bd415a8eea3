package forge

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"bellhop/internal/forge/fakeforge"
	"bellhop/internal/history"
)

func (w *world) wantDeployment(i int, want fakeforge.Deployment) {
	w.t.Helper()
	all := w.forge.Deployments()
	if i >= len(all) {
		w.t.Fatalf("%d deployments, want number %d; faults: %q", len(all), i, w.forge.Faults())
	}
	got := all[i]
	isSame := got.Ref == want.Ref && got.Environment == "hexagone" && got.Payload == want.Payload && slices.Equal(got.States, want.States) && got.Text == want.Text
	if !isSame {
		w.t.Errorf("deployment %d is %+v, want %+v", i, got, want)
	}
}

// Each run that changes something is a deployment, which ends as what came of it.
func TestDeployments(t *testing.T) {
	w := newWorld(t, "github")
	w.plan("r1", commitA, "chrysalis", "web")
	w.wantDeployment(0, fakeforge.Deployment{Ref: commitA, Payload: `{"run":"r1"}`, States: []string{"in_progress"}, Text: "deploying to 2 hosts"})
	w.end("r1", commitA, "chrysalis", history.OutcomeDone)
	w.end("r1", commitA, "web", history.OutcomeDone)
	w.finish("r1", commitA, "", "")
	w.wantDeployment(0, fakeforge.Deployment{Ref: commitA, Payload: `{"run":"r1"}`, States: []string{"in_progress", "success"}, Text: "2 of 2 hosts changed"})
	if got := w.forge.Deployments()[0].LogURL; got != "https://b.example.org/runs/r1" {
		t.Errorf("the log is at %q, want the page of the run", got)
	}

	w.finish("r2", commitA, history.OutcomeNothing, "") // a run that changes nothing is none
	w.plan("r3", commitB, "web")
	w.end("r3", commitB, "web", history.OutcomeRolledBack)
	w.finish("r3", commitB, "", "")
	if n := len(w.forge.Deployments()); n != 2 {
		t.Fatalf("%d deployments, want one for each run that changes something", n)
	}
	w.wantDeployment(1, fakeforge.Deployment{Ref: commitB, Payload: `{"run":"r3"}`, States: []string{"in_progress", "failure"},
		Text: "web rolled-back: web.service failed: exit code 1; 0 of 1 host hold it"})

	before := w.forge.Requests()
	w.round()
	if n := w.forge.Requests() - before; n > 0 {
		t.Errorf("%d requests though nothing happened", n)
	}
	w.wantLast(commitA, "success", "")
	w.wantLast(commitB, "failure", "")
}

// A token that may set statuses and make no deployments sets statuses, at once.
func TestTokenWithoutDeployments(t *testing.T) {
	for _, code := range []int{403, 404, 502} {
		w := newWorld(t, "github")
		asked := 0
		w.forge.Answer = func(r *http.Request) int {
			if strings.Contains(r.URL.Path, "/deployments") {
				asked++
				return code
			}
			return 0
		}
		w.r.Troubles = &Troubles{}
		w.plan("r1", commitA, "web")
		if now := w.r.Troubles.Now(); len(now) != 1 || now[0].What != "deployments" {
			t.Errorf("%d: troubles are %+v, want the deployments", code, now)
		}
		w.end("r1", commitA, "web", history.OutcomeDone)
		w.finish("r1", commitA, "", "")
		w.plan("r2", commitB, "web")
		w.end("r2", commitB, "web", history.OutcomeDone)
		w.finish("r2", commitB, "", "")
		w.wantLast(commitA, "success", "1 of 1 host changed")
		w.wantLast(commitB, "success", "1 of 1 host changed")
		if asked != 1 {
			t.Errorf("%d: %d requests for deployments, want one, and then none for a while", code, asked)
		}
	}
}
