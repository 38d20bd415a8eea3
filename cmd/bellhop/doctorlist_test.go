package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"bellhop/internal/history"
)

// doctor ends with one line for each thing that is wrong, also where nobody knows a command for it.
func TestDoctorEndsWithAllThatIsToDo(t *testing.T) {
	var out bytes.Buffer
	e := &Env{Stdout: &out, Getenv: func(string) string { return "" }}
	away := doctorSync(history.Status{SyncError: &history.SyncError{Since: time.Unix(0, 0).UTC(), Error: "connection refused"}})
	err := tellSymptoms(e, []symptom{
		{what: "well", note: "all is"}, away, {what: "odd", err: errors.New("permission denied")},
		{what: "one day", warn: hint(errors.New("it may be lost"), "make a copy")},
	}, false)

	_, toDo, found := strings.Cut(out.String(), "\nWhat to do\n")
	want := []string{"1. server: is the git host up,", "2. odd: mend what is told above", "3. one day: make a copy"}
	lines := strings.Split(strings.TrimSpace(toDo), "\n")
	if !found || len(lines) != len(want) || err == nil {
		t.Fatalf("it ends as %v, with\n%s", err, out.String())
	}
	for i, line := range lines {
		if !strings.HasPrefix(line, want[i]) {
			t.Errorf("line %d is %q, want %q", i+1, line, want[i])
		}
	}
	if !strings.Contains(out.String(), "since 1970-01-01T00:00:00Z: connection refused") {
		t.Errorf("the cause is not told:\n%s", out.String())
	}
}
