package main

import (
	"strings"
	"testing"
	"time"

	"bellhop/internal/history"
)

// What is wrong with the config is wrong on every host: it is told once.
func TestOneProblemIsToldOnce(t *testing.T) {
	problem, own, refused, now := "bellhop.yaml:3:1: no such thing\nbellhop.yaml:4:1: nor that", "disk full", history.Refused, time.Now()
	var out strings.Builder
	printStatus(&out, paint(false), history.Status{Hosts: []history.HostStatus{{Name: "a", State: refused, Error: &problem}, {Name: "b", State: refused, Error: &own}, {Name: "c", State: refused, Error: &problem}}}, now)
	if got := out.String(); strings.Count(got, "no such thing") != 1 || !strings.Contains(got, "\na, c: bellhop.yaml:3:1") || !strings.Contains(got, "\nb: disk full") {
		t.Errorf("status tells:\n%s", got)
	}
	out.Reset()
	printRun(&out, paint(false), history.Run{ID: "r", Outcome: &refused, StartedAt: now, Error: problem, Hosts: []history.RunResult{{Name: "a", Outcome: &refused, Error: &problem}, {Name: "b", Outcome: &refused, Error: &own}, {Name: "c"}}}, now)
	if got := out.String(); strings.Count(got, "no such thing") != 1 || !strings.Contains(got, "disk full") || !strings.Contains(got, "running  –") {
		t.Errorf("history tells:\n%s", got)
	}
}
