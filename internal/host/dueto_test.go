package host_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

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

// A path that can't be changed and a unit that can't be enabled are due to their service. A disk that is full is
// due to none.
func TestTroubleOfOnePathOrUnit(t *testing.T) {
	for name, tc := range map[string]struct {
		spoil func(b *box)
		due   []string
		says  string
	}{
		"an immutable file":          {func(b *box) { b.chown = map[string]error{"/etc/bot.conf": unix.EPERM} }, []string{"bot"}, "write /etc/bot.conf: operation not permitted"},
		"a mount point":              {func(b *box) { b.chown = map[string]error{"/etc/bot.conf": unix.EBUSY} }, []string{"bot"}, "write /etc/bot.conf"},
		"a full disk":                {func(b *box) { b.chown = map[string]error{"/etc/bot.conf": unix.ENOSPC} }, nil, "no space left on device"},
		"an alias that somebody has": {func(b *box) { b.enable = map[string]error{"bot.service": errors.New("File exists")} }, []string{"bot"}, "unit bot.service: File exists"},
		"two units can't be enabled": {func(b *box) {
			b.enable = map[string]error{"bot.service": errors.New("x"), "web.service": errors.New("y")}
		}, []string{"bot", "web"}, "unit web.service: y"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			tc.spoil(b)
			got := b.deploy(twoOwners("one", "one"), bundle.OutcomeRolledBack)
			if !slices.Equal(got.res.Failing, tc.due) || !strings.Contains(got.res.Error, tc.says) {
				t.Errorf("due to %q, want %q: %s", got.res.Failing, tc.due, got.res.Error)
			}
		})
	}
}

// twoOwners are the services web and bot, without users or keys.
func twoOwners(web, bot string) *load {
	const unit = "[Service]\nExecStart=/x\n[Install]\nWantedBy=multi-user.target\n"
	return newLoad().service("web.service", unit).file("/etc/web.conf", web).of("web").service("bot.service", unit).file("/etc/bot.conf", bot)
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
