package server

import (
	"io"
	"maps"
	"slices"
	"testing"
)

// Each forge reads the deliveries that its own row writes: who adds a row has it tested here.
func TestForgesReadWhatTheyWrite(t *testing.T) {
	sent := Push{Ref: "refs/heads/main", After: someCommit, Repo: "within/hexagone"}
	for _, name := range slices.Sorted(maps.Keys(forges)) {
		r, err := NewDelivery(t.Context(), name, "http://bellhop.example/v1/webhook", secret, sent)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}

		f := forges[name]
		if !f.authentic(r.Header, body, secret) || f.authentic(r.Header, body, []byte("another secret, long enough")) {
			t.Errorf("%s: the delivery is not authentic by its secret alone", name)
		}
		if f.event(r.Header) != eventPush || f.delivery(r.Header) == "" {
			t.Errorf("%s: the delivery is of event %q, id %q", name, f.event(r.Header), f.delivery(r.Header))
		}

		got, err := f.push(body)
		if want := (pushed{Ref: sent.Ref, After: sent.After, Repo: sent.Repo}); err != nil || got != want {
			t.Errorf("%s: push(%s) = %+v, %v, want %+v", name, body, got, err, want)
		}
	}

	if _, err := NewDelivery(t.Context(), "fossil", "http://bellhop.example", secret, sent); err == nil {
		t.Error("NewDelivery makes one for a forge that is not known")
	}
}
