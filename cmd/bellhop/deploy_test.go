package main

import (
	"bytes"
	"strings"
	"testing"

	"bellhop/internal/history"
)

// A host that is still at work is neither success nor a reason to say that all is well.
func TestRunEnded(t *testing.T) {
	text := func(s history.Outcome) *history.Outcome {
		if s == "" {
			return nil
		}
		return &s
	}
	for _, tt := range []struct {
		outcome history.Outcome
		hosts   []history.Outcome // their outcomes; "" while at work
		code    int
		says    string
	}{
		{"nothing", nil, 0, "nothing every host is as the repo says"},
		{"done", []history.Outcome{"done", "done"}, 0, "done 2 done"},
		{"done", []history.Outcome{"done", ""}, exitHosts, "running 1 done, 1 running"},
		{"nothing", []history.Outcome{""}, exitHosts, "running 1 running"},
		{"nothing", []history.Outcome{"deploying"}, exitHosts, "running 1 running"},
		{"partial", []history.Outcome{"done", "failed", ""}, exitHosts, "partial 1 done, 1 failed, 1 running"},
		{"refused", nil, exitRefused, "refused no host was touched"},
		{"cancelled", []history.Outcome{""}, exitError, "cancelled 1 running"},
	} {
		run := &history.Run{Outcome: text(tt.outcome)}
		for _, o := range tt.hosts {
			run.Hosts = append(run.Hosts, history.RunResult{Name: "h", Outcome: text(o)})
		}
		if got := runCode(run); got != tt.code {
			t.Errorf("runCode(%s, hosts %q) = %d, want %d", tt.outcome, tt.hosts, got, tt.code)
		}
		var out bytes.Buffer
		printOutcome(&Env{Stdout: &out, Getenv: func(string) string { return "" }}, run, "", nil)
		if got := strings.TrimSpace(out.String()); got != tt.says {
			t.Errorf("printOutcome(%s, hosts %q) says %q, want %q", tt.outcome, tt.hosts, got, tt.says)
		}
	}
}
