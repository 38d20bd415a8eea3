package health_test

import (
	"strings"
	"testing"
	"time"

	"bellhop/internal/host/health"
	"bellhop/internal/host/machine"
)

// Units settle beside each other: a run costs the longest settle time, and not the sum of them.
func TestARunCostsTheLongestSettle(t *testing.T) {
	w := &health.Watch{
		Units:    []health.Unit{{Name: "a.service", Service: "a", Fresh: true}, {Name: "b.service", Service: "b", Fresh: true}, {Name: "c.service", Service: "c", Fresh: true}},
		Services: []health.Service{{Name: "a", Settle: 30 * time.Second}, {Name: "b", Settle: 7 * time.Second}, {Name: "c", Settle: 20 * time.Second}},
	}
	units := map[string][]moment{"a.service": {{0, up(0)}}, "b.service": {{0, up(0)}}, "c.service": {{0, up(0)}}}
	watch(t, w, units, nil, func(r *health.Report, took time.Duration, _ *stage) {
		if len(r.Failures) > 0 || took != 30*time.Second {
			t.Errorf("failures %v after %v, want none after 30s: the longest of 30, 7 and 20 s", r.Failures, took)
		}
	})
}

// A start of ten minutes, as of a first pull of an image, is no failure: how long it may take is up to the
// unit's TimeoutStartSec=, after which systemd says that it failed. Nothing ends sooner, and nothing later.
func TestStartOfTenMinutes(t *testing.T) {
	timeout := machine.UnitState{Active: "failed", Sub: "failed", Result: "timeout", Invocation: "inv0"}
	for _, tt := range []struct {
		name  string
		then  machine.UnitState
		wrong string
		took  time.Duration
	}{
		{"it comes up", up(0), "", 10*time.Minute + 5*time.Second},
		{"systemd gives it up", timeout, "unit a.service: it is failed (timeout): it took longer than its TimeoutStartSec=, TimeoutStopSec= or RuntimeMaxSec= allows: (never ready)", 10 * time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := &health.Watch{Units: []health.Unit{{Name: "a.service", Fresh: true}, {Name: "b.service", Fresh: true}}, Settle: 5 * time.Second,
				Explain: func(string, machine.UnitState) string { return ": (never ready)" }}
			units := map[string][]moment{"a.service": {{0, starting}, {10 * time.Minute, tt.then}}, "b.service": {{0, up(0)}}}
			watch(t, w, units, nil, func(r *health.Report, took time.Duration, _ *stage) {
				wrong := ""
				for _, f := range r.Failures {
					wrong += f.Err.Error()
				}
				if wrong != tt.wrong || took < tt.took || took > tt.took+time.Second {
					t.Errorf("%q after %v, want %q after %v", wrong, took, tt.wrong, tt.took)
				}
			})
		})
	}
}

// A unit that came up and then took too long to stop was ready: what systemd waits for at a start is not
// named as the reason.
func TestTimeoutOfAStopIsNoTimeoutOfAStart(t *testing.T) {
	timeout := machine.UnitState{Active: "failed", Sub: "failed", Result: "timeout", Invocation: "inv0"}
	w := &health.Watch{Units: []health.Unit{{Name: "a.service", Fresh: true}}, Settle: 5 * time.Second,
		Explain: func(string, machine.UnitState) string { return ": (never ready)" }}
	watch(t, w, map[string][]moment{"a.service": {{0, up(0)}, {3 * time.Second, timeout}}}, nil, func(r *health.Report, _ time.Duration, _ *stage) {
		if len(r.Failures) != 1 || strings.Contains(r.Failures[0].Err.Error(), "never ready") {
			t.Errorf("failures %v, want one that tells of no start", r.Failures)
		}
	})
}
