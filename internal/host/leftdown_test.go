package host_test

import (
	"slices"
	"strings"
	"testing"

	"bellhop/internal/bundle"
	"bellhop/internal/lab"
)

const waitingUnit = "[Unit]\nConditionPathExists=/etc/gate\n" + botUnit

// botAt is a bot with a file that its unit watches.
func botAt(unit, version string) *load {
	return newLoad().service("bot.service", unit, "file:/etc/bot").file("/etc/bot", version).of("first")
}

// A unit that had failed, or waited, before a run that was undone is no unit that somebody stopped by hand:
// the next change of it is started.
func TestUnitThatFailedBeforeAnUndoneRunIsStartedByTheNext(t *testing.T) {
	for _, tt := range []struct {
		name, unit string
		down       func(m *lab.Machine) // takes the unit down
		up         func(m *lab.Machine) // what keeps it from running is gone
		failed     string               // result that a look tells after the undo
	}{
		{"it failed", botUnit, func(m *lab.Machine) { m.Crash("bot.service") }, func(*lab.Machine) {}, "exit-code"},
		{"it waited", waitingUnit, func(*lab.Machine) {}, func(m *lab.Machine) { m.Plant("/etc/gate", "") }, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := lab.NewMachine(t.TempDir())
			one := botAt(tt.unit, "one")
			twinDeploy(t, m, one.offer(), one, bundle.OutcomeDone)
			tt.down(m)
			if m.Active("bot.service") {
				t.Fatal("bot.service runs, and should be down")
			}

			tt.up(m)
			for _, version := range []string{"bad", "worse"} {
				m.Fail("bot.service")
				bad := botAt(tt.unit, version)
				twinDeploy(t, m, bad.offer(), bad, bundle.OutcomeRolledBack)
				if m.Unit("bot.service").Active == "active" {
					t.Fatal("bot.service runs after the undo, and did not before")
				}

				_, seen := lookAt(t, m.Host(), bundle.Look{}, true)
				if len(seen.Drift) > 0 {
					t.Errorf("after %s a look takes for done by hand: %v", version, seen.Drift)
				}
				var failed []string
				for _, u := range seen.FailedUnits {
					failed = append(failed, u.Result)
				}
				if got := strings.Join(failed, " "); got != tt.failed {
					t.Errorf("after %s a look tells of the failures %q, want %q", version, got, tt.failed)
				}
			}

			m.Mend("bot.service")
			good := botAt(tt.unit, "good")
			got := twinDeploy(t, m, good.offer(), good, bundle.OutcomeDone)
			if !m.Active("bot.service") || len(got.res.Drifted) > 0 {
				t.Errorf("bot.service is active: %v, stopped by hand: %q; want it started", m.Active("bot.service"), got.res.Drifted)
			}
		})
	}
}

// What a person does after the undo counts: a unit that was started and stopped by hand stays stopped.
func TestUnitStoppedByHandAfterAnUndoneRun(t *testing.T) {
	m := lab.NewMachine(t.TempDir())
	one := botAt(botUnit, "one")
	twinDeploy(t, m, one.offer(), one, bundle.OutcomeDone)
	m.Crash("bot.service")
	m.Fail("bot.service")
	bad := botAt(botUnit, "bad")
	twinDeploy(t, m, bad.offer(), bad, bundle.OutcomeRolledBack)

	m.Mend("bot.service")
	m.Start("bot.service")
	m.Stop("bot.service")
	good := botAt(botUnit, "good")
	got := twinDeploy(t, m, good.offer(), good, bundle.OutcomeDone)
	if m.Active("bot.service") || !slices.Contains(got.res.Drifted, "bot.service") {
		t.Errorf("bot.service is active: %v, stopped by hand: %q; want it left stopped", m.Active("bot.service"), got.res.Drifted)
	}
}

// The composed bundle after a failure does not start the service that failed again: the others would not
// be brought.
func TestHeldServiceIsNotStartedAgain(t *testing.T) {
	for name, unit := range map[string]string{
		"a service": botUnit,
		"a job":     "[Service]\nType=oneshot\nExecStart=/bin/bot\n[Install]\nWantedBy=multi-user.target\n",
	} {
		t.Run(name, func(t *testing.T) {
			m := lab.NewMachine(t.TempDir())
			with := func(other string) *load {
				return botAt(unit, "one").service("other.service", botUnit, "file:/etc/other").file("/etc/other", other).of("other")
			}
			one := with("one")
			twinDeploy(t, m, one.offer(), one, bundle.OutcomeDone)
			m.Fail("bot.service")
			if m.Active("bot.service") {
				m.Crash("bot.service")
			} else if err := m.Start("bot.service"); err == nil {
				t.Fatal("the job did not fail")
			}

			two := with("two")
			twinDeploy(t, m, two.offer(), two, bundle.OutcomeRolledBack)
			starts := m.Starts("bot.service")
			held := two.offer()
			held.Held = []string{"first"}
			got := twinDeploy(t, m, held, two, bundle.OutcomeDone)
			if n := m.Starts("bot.service"); n != starts || len(got.res.Drifted) > 0 {
				t.Errorf("bot.service was started %d times more, stopped by hand: %q", n-starts, got.res.Drifted)
			}
			if text := readTwin(t, m, "/etc/other"); text != "two" || !m.Active("other.service") {
				t.Errorf("/etc/other is %q, other.service active %v", text, m.Active("other.service"))
			}

			m.Mend("bot.service")
			three := with("three") // a person asked to try again
			twinDeploy(t, m, three.offer(), three, bundle.OutcomeDone)
			if m.Starts("bot.service") != starts+1 {
				t.Errorf("bot.service was started %d times when nothing was held any more, want once", m.Starts("bot.service")-starts)
			}
		})
	}
}

// A unit of the host's own that systemd stopped for one of a run, because of its Conflicts=, runs again
// when the run is undone.
func TestUndoStartsWhatConflicted(t *testing.T) {
	m := lab.NewMachine(t.TempDir())
	m.Plant("/usr/lib/systemd/system/sshd.service", botUnit)
	m.Plant("/usr/lib/systemd/system/idle.service", botUnit)
	if err := m.Start("sshd.service"); err != nil {
		t.Fatal(err)
	}
	m.Fail("other.service")
	l := newLoad().service("bot.service", "[Unit]\nConflicts=sshd.service idle.service\n"+botUnit).service("other.service", botUnit)
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeRolledBack)
	if m.Count("stop", "sshd.service") == 0 && !m.Active("sshd.service") {
		t.Error("sshd.service was not stopped by the run")
	}
	if !m.Active("sshd.service") || m.Active("idle.service") {
		t.Errorf("sshd.service is active: %v, idle.service: %v; want what ran before", m.Active("sshd.service"), m.Active("idle.service"))
	}
}
