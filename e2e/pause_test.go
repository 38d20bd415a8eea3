//go:build e2e

package e2e

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// A push while runs are paused changes nothing on a host, and resume deploys it. A run that is cancelled in
// its first wave ends there, and goes on with resume.
func TestPauseAndCancel(t *testing.T) {
	w := newWorld(t)
	w.edit("bellhop.yaml", "rollout: { waves: [] }", "confirm: 0s\nrollout: { waves: [1] }")
	for name := range hosts {
		w.enable(name, "x: true")
	}
	w.write(map[string]string{"services/x/x.service": sleeper, "services/x/service.yaml": "settle: 500ms\n", "services/x/files/etc/x.conf": "one\n"})
	w.push("one")

	w.bellhop("pause", "--reason", "moving the rack")
	w.write(map[string]string{"services/x/files/etc/x.conf": "two\n"})
	two := w.commit("two")
	if code := w.deliver(two); code != http.StatusAccepted {
		t.Fatalf("webhook answered %d, want 202", code)
	}
	eventually(t, 20*time.Second, "the push is told to wait", func() bool {
		return strings.Contains(w.bellhop("status"), "moving the rack; 1 commit waits: bellhop resume")
	})
	if out, code := w.try("deploy"); code != 4 || !strings.Contains(out, "moving the rack") {
		t.Errorf("deploy while runs are paused: exit %d\n%s", code, out)
	}
	w.wantEverywhere("one")
	w.bellhop("resume")
	w.waitCurrent(two)
	w.wantEverywhere("two")

	// The host that goes first takes a while, and meanwhile the run is cancelled.
	w.write(map[string]string{"services/x/service.yaml": "settle: 6s\n", "services/x/files/etc/x.conf": "three\n", "services/x/x.service": sleeper + "# three\n"})
	three := w.commit("three")
	w.deliver(three)
	first := ""
	eventually(t, 20*time.Second, "a host is at work", func() bool {
		s := w.status()
		for name := range hosts {
			if s.Commit == three && s.state(name) == "deploying" {
				first = name
			}
		}
		return first != ""
	})
	if out := w.bellhop("cancel"); !strings.Contains(out, "to their end: "+first+"\n") || !strings.Contains(out, "left as they are: ") {
		t.Errorf("cancel says:\n%s", out)
	}
	if out := w.bellhop("cancel"); !strings.Contains(out, " was cancelled before\n") {
		t.Errorf("a second cancel says:\n%s", out)
	}
	w.waitState(three, first, "current")
	for name, host := range hosts {
		state, text := "behind", "two"
		if name == first {
			state, text = "current", "three"
		}
		if s, got := w.status().state(name), on(t, host, "cat /etc/x.conf"); s != state || got != text {
			t.Errorf("after cancel %s is %s with %q, want %s with %q", name, s, got, state, text)
		}
	}
	if out := w.bellhop("history", "-n", "2"); !strings.Contains(out, "cancelled") || strings.Count(out, "  cancel by ") != 1 {
		t.Errorf("history does not tell of it:\n%s", out)
	}
	w.bellhop("resume")
	w.waitCurrent(three)
	w.wantEverywhere("three")
}

// wantEverywhere wants a text in /etc/x.conf of all hosts.
func (w *world) wantEverywhere(text string) {
	w.t.Helper()
	for name, host := range hosts {
		if got := on(w.t, host, "cat /etc/x.conf"); got != text {
			w.t.Errorf("%s has %q, want %q", name, got, text)
		}
	}
}
