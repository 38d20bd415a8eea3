package page_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/history"
	"bellhop/internal/history/deliveries"
	"bellhop/internal/history/looks"
	"bellhop/internal/history/results"
	"bellhop/internal/history/services"
	"bellhop/internal/page"
)

func ptr[T any](v T) *T { return &v }

// evil is what a stranger would like to be markup.
const evil = `<script>alert(1)</script>"'><img src=x onerror=alert(1)>`

func sample() page.Sources {
	now := time.Now()
	failed := history.Run{ID: "r2", Commit: ptr("89abcdef01234567"), Author: ptr("Cadey"), Subject: ptr("bot: " + evil), Cause: "push", StartedAt: now.Add(-3 * time.Minute),
		FinishedAt: ptr(now.Add(-2 * time.Minute)), Outcome: ptr(history.OutcomePartial), Hosts: []history.RunResult{
			{Name: "chrysalis", Outcome: ptr(history.OutcomeDone), Changed: []string{"file:/etc/greeting"}, TookMs: 812},
			{Name: "kos-mos", Outcome: ptr(history.OutcomeRolledBack), TookMs: 5300, Error: ptr("web.service failed " + evil), Evidence: []results.Evidence{
				{Unit: ptr("web.service"), Result: ptr("exit-code"), Exit: 1, Lines: []string{"starting", "panic: " + evil}}}}}}
	first := history.Run{ID: "r1", Commit: ptr("0123456789abcdef"), Subject: ptr("first day"), Cause: "start", StartedAt: now.Add(-50 * time.Hour),
		FinishedAt: ptr(now.Add(-50 * time.Hour)), Outcome: ptr(history.OutcomeDone), Hosts: []history.RunResult{{Name: "kos-mos", Outcome: ptr(history.OutcomeDone)}}}
	status := history.Status{Network: ptr("hexagone"), Branch: ptr("main"), Commit: failed.Commit, Hosts: []history.HostStatus{
		{Name: "chrysalis", State: history.Current, Commit: failed.Commit, DeployedAt: ptr(now.Add(-2 * time.Minute)), SeenAt: &now, Keys: history.KeyCount{Expected: 2, Present: 2}, Run: ptr("r2"), Units: &looks.UnitStatus{Running: 3}, Drift: new(int), RebootRequired: new(bool)},
		{Name: "kos-mos", State: history.RolledBack, Commit: first.Commit, DeployedAt: ptr(now.Add(-50 * time.Hour)), SeenAt: &now, Run: ptr("r2"), Error: ptr("web.service failed " + evil),
			Units: &looks.UnitStatus{Running: 3, Failed: []looks.FailedUnit{{Name: "job.service", Result: "exit-code"}}}, Drift: new(2), RebootRequired: new(true), LookedAt: &now,
			Services: []services.Status{services.New("web", "0123456789abcdef", services.Failed, evil)}},
		{Name: "lap", State: history.Pending, AwaySince: ptr(now.Add(-3 * time.Hour)), Keys: history.KeyCount{Expected: 1}},
	}}
	return page.Sources{
		Status:   func(context.Context) (history.Status, error) { return status, nil },
		Sentence: func(history.Status) string { return "1 current, 1 pending, 1 rolled-back" },
		Runs: func(context.Context, int, ...string) (history.History, error) {
			return history.History{Runs: []history.Run{failed, first}}, nil
		},
		Outcomes: func(context.Context, int) ([]history.Run, error) { return []history.Run{failed, first}, nil },
		Run: func(_ context.Context, id string) (*history.Run, error) {
			if id != "r2" {
				return nil, history.ErrNoRun
			}
			return &failed, nil
		},
		Deliveries: func(context.Context, int) ([]deliveries.Delivery, error) {
			return []deliveries.Delivery{{ID: "1", At: now, Event: "push", Branch: evil, Commit: "89abcdef0123", Answer: "202: a run is on its way", Run: "r2"}}, nil
		},
		Events: func(string) []page.Event {
			return []page.Event{{After: "+0.1 s", Host: "kos-mos", Step: "health", Text: evil}}
		},
		Plan: func(run string) string { return run + ": the plan\n  ~ file /etc/greeting\n    +" + evil },
		Manifest: func(string) (*bundle.Manifest, string, error) {
			return &bundle.Manifest{Keys: []bundle.Key{{Name: "bot-token"}}, Units: []bundle.Unit{
				{Name: "web.service", Service: "web"}, {Name: "web-at.timer", Service: "web"}, {Name: "web-log.socket", Service: "web"}, {Name: "bot-token-key.service", KeyUnit: true}, {Name: "app@.service", Service: "web"}, {Name: "far.service", Service: "left"},
			}, Services: []bundle.Service{{Name: "web", Compose: &bundle.ComposeProject{Containers: []bundle.Container{{Name: "db"}, {Name: "shell", Idle: true}}}}}}, "digest", nil
		},
		Look: func(host string) (looks.Look, bool) {
			return looks.Look{
				Drift:  []looks.Drift{{Kind: "file", Name: "/etc/" + evil, What: "edited"}, {Kind: "unit", Name: "web-log.socket", What: "stopped"}},
				Failed: []looks.FailedUnit{{Name: "web.service", Result: "exit-code"}}, Drifted: 3,
				Units: map[string]string{"web.service": "failed", "web-at.timer": "inactive (dead)", "web:db": "active (healthy)"},
			}, host == "kos-mos"
		},
		Drift: func(_ context.Context, host string) (page.Drift, error) {
			return page.Drift{Words: "1 thing differs", Differences: []page.Difference{{Kind: "file", Name: "/etc/x", What: "edited", Diff: "-a\n+" + evil}}}, nil
		},
		Generations: func(string) []history.Generation {
			return []history.Generation{{Generation: 4, Commit: "0123456789abcdef", At: now}}
		},
		Log: slog.New(slog.DiscardHandler),
	}
}

