package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"bellhop/internal/history"
)

func watched(state history.State, err string) history.Status {
	h := history.HostStatus{Name: "a", State: state, Commit: new("0123456789")}
	if err != "" {
		h.Error = &err
	}
	return history.Status{Hosts: []history.HostStatus{h}}
}

// Where no terminal is, a line is written when a host's state is another, and when the server is away, each once.
func TestWatchByLines(t *testing.T) {
	var b bytes.Buffer
	v, now := newLineWatch(&b), time.Unix(0, 0)
	v.show(watched(history.Current, ""), true, now)
	v.show(watched(history.Current, ""), true, now.Add(time.Second))
	v.lost(errors.New("no server"))
	v.lost(errors.New("no server"))
	v.show(watched(history.Failed, "web.service failed\nand more"), true, now.Add(2*time.Second))

	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	if len(lines) != 3 || lines[0] != "1970-01-01T00:00:00Z a current 0123456" || !strings.HasSuffix(lines[1], " not up to date: no server") ||
		!strings.HasPrefix(lines[2], "1970-01-01T00:00:02Z a failed 0123456 web.service failed") {
		t.Errorf("lines:\n%s", b.String())
	}
}

// A screen gets one picture over the other, none longer than it is high, and keeps the last one when the server is away.
func TestWatchOnAScreen(t *testing.T) {
	var b bytes.Buffer
	v := &screenWatch{w: &output{Writer: &b, hasColour: true}, p: true, size: func() (int, int) { return 20, 6 }}
	s := watched(history.Current, "")
	for range 20 {
		s.Hosts = append(s.Hosts, s.Hosts[0])
	}
	v.show(s, true, time.Now())
	first := b.String()
	if strings.Count(first, "\n") != 5 || !strings.Contains(first, "… and 2") || strings.Contains(first, "u001b") {
		t.Errorf("the first picture: %q", first)
	}
	for line := range strings.Lines(first) {
		if n := utf8.RuneCountInString(ownColour.ReplaceAllString(strings.TrimRight(line, "\n"), "")); n > 19 {
			t.Errorf("a line of %d columns: %q", n, line)
		}
	}

	for range 2 {
		b.Reset()
		v.lost(errors.New("no"))
		got := ownColour.ReplaceAllString(b.String(), "")
		if !strings.HasPrefix(got, "\x1b[5A\x1b[Jnot up to date: no\nno network yet") {
			t.Errorf("while the server is away: %q", got)
		}
	}
}

// What is the matter is read whole on a narrow screen: its lines end between words, keep their colour, and none is too wide.
func TestWatchWrapsWhatIsTheMatter(t *testing.T) {
	const reason = "health: probe http http://127.0.0.1:3000/healthz-of-the-whole-house: want status 200, got 503"
	for _, width := range []int{1, 2, 3, 20, 40, 200} {
		var b bytes.Buffer
		v := &screenWatch{w: &output{Writer: &b, hasColour: true}, p: true, size: func() (int, int) { return width, 1000 }}
		v.show(watched(history.RolledBack, reason), true, time.Now())

		var all strings.Builder
		for line := range strings.Lines(b.String()) {
			line = strings.TrimRight(line, "\n")
			plain := ownColour.ReplaceAllString(line, "")
			if n := utf8.RuneCountInString(plain); n > max(width-1, 0) {
				t.Errorf("%d columns: a line of %d: %q", width, n, line)
			}
			all.WriteString(plain)
		}
		without := func(s string) string { return strings.ReplaceAll(s, " ", "") }
		if width > 2 && !strings.Contains(without(all.String()), without(reason)) {
			t.Errorf("%d columns: the reason is cut:\n%s", width, b.String())
		}
	}
}

// --since is how long ago, a day or a moment.
func TestParseSince(t *testing.T) {
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.Local)
	for text, want := range map[string]time.Time{
		"": {}, "2h": now.Add(-2 * time.Hour), "3d": now.AddDate(0, 0, -3), "2026-11-29": time.Date(2026, 11, 29, 0, 0, 0, 0, time.Local),
		"2026-11-29 09:30": time.Date(2026, 11, 29, 9, 30, 0, 0, time.Local), "2026-11-29T09:30:00Z": time.Date(2026, 11, 29, 9, 30, 0, 0, time.UTC),
	} {
		if got, err := parseSince(text, now); err != nil || !got.Equal(want) {
			t.Errorf("parseSince(%q) = %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"yesterday", "-2h", "-1d", "9999999999d", "2026-13-01"} {
		if _, err := parseSince(text, now); err == nil || hintFor(err) == "" {
			t.Errorf("parseSince(%q): %v, want an error that says how", text, err)
		}
	}
}

// Hosts are left out by state and by the time of their deploy.
func TestHostFilter(t *testing.T) {
	now := time.Now()
	all := history.Status{Hosts: []history.HostStatus{
		{Name: "old", State: history.Current, DeployedAt: new(now.Add(-48 * time.Hour))}, {Name: "new", State: history.Failed, DeployedAt: &now}, {Name: "never", State: history.Never},
		{Name: "back", State: history.Held},
	}}
	for _, c := range []struct {
		f    hostFilter
		want string
	}{
		{hostFilter{}, "old new never back"}, {hostFilter{states: []history.State{history.Failed, history.Never}}, "new never"}, {hostFilter{since: now.Add(-time.Hour)}, "new"},
		{hostFilter{outcomes: []history.Outcome{history.OutcomeFailed, history.OutcomeCancelled}}, "new"}, {hostFilter{outcomes: []history.Outcome{history.OutcomeNothing}}, "old back"},
	} {
		s := all
		s.Hosts = append([]history.HostStatus{}, all.Hosts...)
		c.f.apply(&s)
		var names []string
		for _, h := range s.Hosts {
			names = append(names, h.Name)
		}
		if got := strings.Join(names, " "); got != c.want {
			t.Errorf("%+v leaves %q, want %q", c.f, got, c.want)
		}
	}
	if _, err := parseOneOf("outcome", []string{"partial"}, hostOutcomes); err == nil || strings.Contains(hintFor(err), "partial") {
		t.Errorf("an outcome that no host can have: %v", err)
	}
	if _, err := parseOneOf("state", []string{"faild"}, statesKnown); err == nil || !strings.Contains(hintFor(err), "failed") {
		t.Errorf("an unknown state: %v", err)
	}
}
