package host_test

import (
	"strings"
	"testing"

	"bellhop/internal/bundle"
	"bellhop/internal/lab"
)

// What the systemd of a host would ignore is refused there, before anything is touched.
func TestUnitFilesThatTheHostDoesNotKnow(t *testing.T) {
	const install = "[Install]\nWantedBy=multi-user.target\n"
	for _, c := range []struct {
		name, unit string
		version    int
		want       string // "" is done
	}{
		{"a key of a newer systemd", "[Service]\nExecStart=/x\nRestartMode=direct\n" + install, 252, "x.service:3: RestartMode= needs systemd 254 (this host has systemd 252)"},
		{"the same on a host that has it", "[Service]\nExecStart=/x\nRestartMode=direct\n" + install, 254, ""},
		{"a key that no systemd has", "[Service]\nExecStart=/x\nFrobnicate=yes\n" + install, 252, "Frobnicate"},
		{"the same on a host newer than the tables", "[Service]\nExecStart=/x\nFrobnicate=yes\n" + install, 300, ""},
		{"a blank that is none", "[Service]\nExecStart=/x\n[Install]\n\u00a0WantedBy=multi-user.target\n", 252, "x.service:4"},
		{"a section in the wrong case", "[Service]\nExecStart=/x\n[install]\nWantedBy=multi-user.target\n", 252, "x.service:3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := lab.NewMachine(t.TempDir())
			m.SetVersion(c.version)
			l := newLoad().service("x.service", c.unit)
			if c.want == "" {
				twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
				return
			}
			got := twinDeploy(t, m, l.offer(), l, bundle.OutcomeRefused)
			if !strings.Contains(got.res.Error, c.want) {
				t.Errorf("error %q, want %q in it", got.res.Error, c.want)
			}
			if m.Reloads() != 0 || m.Active("x.service") {
				t.Error("something was touched")
			}
		})
	}
}

// A unit file that did not change is not judged again: nor is systemd asked its version.
func TestUnitFilesThatStayAreNotJudged(t *testing.T) {
	m := lab.NewMachine(t.TempDir())
	m.SetVersion(300)
	load := func(conf string) *load {
		return newLoad().service("x.service", "[Service]\nExecStart=/x\nFrobnicate=yes\n[Install]\nWantedBy=multi-user.target\n").file("/etc/x", conf)
	}
	l := load("one")
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	m.SetVersion(252)
	l = load("two")
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
}

// A unit that was to be enabled and for which systemd makes no link would be gone after the next
// boot: the run fails, and is undone.
func TestTwinUnitThatIsNotEnabled(t *testing.T) {
	m := lab.NewMachine(t.TempDir())
	l := newLoad().service("x.service", "[Service]\nExecStart=/x\n[Install]\nWantedBy=multi-user.target\n")
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	l = newLoad().service("x.service", "[Service]\nExecStart=/x2\n[Install]\nWantedBy=\n")
	got := twinDeploy(t, m, l.offer(), l, bundle.OutcomeRolledBack)
	if !strings.Contains(got.res.Error, "unit x.service: it was enabled, and systemd made no link for it") {
		t.Errorf("error %q", got.res.Error)
	}
	if err := m.Reboot(); err != nil || !m.Active("x.service") {
		t.Errorf("after a reboot it does not run: %v", err)
	}
}