var paths = []string{"/", "/hosts/kos-mos", "/hosts/chrysalis", "/hosts/lap", "/hosts/kos-mos/drift", "/runs/r2", "/services", "/deliveries"}

// scripts are those of the program itself.
var scripts = regexp.MustCompile(`<script src="/assets/[^"]+"></script>`)

func get(t *testing.T, s page.Sources, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	page.New(s).ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	return w.Code, w.Body.String()
}

// Each page is whole, says what is the matter, and needs nothing that the policy of the listener forbids.
func TestPages(t *testing.T) {
	forbidden := regexp.MustCompile(`(?i)<script|<[a-z][^>]*\s(on[a-z]+|style)=|<style|javascript:|<img|<iframe|<form`)
	for _, path := range paths {
		code, body := get(t, sample(), path)
		if code != 200 || !strings.HasPrefix(body, "<!doctype html>") || !strings.HasSuffix(strings.TrimSpace(body), "</html>") {
			t.Errorf("%s: %d\n%s", path, code, body)
		}
		want := 3
		if path == "/hosts/kos-mos/drift" { // it is not live
			want = 1
		}
		if n := len(scripts.FindAllString(body, -1)); n != want {
			t.Errorf("%s has %d scripts, want %d", path, n, want)
		}
		if found := forbidden.FindString(scripts.ReplaceAllString(body, "")); found != "" {
			t.Errorf("%s holds %q", path, found)
		}
		if strings.Contains(body, "%!") || strings.Contains(body, "ZgotmplZ") || strings.Contains(body, "0x") {
			t.Errorf("%s has a value that was not made text:\n%s", path, body)
		}
	}

	for path, want := range map[string]string{
		"/":                    `colspan="7">web.service failed &lt;script&gt;`,
		"/hosts/kos-mos":       "bellhop deploy --retry kos-mos",
		"/hosts/kos-mos#drift": `<span class="wait"><span aria-hidden="true">◐</span> edited</span> file <code>/etc/&lt;script&gt;`,
		"/hosts/kos-mos#more":  "And 1 more.",
		"/hosts/chrysalis":     "2 of 2 are there: <code>bot-token</code>",
		"/hosts/kos-mos/drift": "-a\n&#43;&lt;script&gt;",
		"/runs/r2#plan":        "r2: the plan\n  ~ file /etc/greeting\n    &#43;&lt;script&gt;",
		"/runs/r2#events":      "0.1 s",
		"/hosts/lap":           "it does not answer since 20",
		"/runs/r2":             "web.service: exit-code (1)",
		"/services":            `<th scope="row" role="rowheader">web</th>`,
		"/deliveries":          "202: a run is on its way",
	} {
		path, _, _ := strings.Cut(path, "#")
		if _, body := get(t, sample(), path); !strings.Contains(body, want) {
			t.Errorf("%s lacks %s:\n%s", path, want, body)
		}
	}
}

// A host on which all is well says nothing of drift, failed units or a reboot.
func TestQuietWhenWell(t *testing.T) {
	_, body := get(t, sample(), "/hosts/chrysalis")
	for _, noise := range []string{"bellhop drift", "differed", "Reboot", "failed:", "To act"} {
		if strings.Contains(body, noise) {
			t.Errorf("says %q", noise)
		}
	}
	if _, body := get(t, sample(), "/"); strings.Count(body, "edited") != 1 || strings.Count(body, "reboot required") != 1 {
		t.Errorf("want one host with drift:\n%s", body)
	}
}

