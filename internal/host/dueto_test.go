package host_test

import (
	"slices"
	"testing"

	"bellhop/internal/bundle"
	"bellhop/internal/lab"
)

// What refuses or undoes a run names the services that it is due to.
func TestFailuresAreDueToServices(t *testing.T) {
	const good = "[Service]\nExecStart=/x\n[Install]\nWantedBy=multi-user.target\n"
	for name, tc := range map[string]struct {
		unit, needs, outcome string
	}{
		"no link for a unit":          {"[Service]\nExecStart=/x2\n[Install]\nWantedBy=\n", "", bundle.OutcomeRolledBack},
		"a unit that does not start":  {"[Service]\nExecStart=/bin/false\n[Install]\nWantedBy=multi-user.target\n", "", bundle.OutcomeRolledBack},
		"a key of a newer systemd":    {"[Service]\nExecStart=/x\nRestartMode=direct\n[Install]\nWantedBy=multi-user.target\n", "", bundle.OutcomeRefused},
		"a command that is not there": {"[Service]\nExecStart=/x3\n[Install]\nWantedBy=multi-user.target\n", "podman", bundle.OutcomeRefused},
	} {
		t.Run(name, func(t *testing.T) {
			m := lab.NewMachine(t.TempDir())
			m.SetVersion(252)
			m.Lack("podman")
			offer := func(x string, needs string) (bundle.Offer, *load) {
				l := newLoad().service("x.service", x).service("y.service", good)
				o := l.offer()
				for i := range o.Manifest.Units {
					o.Manifest.Units[i].Service = o.Manifest.Units[i].Name[:1]
				}
				if needs != "" {
					o.Manifest.Needs = []bundle.Need{{Command: needs, Service: "x"}}
				}
				return o, l
			}
			o, l := offer(good, "")
			twinDeploy(t, m, o, l, bundle.OutcomeDone)
			o, l = offer(tc.unit, tc.needs)
			got := twinDeploy(t, m, o, l, tc.outcome)
			if !slices.Equal(got.res.Failing, []string{"x"}) {
				t.Errorf("due to %v, want x: %s", got.res.Failing, got.res.Error)
			}
		})
	}
}

// The record of a composed bundle names the commit of each service, and so do its generations.
func TestOriginsAreRecorded(t *testing.T) {
	m := lab.NewMachine(t.TempDir())
	l := newLoad().file("/etc/x", "one")
	o := l.offer()
	o.Origins = []bundle.Origin{{Service: "x", Commit: "c1"}, {Service: "y", Commit: "c2"}}
	if got := twinDeploy(t, m, o, l, bundle.OutcomeDone); !slices.Equal(got.res.Record.Origins, o.Origins) {
		t.Errorf("the record has %+v", got.res.Record.Origins)
	}
	l = newLoad().file("/etc/x", "two")
	if got := twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone); len(got.res.Record.Origins) > 0 {
		t.Errorf("a whole bundle has the origins %+v", got.res.Record.Origins)
	}
}
