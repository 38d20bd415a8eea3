package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bellhop/internal/history"
)

// What history knows for people comes over the socket as it is in the file.
func TestToldOverTheSocket(t *testing.T) {
	h := history.History{V: history.Version, Runs: []history.Run{{ID: "r", By: "cadey", Error: "e", Notes: []string{"rewritten"},
		Hosts: []history.RunResult{{Name: "a", Changed: []string{}}, {Name: "b", Changed: []string{}, Notes: []string{"stays on the host: user x"}}}}}}
	p, err := json.Marshal(tellable(h))
	if err != nil {
		t.Fatal(err)
	}
	var got historyAnswer
	if err := json.Unmarshal(p, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(h, got.history()); diff != "" {
		t.Errorf("history over the socket (-want +got):\n%s", diff)
	}
	var out bytes.Buffer
	printHistory(&out, paint(false), got.history(), false, time.Now())
	if want := "  note: b: stays on the host: user x\n"; !strings.Contains(out.String(), want) {
		t.Errorf("printed history lacks %q:\n%s", want, out.String())
	}
}
