package tally_test

import (
	"testing"

	"bellhop/deploy/plan"
	"bellhop/deploy/tally"
	"bellhop/internal/bundle"
	"bellhop/internal/fleet"
	"bellhop/internal/history"
	"bellhop/internal/history/results"
	"bellhop/internal/history/stops"
)

// What a person may want to stop is a bundle that fails on a whole host. A host that is away, or whose other
// services were brought, stops nobody.
func TestWhatStopsARun(t *testing.T) {
	for _, c := range []struct {
		name    string
		end     history.End
		stops   bool
		isFirm  bool // false with stops: the host is tried again first
		allowed int  // max_failures
	}{
		{name: "it failed and was undone", end: history.End{Outcome: history.OutcomeRolledBack, State: history.RolledBack}, stops: true, isFirm: true},
		{name: "it could not be undone whole", end: history.End{Outcome: history.OutcomeFailed, State: history.Failed}, stops: true, isFirm: true},
		{name: "it is cut off", end: history.End{Outcome: history.OutcomeUnconfirmed, State: history.Unconfirmed, Reason: results.ReasonCutOff}, stops: true, isFirm: true},
		{name: "the run was cut off there", end: history.End{Outcome: history.OutcomeRolledBack, State: history.Behind}, stops: true},

		{name: "one may fail", end: history.End{Outcome: history.OutcomeRolledBack, State: history.RolledBack}, allowed: 1},
		{name: "one may be cut off", end: history.End{Outcome: history.OutcomeUnconfirmed, State: history.Unconfirmed, Reason: results.ReasonCutOff}, allowed: 1},
		{name: "the deployer was away", end: history.End{Outcome: history.OutcomeUnconfirmed, State: history.Unconfirmed, Reason: results.ReasonAway}},
		{name: "it is away", end: history.End{Outcome: history.OutcomePending, State: history.Pending}},
		{name: "an earlier run is not undone there", end: history.End{Outcome: history.OutcomePending, State: history.Failed}},
		{name: "it refuses", end: history.End{Outcome: history.OutcomeRefused, State: history.Refused}},
		{name: "one service is held back", end: history.End{Outcome: history.OutcomeHeldBack, State: history.HeldBack}},
		{name: "it failed in an earlier run", end: history.End{Outcome: history.OutcomeRolledBack, State: history.RolledBack, Untouched: true}},
		{name: "it is current", end: history.End{Outcome: history.OutcomeDone, State: history.Current}},
	} {
		sum := tally.New(c.allowed)
		sum.Count(&plan.HostPlan{Name: "a"}, c.end)
		if why, isFirm := sum.Stops(); (why != "") != c.stops || isFirm != c.isFirm {
			t.Errorf("%s: stops %q, firm %v; want stops %v, firm %v", c.name, why, isFirm, c.stops, c.isFirm)
		}
	}
}

// A service for which a host was undone as a whole, since nobody knew what to leave in its place, is not tried on the
// hosts that come later. That of a held host is of another commit.
func TestServicesOfAHostThatFailedAsAWhole(t *testing.T) {
	files := []bundle.File{{Path: "/etc/web.conf", Digest: "d", Service: "web"}}
	b := &fleet.Bundle{Manifest: bundle.Manifest{Files: files}}
	end := history.End{Outcome: history.OutcomeRolledBack, State: history.RolledBack, Error: "units failed", Details: &bundle.Result{Failing: []string{"web"}}}
	for _, hold := range []*stops.Hold{nil, {Commit: "older"}} {
		sum := tally.New(1)
		sum.Count(&plan.HostPlan{Name: "a", Bundle: b, Hold: hold}, end)
		want := ""
		if hold == nil {
			want = "it failed on a: units failed"
		}
		if got := sum.Failures()["web"]; got != want {
			t.Errorf("held %v: web failed with %q, want %q", hold != nil, got, want)
		}
	}
}
