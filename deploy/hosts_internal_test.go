package deploy

import (
	"context"
	"slices"
	"testing"

	"bellhop/internal/plain"
)

// A host that leaves the repo takes its state with it, but not from under somebody who works on it.
func TestHostTableForgets(t *testing.T) {
	listed := func(hosts ...string) func(string) bool {
		return func(host string) bool { return slices.Contains(hosts, host) }
	}

	var table hostTable
	for _, host := range []string{"stays", "leaves", "busy", "pushed"} {
		table.unreached(host)
		table.setAway(host, true)
		table.setMachine(host, plain.NewForeign("m"))
	}
	release, err := table.hold(t.Context(), "busy")
	if err != nil {
		t.Fatal(err)
	}
	table.setPushing("pushed", true)

	table.keepOnly(listed("stays"))
	if len(table.states) != 3 || table.away("leaves") || !table.machine("leaves").IsEmpty() {
		t.Errorf("%d states, away %v; want 3, and nothing known of the host that left", len(table.states), table.away("leaves"))
	}
	if !table.away("stays") || table.machine("stays").IsEmpty() {
		t.Error("the state of a host that stays was lost")
	}

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := table.hold(ended, "busy"); err == nil {
		t.Error("two are at work on a host that left")
	}
	if !table.pushing("pushed") {
		t.Error("a host that is pushed is not known to be, since it left")
	}

	release()
	table.setPushing("pushed", false)
	if len(table.states) != 1 {
		t.Errorf("%d states when all work is done, want 1", len(table.states))
	}
}

// A host that comes back while somebody still works on it keeps its state, and its lock.
func TestHostTableComesBack(t *testing.T) {
	var table hostTable
	release, err := table.hold(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	table.keepOnly(func(string) bool { return false })
	table.keepOnly(func(string) bool { return true })
	release()
	if len(table.states) != 1 {
		t.Errorf("%d states, want 1", len(table.states))
	}
}
