package deploy_test

import (
	"strings"
	"testing"

	"bellhop/deploy/plan"
	"bellhop/internal/history"
)

// A unit that needs a newer systemd than the host has holds back its service, whether that is known before the host
// is asked or not. With a newer systemd there, a retry brings it.
func TestAUnitForANewerSystemd(t *testing.T) {
	for name, isKnown := range map[string]bool{"the version is known": true, "it was newer when it was heard last": false} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "a")
			m := w.machines["a"]
			numbered(w, "a", 3, "one\n")
			m.SetVersion(map[bool]int{true: 252, false: 257}[isKnown])
			first := w.push("first", history.OutcomeDone)
			m.SetVersion(252)
			numbered(w, "a", 3, "two\n")
			w.files["services/s01/s01.service"] = "[Service]\nExecStart=/bin/s01\nOpenFile=/etc/x\n[Install]\nWantedBy=multi-user.target\n"
			sessions := w.sessions("a")
			w.push("second", history.OutcomePartial)
			if got, want := w.sessions("a")-sessions, map[bool]int{true: 1, false: 2}[isKnown]; got != want {
				t.Errorf("%d sessions, want %d", got, want)
			}
			w.wantState("a", history.HeldBack, *first.Commit)
			wantHeld(w, []string{"s01"}, "OpenFile= needs systemd 253")

			m.SetVersion(257)
			w.run(plan.Request{Cause: "deploy", On: "a", Retry: true}, history.OutcomeDone)
			if holds(w, "a", "s01") != "two\n" {
				t.Errorf("s01 holds %q on a newer systemd", holds(w, "a", "s01"))
			}
		})
	}
}

// A host on which nothing else changes is refused for it, without being asked.
func TestOnlyAUnitForANewerSystemd(t *testing.T) {
	w := newWorld(t, "a")
	w.machines["a"].SetVersion(252)
	numbered(w, "a", 1, "one\n")
	w.push("first", history.OutcomeDone)
	w.files["services/s00/s00.service"] = "[Service]\nExecStart=/bin/s00\nOpenFile=/etc/x\n[Install]\nWantedBy=multi-user.target\n"
	sessions := w.sessions("a")
	w.push("second", history.OutcomeRefused)
	s := w.state("a")
	if s.State != history.Refused || s.Error == nil || !strings.Contains(*s.Error, "OpenFile= needs systemd 253") || w.sessions("a") != sessions {
		t.Errorf("the host is %s: %v, after %d sessions; want it refused unasked", s.State, s.Error, w.sessions("a")-sessions)
	}
}
