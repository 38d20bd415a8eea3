package deploy_test

import (
	"slices"
	"strings"
	"testing"

	"bellhop/internal/bundle"
	"bellhop/internal/history"
	"bellhop/internal/host/machine"
	"bellhop/internal/mask"
)

// What a host saw of a failure is kept with its result, without values of keys: not even where one goes
// over several lines of a log.
func TestEvidenceIsKept(t *testing.T) {
	const canary = "canary-4f2b-a value-of-a-key-that-is-long-9c1d"
	w := newWorld(t, "a")
	keyed(w, "a", 1, 5)
	w.files["secrets/key0.age"] = canary
	w.d.Filter = mask.Of
	w.push("first", history.OutcomeDone)

	m := w.machines["a"]
	m.Fail("web.service")
	m.Say("web.service", "it begins", "in one line "+canary, "panic: no port")
	w.enable("a", "web", "vault")
	w.change("bad")
	r := w.push("second", history.OutcomeFailed)

	evidence := r.Hosts[0].Evidence
	if len(evidence) == 0 {
		t.Fatalf("the run keeps no evidence: %s", w.tell(r))
	}
	e := evidence[0]
	if deref(e.Unit) != "web.service" || deref(e.Service) != "web" || e.Probe != nil || deref(e.Result) == "" {
		t.Errorf("evidence of %s, %s: %+v", deref(e.Service), deref(e.Unit), e)
	}
	if n := len(e.Lines); n == 0 || e.Lines[n-1] != "panic: no port" || !slices.Contains(e.Lines, "it begins") {
		t.Errorf("lines %q, want what the unit wrote, to its end", e.Lines)
	}
	for _, line := range e.Lines {
		if strings.Contains(line, canary[:20]) || strings.Contains(line, canary[20:]) {
			t.Errorf("a line has the value of a key, or a part of it: %q", line)
		}
	}

	m.Say("web.service", "it begins", canary[:20], canary[20:], "panic: no port")
	w.change("bad again")
	spread := w.push("third", history.OutcomeFailed).Hosts[0].Evidence
	if said := strings.Join(spread[0].Lines, "\n"); said == "" || strings.Contains(said, canary[:20]) || strings.Contains(said, canary[20:]) {
		t.Errorf("of a value over two lines is kept: %q", said)
	}

	again, err := w.db.Run(t.Context(), r.ID)
	w.must(err)
	if len(again.Hosts[0].Evidence) != len(evidence) {
		t.Errorf("history has %d pieces of evidence, the run had %d", len(again.Hosts[0].Evidence), len(evidence))
	}
}

// A probe that is not answered well is told with its answer.
func TestEvidenceOfAProbe(t *testing.T) {
	w := newWorld(t, "a")
	w.service("web", map[string]string{"service.yaml": "health:\n  - { tcp: \"127.0.0.1:80\", grace: 0s, interval: 100ms }\n"})
	w.push("first", history.OutcomeDone)

	probe := bundle.Probe{TCP: "127.0.0.1:80"}
	w.machines["a"].Answer(probe.Name(), machine.Answer{Wrong: "connection refused"})
	w.change("bad")
	r := w.push("second", history.OutcomeFailed)
	if len(r.Hosts[0].Evidence) == 0 {
		t.Fatalf("the run keeps no evidence: %s", w.tell(r))
	}
	if e := r.Hosts[0].Evidence[0]; deref(e.Probe) != probe.Name() || !strings.Contains(deref(e.Result), "refused") || e.Unit != nil {
		t.Errorf("evidence %+v, want the probe and what was wrong", e)
	}
}
