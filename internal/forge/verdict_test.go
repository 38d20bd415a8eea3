package forge

import (
	"testing"

	"bellhop/internal/history"
	"bellhop/internal/history/stops"
)

// A host that runs a test has another commit's matter: what came of the branch is told of the other hosts.
func TestHostUnderTestIsNotCounted(t *testing.T) {
	done := history.OutcomeDone
	v := &view{status: history.Status{Commit: &commitA}, runs: []history.Run{{ID: "r-1", Commit: &commitA, Outcome: &done}}}
	started := v.at
	v.runs[0].FinishedAt = &started
	host := func(name string, s history.State, held *stops.HoldStatus) history.HostStatus {
		return history.HostStatus{Name: name, State: s, Held: held}
	}
	test := &stops.HoldStatus{Test: &stops.TestStatus{Branch: "testing-b", Commit: commitB}}
	for _, c := range []struct {
		held *stops.HoldStatus
		want State
	}{{test, Success}, {&stops.HoldStatus{}, Failure}} {
		v.status.Hosts = []history.HostStatus{host("a", history.Current, nil), host("b", history.Held, c.held)}
		if got, ok := v.verdictOn(commitA); !ok || got.state != c.want {
			t.Errorf("with %+v: %v %+v, want %s", c.held, ok, got, c.want)
		}
	}
}
