package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"bellhop/internal/history"
	"bellhop/internal/history/results"
)

// A run that failed ends with one line for each cause, and the verb that shows the rest; that verb shows
// all that the hosts saw.
func TestEvidenceIsShown(t *testing.T) {
	ptr := func(s string) *string { return &s }
	rolledBack, failed := history.OutcomeRolledBack, history.OutcomeFailed
	unit := results.Evidence{Service: ptr("web"), Unit: ptr("web.service"), Result: ptr("exit-code"), Exit: 3, Lines: []string{"starting", "panic: no port", ""}}
	probe := results.Evidence{Service: ptr("web"), Probe: ptr("http http://127.0.0.1/"), Result: ptr("status 500, want 200"), Exit: 500, Lines: []string{"oops"}}
	run := history.Run{ID: "r-1", Outcome: &failed, Hosts: []history.RunResult{
		{Name: "a", Outcome: &rolledBack, Error: ptr("unit web.service failed"), Evidence: []results.Evidence{unit, probe}},
		{Name: "b", Outcome: &rolledBack, Error: ptr("unit web.service failed"), Evidence: []results.Evidence{unit}},
	}}

	var short, long bytes.Buffer
	h := history.History{Runs: []history.Run{run}}
	printHistory(&short, paint(false), h, false, time.Now())
	if want := "  a, b: web.service: panic: no port\n  more of it: bellhop history r-1 --evidence\n"; !strings.HasSuffix(short.String(), want) {
		t.Errorf("history ends with:\n%s\nwant:\n%s", short.String(), want)
	}
	printHistory(&long, paint(false), h, true, time.Now())
	want := `  a: unit web.service of web: exit-code, exit 3
    starting
    panic: no port
    
  a: probe http http://127.0.0.1/ of web: status 500, want 200
    oops
  b: unit web.service of web: exit-code, exit 3
`
	if !strings.Contains(long.String(), want) || strings.Contains(long.String(), "more of it") {
		t.Errorf("history --evidence prints:\n%s\nwant in it:\n%s", long.String(), want)
	}
}