// The page of a host has each service with its commit and its units; a container is a unit, and units of keys, templates
// and containers that are not to run are none.
func TestUnitsOfServices(t *testing.T) {
	_, body := get(t, sample(), "/hosts/kos-mos")
	for _, want := range []string{
		`<span class="unit bad"><span aria-hidden="true">✕</span> <code>web.service</code> failed (exit-code)</span>`,
		`<span class="unit "><span aria-hidden="true">○</span> <code>web-at.timer</code> inactive (dead)</span>`,
		`<span class="unit wait"><span aria-hidden="true">◐</span> <code>web-log.socket</code> stopped</span>`,
		`<span class="unit good"><span aria-hidden="true">●</span> <code>web:db</code> active (healthy)</span>`,
		`<code>far.service</code> not looked at yet`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("lacks %s:\n%s", want, body)
		}
	}
	for _, none := range []string{"bot-token-key", "app@", "web:shell"} {
		if strings.Contains(body, none) {
			t.Errorf("shows %s", none)
		}
	}
}

// A state is a word and a shape beside its colour.
func TestStateHasShapeAndWord(t *testing.T) {
	_, body := get(t, sample(), "/")
	for _, want := range []string{"✕</span> rolled-back", "●</span> current", "◐</span> pending"} {
		if !strings.Contains(body, want) {
			t.Errorf("lacks %q", want)
		}
	}
}

func TestNotThere(t *testing.T) {
	for _, path := range []string{"/hosts/nobody", "/runs/none", "/hosts/" + strings.Repeat("x", 3000), "/nothing"} {
		if code, body := get(t, sample(), path); code != http.StatusNotFound || strings.Contains(body, "<script>") {
			t.Errorf("%.40s: %d %.100s", path, code, body)
		}
	}
}

// What can't be read is said, and is no empty page.
func TestUnreadable(t *testing.T) {
	s := sample()
	s.Status = func(context.Context) (history.Status, error) { return history.Status{}, errors.New("disk I/O error") }
	if code, body := get(t, s, "/"); code != 500 || !strings.Contains(body, "log") {
		t.Errorf("%d %s", code, body)
	}
}

// A fleet on its first day has pages too.
func TestFirstDay(t *testing.T) {
	s := sample()
	s.Status = func(context.Context) (history.Status, error) { return history.Status{}, nil }
	s.Runs = func(context.Context, int, ...string) (history.History, error) { return history.History{}, nil }
	s.Outcomes = func(context.Context, int) ([]history.Run, error) { return nil, nil }
	s.Deliveries = func(context.Context, int) ([]deliveries.Delivery, error) { return nil, nil }
	for _, path := range []string{"/", "/services", "/deliveries"} {
		if code, body := get(t, s, path); code != 200 || strings.Contains(body, "nil") {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
}

// A page of another site can't have a browser ask a host, and few are asked at once.
func TestDriftIsAskedForOnPurpose(t *testing.T) {
	s, asked := sample(), make(chan string)
	release := make(chan struct{})
	s.Drift = func(_ context.Context, host string) (page.Drift, error) {
		asked <- host
		<-release
		return page.Drift{Words: "nothing differs"}, nil
	}
	p := page.New(s)
	ask := func(site string) *httptest.ResponseRecorder {
		r := httptest.NewRequest("GET", "/hosts/lap/drift", nil)
		r.Header.Set("Sec-Fetch-Site", site)
		w := httptest.NewRecorder()
		p.ServeHTTP(w, r)
		return w
	}

	if w := ask("cross-site"); w.Code != http.StatusForbidden {
		t.Errorf("from another site: %d", w.Code)
	}
	done := make(chan int)
	for range 2 {
		go func() { done <- ask("same-origin").Code }()
		<-asked
	}
	if w := ask("none"); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("a third at once: %d", w.Code)
	}
	close(release)
	if a, b := <-done, <-done; a != 200 || b != 200 {
		t.Errorf("the first two: %d %d", a, b)
	}
}

// A state or an outcome of a later release, whatever its name, is read as a failure and is no markup.
func TestOddWordsAreNoMarkup(t *testing.T) {
	s := sample()
	st, _ := s.Status(t.Context())
	st.Hosts[0].State = history.State(evil)
	s.Status = func(context.Context) (history.Status, error) { return st, nil }
	odd := history.Run{ID: "r3", Hosts: []history.RunResult{{Name: "chrysalis", Outcome: ptr(history.Outcome(evil))}}}
	s.Outcomes = func(context.Context, int) ([]history.Run, error) { return []history.Run{odd}, nil }

	for _, path := range []string{"/", "/hosts/chrysalis"} {
		code, body := get(t, s, path)
		if code != 200 || strings.Contains(body, "<img") || strings.Contains(body, "<script>") {
			t.Errorf("%s: %d\n%s", path, code, body)
		}
		if !strings.Contains(body, `<span class="state bad"><span aria-hidden="true">✕</span> &lt;script&gt;`) {
			t.Errorf("%s does not show the odd state as a failure:\n%s", path, body)
		}
	}
}
