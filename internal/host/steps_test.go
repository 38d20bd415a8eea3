package host_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/lab"
)

// steps gives a service steps. Its digest is that of its first file, as a stand-in for the
// deployer's.
func (l *load) steps(service string, steps ...bundle.Step) *load {
	l.Services = append(l.Services, bundle.Service{Name: service, Before: steps, Digest: l.Files[0].Digest})
	return l
}

// dump is a bot with a step before it.
func dump(conf string, steps ...bundle.Step) *load {
	return newLoad().file("/etc/bot", conf).service("bot.service", botUnit, "file:/etc/bot").steps("bot", steps...)
}

func wantRan(t *testing.T, m *lab.Machine, want ...string) {
	t.Helper()
	if got := m.Ran(); !slices.Equal(got, want) {
		t.Errorf("commands %q, want %q", got, want)
	}
	if units := m.CommandUnits(); len(units) > 0 {
		t.Errorf("units %q were left behind", units)
	}
}

func TestTwinStepsComeBeforeAChange(t *testing.T) {
	m := lab.NewMachine(t.TempDir())
	backup := bundle.Step{Command: "backup", User: "daemon"}
	check := bundle.Step{Command: "check", First: true}

	l := dump("one", backup, check)
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	wantRan(t, m, "root: check")

	seen := ""
	m.Script("backup", lab.Script{Do: func() { seen = readTwin(t, m, "/etc/bot") }})
	l = dump("two", backup, check)
	got := twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	wantRan(t, m, "root: check", "daemon: backup", "root: check")
	if seen != "one" {
		t.Errorf("the step saw /etc/bot as %q, want it untouched", seen)
	}
	if i := slices.Index(got.events, "before"); i < 0 || i > slices.Index(got.events, "begin") {
		t.Errorf("events %q, want before, then begin", got.events)
	}

	// What does not touch the service, brings back what was there, or takes it away has no steps.
	l = dump("two", backup, check).file("/etc/other", "x")
	l.Files[len(l.Files)-1].Service = "other"
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	l = dump("two", backup, check, bundle.Step{Command: "more"})
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone) // only how it is judged
	l = dump("one", backup, check)
	o := l.offer()
	o.NoBefore = true
	twinDeploy(t, m, o, l, bundle.OutcomeDone)
	gone := newLoad().file("/etc/other", "y")
	gone.Files[0].Service = "other"
	twinDeploy(t, m, gone.offer(), gone, bundle.OutcomeDone)
	wantRan(t, m, "root: check", "daemon: backup", "root: check")
}

func TestTwinStepFails(t *testing.T) {
	for _, tt := range []struct {
		name   string
		step   bundle.Step
		script lab.Script
		wrong  string
		lines  []string
	}{
		{"it exits with 3", bundle.Step{Command: "backup"}, lab.Script{Exit: 3, Says: []string{"disk full"}}, "step 1 before service bot (backup): exit status 3\nnothing was touched; what it said: bellhop logs chrysalis bellhop-before-bot.service", []string{"disk full"}},
		{"it takes too long", bundle.Step{Command: "backup", Timeout: 20}, lab.Script{Takes: time.Hour}, "it was not done within 20ms, and was killed", nil},
		{"its user is not there", bundle.Step{Command: "backup", User: "nobody-here"}, lab.Script{}, "the host has no user nobody-here", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := lab.NewMachine(t.TempDir())
			l := dump("one")
			twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
			m.ClearLog()

			m.Script("backup", tt.script)
			l = dump("two", tt.step, bundle.Step{Command: "never"})
			got := twinDeploy(t, m, l.offer(), l, bundle.OutcomeRefused)
			if got.res.Refused != bundle.RefusedBefore || !strings.Contains(got.res.Error, tt.wrong) {
				t.Errorf("refused for %q: %q, want %q", got.res.Refused, got.res.Error, tt.wrong)
			}
			wantList(t, "failing", got.res.Failing, "bot")
			e := got.res.Evidence
			if len(e) != 1 || e[0].Unit != "bellhop-before-bot.service" || e[0].Service != "bot" || !slices.Equal(e[0].Lines, tt.lines) {
				t.Errorf("evidence %+v, want that of the step", e)
			}
			if text := readTwin(t, m, "/etc/bot"); text != "one" || len(m.Log()) > 0 {
				t.Errorf("/etc/bot is %q, units did %v; want nothing touched", text, m.Log())
			}
			if slices.Contains(m.Ran(), "root: never") || len(m.CommandUnits()) > 0 {
				t.Errorf("commands %q, units %q left; want the steps to end with the one that failed", m.Ran(), m.CommandUnits())
			}
		})
	}
}

