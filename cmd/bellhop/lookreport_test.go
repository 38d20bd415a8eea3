package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"bellhop/deploy/drift"
	"bellhop/internal/history"
	"bellhop/internal/history/looks"
)

// Status tells what looks found, each with what to type, and nothing of a host where all is well.
func TestStatusTellsWhatLooksFound(t *testing.T) {
	now := time.Now()
	since := now.Add(-3 * time.Minute)
	yes, no, two, none := true, false, 2, 0
	var units []looks.FailedUnit
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g"} {
		units = append(units, looks.FailedUnit{Name: name + ".service", Result: "exit-code", Since: &since})
	}

	bad := history.HostStatus{Name: "h", State: history.Current, Keys: history.KeyCount{Expected: 3, Present: 2}, Drift: &two, RebootRequired: &yes, Units: &looks.UnitStatus{Failed: units}}
	want := []string{
		"a.service failed (exit-code), 3 min ago: bellhop logs h a.service",
		"2 more units failed: bellhop drift h",
		"2 things changed by hand: bellhop drift h",
		"1 key missing: bellhop key push h",
		"reboot required: bellhop reboot h",
	}
	got := lookLines(bad, now)
	for _, line := range want {
		if !slices.Contains(got, line) {
			t.Errorf("%q is missing in:\n%s", line, strings.Join(got, "\n"))
		}
	}
	if len(got) != len(want)+4 {
		t.Errorf("%d lines, want %d:\n%s", len(got), len(want)+4, strings.Join(got, "\n"))
	}

	for _, well := range []history.HostStatus{
		{Name: "looked at", State: history.Current, Drift: &none, RebootRequired: &no, Units: &looks.UnitStatus{Running: 3}},
		{Name: "never looked at", State: history.Current},
		{Name: "away", State: history.Current, AwaySince: &since, Keys: history.KeyCount{Expected: 2}},
	} {
		if lines := lookLines(well, now); len(lines) > 0 {
			t.Errorf("%s: %q", well.Name, lines)
		}
	}
}

// drift says of each host what differs, and by its exit code whether anything does.
func TestDriftIsTold(t *testing.T) {
	diff, why, is, want := "--- /etc/a\n+++ /etc/a\n@@ -1 +1 @@\n-one\n+two\n", "holds a key", "0600", "0644"
	hosts := []drift.HostDrift{
		{Name: "a", State: drift.OK, More: 3, KeysMissing: []string{"db"}, RebootRequired: true, Drift: []drift.Difference{
			{Kind: "file", Name: "/etc/a", What: "changed", Diff: &diff}, {Kind: "file", Name: "/etc/b", What: "changed", Why: &why},
			{Kind: "file", Name: "/etc/c", What: "mode", Want: &want, Is: &is},
		}},
		{Name: "b", State: drift.OK}, {Name: "c", State: drift.Away, Error: &why}, {Name: "d", State: drift.Unknown, Error: &why}, {Name: "e", State: drift.Never},
	}
	var out bytes.Buffer
	printDrift(&out, paint(false), hosts, time.Now())
	for _, line := range []string{
		"a: 6 things differ\n", "  file /etc/a: changed\n", "    -one\n    +two\n", "    no diff: holds a key\n", "  file /etc/c: mode: it is 0600, and should be 0644\n",
		"  and 3 more\n", "  key db: missing\n", "  reboot required: bellhop reboot a\n", "b: nothing differs\n", "c: does not answer: ", "d: unknown: ", "e: nothing was deployed there yet\n",
	} {
		if !strings.Contains(out.String(), line) {
			t.Errorf("%q is missing in:\n%s", line, out.String())
		}
	}

	for i, c := range []struct {
		hosts []drift.HostDrift
		code  int
	}{{hosts, exitChanges}, {hosts[1:], exitHosts}, {append(hosts[1:2:2], hosts[4]), 0}, {nil, 0}} {
		got := 0
		if err := driftExit(c.hosts); err != nil {
			got = err.(*codeError).code
		}
		if got != c.code {
			t.Errorf("%d: exit code %d, want %d", i, got, c.code)
		}
	}
}
