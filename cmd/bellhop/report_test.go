package main

import (
	"errors"
	"strings"
	"testing"
	"time"

	"bellhop/internal/history"
	"bellhop/internal/history/results"
)

// A repo of another user is one: git's own words say what is wrong with it.
func TestNoRepo(t *testing.T) {
	if err := noRepo(errors.New("git rev-parse: exit status 128: fatal: not a git repository")); !strings.HasPrefix(hintFor(err), "git init") {
		t.Errorf("no repository: %v, hint %q", err, hintFor(err))
	}
	dubious := errors.New("git rev-parse: exit status 128: fatal: detected dubious ownership in repository at '/srv/config'")
	if err := noRepo(dubious); err != dubious {
		t.Errorf("a repo of another user: %v", err)
	}
}

// What is wrong with the config is wrong on every host: it is told once.
func TestOneProblemIsToldOnce(t *testing.T) {
	problem, own, now := "bellhop.yaml:3:1: no such thing\nbellhop.yaml:4:1: nor that", "disk full", time.Now()
	state, refused := history.Refused, history.OutcomeRefused
	var out strings.Builder
	printStatus(&out, paint(false), history.Status{Hosts: []history.HostStatus{{Name: "a", State: state, Error: &problem}, {Name: "b", State: state, Error: &own}, {Name: "c", State: state, Error: &problem}}}, true, now)
	if got := out.String(); strings.Count(got, "no such thing") != 1 || !strings.Contains(got, "\na, c: bellhop.yaml:3:1") || !strings.Contains(got, "\nb: disk full") {
		t.Errorf("status tells:\n%s", got)
	}
	out.Reset()
	printRun(&out, paint(false), history.Run{ID: "r", Outcome: &refused, StartedAt: now, Error: problem, Hosts: []history.RunResult{{Name: "a", Outcome: &refused, Error: &problem}, {Name: "b", Outcome: &refused, Error: &own}, {Name: "c"}}}, now)
	if got := out.String(); strings.Count(got, "no such thing") != 1 || !strings.Contains(got, "disk full") || !strings.Contains(got, "running  –") {
		t.Errorf("history tells:\n%s", got)
	}
}

// An unconfirmed host says why beside its state.
func TestStatusShowsTheReason(t *testing.T) {
	reason, problem := results.ReasonCutOff, "with the change nobody could log in any more"
	var out strings.Builder
	printStatus(&out, paint(false), history.Status{Hosts: []history.HostStatus{{Name: "a", State: history.Unconfirmed, Reason: &reason, Error: &problem}, {Name: "b", State: history.Current}}}, true, time.Now())
	if got := out.String(); !strings.Contains(got, "unconfirmed (cut-off)") || strings.Contains(got, "current (") {
		t.Errorf("status shows\n%s", got)
	}
}