// A step runs once, wherever the process that started it dies.
func TestTwinStepsRunOnce(t *testing.T) {
	for _, at := range []string{"preflight", "step 1 before bot", "step 2 before bot", "before bot"} {
		t.Run(at, func(t *testing.T) {
			m := lab.NewMachine(t.TempDir())
			l := dump("one")
			twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)

			died := 0
			die := func(when string) {
				if when == at && died == 0 {
					died++
					panic("killed " + at)
				}
			}
			m.Script("one", lab.Script{Takes: 30 * time.Millisecond})
			m.Script("two", lab.Script{Takes: 30 * time.Millisecond})
			m.Host().Reached = die
			l = dump("two", bundle.Step{Command: "one"}, bundle.Step{Command: "two"})
			twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
			if died != 1 {
				t.Errorf("died %d times, want once", died)
			}
			wantRan(t, m, "root: one", "root: two")
		})
	}
}

// The runs of one deploy share what came of steps; another deploy has them run again.
func TestTwinStepsOfOneDeploy(t *testing.T) {
	m := lab.NewMachine(t.TempDir())
	l := dump("one")
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)

	m.Fail("bot.service")
	l = dump("two", bundle.Step{Command: "backup"})
	first := l.offer()
	twinDeploy(t, m, first, l, bundle.OutcomeRolledBack)
	m.Mend("bot.service")
	second := l.offer()
	second.After = first.Run
	twinDeploy(t, m, second, l, bundle.OutcomeDone)
	wantRan(t, m, "root: backup")

	l = dump("three", bundle.Step{Command: "backup"})
	third := l.offer()
	third.After = first.Run
	twinDeploy(t, m, third, l, bundle.OutcomeDone) // another digest of the service
	l = dump("two", bundle.Step{Command: "backup"})
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	wantRan(t, m, "root: backup", "root: backup", "root: backup")
}

// Services do not wait for each other's steps.
func TestTwinStepsOfServicesRunSideBySide(t *testing.T) {
	two := func(conf string, steps ...bundle.Step) *load {
		return newLoad().file("/etc/a", conf).of("a").file("/etc/b", conf).of("b").steps("a", steps...).steps("b", steps...)
	}
	m := lab.NewMachine(t.TempDir())
	l := two("one")
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)

	both := make(chan bool)
	meet := func() {
		select {
		case both <- true:
		case <-both:
		case <-time.After(time.Minute):
			t.Error("one waits for the other")
		}
	}
	m.Script("meet", lab.Script{Do: meet})
	l = two("two", bundle.Step{Command: "meet"})
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	wantRan(t, m, "root: meet", "root: meet")
}

// A step may take its time: what the host holds is looked at again after it.
func TestTwinPlanIsMadeAnewAfterSteps(t *testing.T) {
	m := lab.NewMachine(t.TempDir())
	l := dump("one")
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	m.Script("edit", lab.Script{Do: func() {
		if err := m.Plant("/etc/bot", "by hand"); err != nil {
			t.Error(err)
		}
	}})
	l = dump("two", bundle.Step{Command: "edit"})
	got := twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	wantList(t, "restored", got.res.Restored, "/etc/bot")
}
