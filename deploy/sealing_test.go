package deploy_test

import (
	"bytes"
	"strings"
	"testing"

	"bellhop/deploy"
	"bellhop/internal/history"
)

// A host whose systemd can't seal is told in the plan, by key, and not contacted; one that was
// never met is refused by its own word.
func TestTooOldASystemdToSeal(t *testing.T) {
	w := newWorld(t, "a")
	w.machines["a"].SetVersion(249)
	keyed(w, "a", 1, 5)
	w.push("not sealed", history.RunDone)
	before := w.sessions("a")
	w.files["services/vault/service.yaml"] = "keys:\n  key0: { source: secrets/key0.age, persist: sealed }\n"
	w.host("b", "vault")
	w.machines["b"].SetVersion(249)
	c := w.commit("sealed")

	p, err := w.d.Plan(t.Context(), deploy.Request{Cause: "plan"})
	w.must(err)
	var text bytes.Buffer
	w.must(w.d.WritePlan(t.Context(), &text, p))
	if !strings.Contains(text.String(), "a: refused: key key0: persist: sealed needs systemd 250, and the host had 249") {
		t.Errorf("the plan says:\n%s", text.String())
	}
	w.run(deploy.Request{Cause: "push"}, history.RunRefused)
	if got := w.sessions("a") - before; got != 0 {
		t.Errorf("a was contacted in %d sessions", got)
	}
	for _, name := range []string{"a", "b"} {
		h := w.state(name)
		if h.State != history.Refused || h.Error == nil || !strings.Contains(*h.Error, "key0") || !strings.Contains(*h.Error, "249") {
			t.Errorf("%s: %+v, want refused, naming key and version", name, h)
		}
	}
	if w.machines["b"].Starts("vault.service") != 0 {
		t.Error("b was touched")
	}

	for _, name := range []string{"a", "b"} {
		w.machines[name].SetVersion(252)
	}
	w.run(deploy.Request{Cause: "deploy", Retry: true}, history.RunDone)
	w.wantState("a", history.Current, c)
	w.wantState("b", history.Current, c)
}
