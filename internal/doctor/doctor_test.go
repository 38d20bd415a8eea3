package doctor_test

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bellhop/internal/doctor"
	"bellhop/internal/history"
)

var now = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

// well is a deployer with nothing wrong.
func well() doctor.Health {
	return doctor.Health{Now: now, Free: 9 << 30, Clock: doctor.ClockKept, Hosts: []doctor.Host{{Name: "box", IsLocal: true, Systemd: 257}, {Name: "web", Pins: 1, Systemd: 252, SkewMs: new(int64(120))}}}
}

func TestNothingIsWrong(t *testing.T) {
	for _, f := range well().Findings() {
		if f.Warn != "" || f.ToDo != "" || f.Note == "" {
			t.Errorf("%+v", f)
		}
	}
}

// Each thing that is wrong is told once, with what to do about it.
func TestFindings(t *testing.T) {
	old := now.Add(-time.Hour)
	for what, tt := range map[string]struct {
		edit func(*doctor.Health)
		want string
	}{
		"disk of the deployer":  {func(h *doctor.Health) { h.Free = 5 << 20 }, "5 MiB are free"},
		"clock of the deployer": {func(h *doctor.Health) { h.Clock = doctor.ClockLeft }, "nothing keeps it right"},
		"messages":              {func(h *doctor.Health) { h.Waiting, h.WaitsSince = 3, &old }, "3 rows of the outbox are to be sent, the oldest since 2026-11-30T11:00:00Z"},
		"clocks of hosts":       {func(h *doctor.Health) { h.Hosts[1].SkewMs = new(int64(-90_400)) }, "web is 1m30s behind of the deployer"},
		"host keys":             {func(h *doctor.Health) { h.Hosts[1].Pins = 0 }, "not pinned: web"},
		"systemd of hosts":      {func(h *doctor.Health) { h.Hosts[1].Systemd = 241 }, "web has 241, and bellhop's units want 245"},
	} {
		h := well()
		tt.edit(&h)
		var wrong []string
		for _, f := range h.Findings() {
			if f.Warn == "" {
				continue
			}
			wrong = append(wrong, f.What)
			if f.What != what || !strings.Contains(f.Warn, tt.want) || f.ToDo == "" {
				t.Errorf("%s: %+v, want %q and what to do", what, f, tt.want)
			}
		}
		if len(wrong) != 1 {
			t.Errorf("%s: %q are told, want one", what, wrong)
		}
	}
}

// Clocks of which nothing was heard are not called right, and where all are wrong the deployer's is looked at first.
func TestClocksOfHosts(t *testing.T) {
	note := func(skews ...*int64) doctor.Finding {
		h := well()
		h.Hosts = nil
		for i, s := range skews {
			h.Hosts = append(h.Hosts, doctor.Host{Name: string(rune('a' + i)), Pins: 1, Systemd: 252, SkewMs: s})
		}
		for _, f := range h.Findings() {
			if f.What == "clocks of hosts" {
				return f
			}
		}
		t.Fatal("nothing is said of the clocks of hosts")
		return doctor.Finding{}
	}

	if f := note(nil); f.Warn != "" || !strings.Contains(f.Note, "no host was heard") {
		t.Errorf("nothing heard: %+v", f)
	}
	if f := note(nil, new(int64(30_000)), new(int64(-12))); f.Warn != "" || f.Note != "at most 30s off, of 2 hosts that said it when they were heard last" {
		t.Errorf("two are right: %+v", f)
	}
	if f := note(new(int64(40_000)), new(int64(10))); !strings.HasPrefix(f.Warn, "a is 40s ahead") || strings.Contains(f.ToDo, "own clock") {
		t.Errorf("one of two is wrong: %+v", f)
	}
	if f := note(new(int64(40_000)), new(int64(-9_223_372_036_854))); !strings.Contains(f.ToDo, "the deployer's own clock first") {
		t.Errorf("all are wrong: %+v", f)
	}
}

// Where the kernel does not say, nobody is told that all is well.
func TestClockUnknown(t *testing.T) {
	h := well()
	h.Clock = doctor.ClockUnknown
	for _, f := range h.Findings() {
		if f.Warn != "" || f.What == "clock of the deployer" && !strings.Contains(f.Note, "does not say") {
			t.Errorf("%+v", f)
		}
	}
}

// A row that was queued a moment ago is no news.
func TestMessagesOnTheirWay(t *testing.T) {
	h := well()
	h.Waiting, h.WaitsSince = 1, &now
	for _, f := range h.Findings() {
		if f.Warn != "" {
			t.Errorf("%+v", f)
		}
	}
}

// What history knows is read, and a server of an earlier release can be told too: it names no hosts.
func TestRead(t *testing.T) {
	db, err := history.Open(filepath.Join(t.TempDir(), "bellhop.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	start := history.Start{ID: "r1", Commit: strings.Repeat("a", 40), Cause: "push", At: now}
	hosts := []history.Planned{{Name: "web", State: history.Behind, Wanted: "d", Listed: true, Reach: history.Reach{Addresses: []string{"10.0.0.1"}, HostKeys: []string{"ssh-ed25519 AAAA"}}}}
	if err := db.Plan(t.Context(), start, start.Commit, hosts, nil); err != nil {
		t.Fatal(err)
	}

	h, err := doctor.Read(t.Context(), db, t.TempDir(), map[string]time.Duration{"web": 2 * time.Second, "gone": time.Hour})
	if err != nil || h.Free == 0 || len(h.Hosts) != 1 || h.Hosts[0].Name != "web" || h.Hosts[0].Pins != 1 || *h.Hosts[0].SkewMs != 2000 {
		t.Errorf("Read = %+v, %v", h, err)
	}

	var former doctor.Health
	if err := json.Unmarshal([]byte(`{"now":"2026-11-30T12:00:00Z","free":1,"waiting":0,"last_delivery":null}`), &former); err != nil || len(former.Findings()) == 0 {
		t.Errorf("the answer of an earlier release: %v", err)
	}
}
