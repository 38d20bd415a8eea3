package deploy_test

import (
	"slices"
	"strings"
	"testing"

	"bellhop/internal/history"
	"bellhop/internal/lab"
)

// A step that fails holds its service back, and nothing of that is stopped or started. The steps of the
// others run once, though the host is pushed twice.
func TestAStepThatFails(t *testing.T) {
	w := newWorld(t, "a")
	for _, name := range numbered(w, "a", 3, "one\n") {
		w.files["services/"+name+"/service.yaml"] = "before: { command: \"backup " + name + "\" }\n"
	}
	w.push("first", history.OutcomeDone)
	m := w.machines["a"]
	if ran := m.Ran(); len(ran) > 0 {
		t.Errorf("commands %q ran at the first install", ran)
	}

	numbered(w, "a", 3, "two\n")
	m.Script("backup s01", lab.Script{Exit: 1, Says: []string{"the disk is full"}})
	m.ClearLog()
	run := w.push("second", history.OutcomePartial)
	if got := []string{holds(w, "a", "s00"), holds(w, "a", "s01"), holds(w, "a", "s02")}; !slices.Equal(got, []string{"two\n", "one\n", "two\n"}) {
		t.Errorf("files %q, want that of s01 as it was", got)
	}
	ran := m.Ran()
	slices.Sort(ran)
	if !slices.Equal(ran, []string{"root: backup s00", "root: backup s01", "root: backup s02"}) {
		t.Errorf("commands %q, want each once", ran)
	}
	for _, e := range m.Log() {
		if e.Unit == "s01.service" {
			t.Errorf("%s of s01, which was to be left alone", e.Verb)
		}
	}
	h := run.Hosts[0]
	if *h.Outcome != history.OutcomeHeldBack || h.Error == nil || !strings.Contains(*h.Error, "step 1 before service s01 (backup s01): exit status 1") {
		t.Errorf("host: %s", w.tell(run))
	}
	if h := w.state("a"); h.State != history.HeldBack {
		t.Errorf("the host is %s, want held back", h.State)
	}

	// With its step mended and the service changed, all is well.
	m.Script("backup s01", lab.Script{})
	numbered(w, "a", 3, "three\n")
	third := w.push("third", history.OutcomeDone)
	w.wantState("a", history.Current, *third.Commit)
}

// With nothing else to bring the host stays as it is.
func TestTheOnlyStepFails(t *testing.T) {
	w := newWorld(t, "a")
	numbered(w, "a", 1, "one\n")
	w.files["services/s00/service.yaml"] = "before: { command: backup }\n"
	w.push("first", history.OutcomeDone)
	numbered(w, "a", 1, "two\n")
	w.machines["a"].Script("backup", lab.Script{Exit: 1})
	sessions := w.sessions("a")
	run := w.push("second", history.OutcomeFailed)
	if got := w.sessions("a") - sessions; got != 1 || holds(w, "a", "s00") != "one\n" {
		t.Errorf("%d sessions, s00.conf %q: %s", got, holds(w, "a", "s00"), w.tell(run))
	}
}
