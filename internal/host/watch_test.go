package host_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/host/machine"
	"bellhop/internal/lab"
	"bellhop/internal/mask"
)

const botUnit = "[Service]\nExecStart=/bin/bot\n[Install]\nWantedBy=multi-user.target\n"

// judged says how a service is judged.
func (l *load) judged(name string, settle time.Duration, probes ...bundle.Probe) *load {
	ms := settle.Milliseconds()
	l.Services = append(l.Services, bundle.Service{Name: name, Settle: &ms, Probes: probes})
	return l
}

// The twin's five seconds are ten milliseconds.
func TestTwinUnitsThatDie(t *testing.T) {
	for _, tt := range []struct {
		name    string
		unit    string
		fate    func(m *lab.Machine)
		outcome string
		wrong   string
		result  string
	}{
		{"at once", botUnit, func(m *lab.Machine) { m.DieAfter("bot.service", time.Nanosecond) }, bundle.OutcomeRolledBack, "health: unit bot.service: it is failed (exit-code, status=1/FAILURE)", "exit-code"},
		{"within settle", botUnit, func(m *lab.Machine) { m.DieAfter("bot.service", 6*time.Millisecond) }, bundle.OutcomeRolledBack, "unit bot.service: it is failed", "exit-code"},
		{"a crash loop", "[Service]\nExecStart=/bin/bot\nRestart=always\n[Install]\nWantedBy=multi-user.target\n", func(m *lab.Machine) { m.DieAfter("bot.service", 6*time.Millisecond) }, bundle.OutcomeRolledBack, "unit bot.service: it dies and is restarted", "restarted"},
		{"after settle", botUnit, func(m *lab.Machine) { m.DieAfter("bot.service", time.Minute) }, bundle.OutcomeDone, "", ""},
		{"a oneshot that ends well", "[Service]\nType=oneshot\nExecStart=/bin/bot\n[Install]\nWantedBy=multi-user.target\n", func(*lab.Machine) {}, bundle.OutcomeDone, "", ""},
		{"never ready", "[Service]\nType=notify\nExecStart=/bin/bot\n[Install]\nWantedBy=multi-user.target\n", func(m *lab.Machine) { m.Fail("bot.service") }, bundle.OutcomeRolledBack, "unit bot.service: it is failed", "exit-code"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := lab.NewMachine(t.TempDir())
			before := newLoad().file("/etc/bot", "old")
			twinDeploy(t, m, before.offer(), before, bundle.OutcomeDone)

			tt.fate(m)
			m.Say("bot.service", "I begin", "I end")
			l := newLoad().service("bot.service", tt.unit).file("/etc/bot", "new")
			got := twinDeploy(t, m, l.offer(), l, tt.outcome)
			if !strings.Contains(got.res.Error, tt.wrong) {
				t.Errorf("error %q, want %q in it", got.res.Error, tt.wrong)
			}
			if tt.wrong == "" {
				if got.res.Failing != nil || got.res.Evidence != nil {
					t.Errorf("failing %q, evidence %v of a run that is done", got.res.Failing, got.res.Evidence)
				}
				return
			}
			wantList(t, "failing", got.res.Failing, "bot")
			e := got.res.Evidence
			if len(e) != 1 || e[0].Service != "bot" || e[0].Unit != "bot.service" || e[0].Result != tt.result || !slices.Equal(e[0].Lines, []string{"I begin", "I end"}) {
				t.Errorf("evidence %+v, want that of bot.service", e)
			}
			if text := readTwin(t, m, "/etc/bot"); text != "old" || m.Active("bot.service") {
				t.Errorf("/etc/bot is %q and bot.service active %v after the undo", text, m.Active("bot.service"))
			}
		})
	}
}

// Settle times are each service's own, and one of 0 is off.
func TestTwinSettleIsEachServices(t *testing.T) {
	m := lab.NewMachine(t.TempDir())
	m.DieAfter("quick.service", time.Minute)
	m.DieAfter("slow.service", 100*time.Millisecond)
	quick := newLoad().service("quick.service", botUnit).of("quick").judged("quick", 0)
	twinDeploy(t, m, quick.offer(), quick, bundle.OutcomeDone)

	slow := newLoad().service("slow.service", botUnit).of("slow").service("quick.service", botUnit).of("quick").judged("quick", 0).judged("slow", 5*time.Minute)
	got := twinDeploy(t, m, slow.offer(), slow, bundle.OutcomeRolledBack)
	wantList(t, "failing", got.res.Failing, "slow")
}

func TestTwinProbes(t *testing.T) {
	probe := bundle.Probe{HTTP: "http://127.0.0.1:80/healthz", Grace: time.Hour.Milliseconds()}
	m := lab.NewMachine(t.TempDir())
	bad := machine.Answer{Wrong: "status 500, want 200", Status: 500, Body: "no database\nsorry\n"}

	// It may fail at first.
	l := newLoad().service("bot.service", botUnit).judged("bot", 5*time.Second, probe)
	m.Answer(probe.Name(), bad, bad, machine.Answer{})
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	if n := len(m.Asked()); n < 3 {
		t.Errorf("asked %d times, want until it answers well", n)
	}

	// A change of how it is judged asks nothing and restarts nothing.
	probe.Grace = 1
	l = newLoad().service("bot.service", botUnit).judged("bot", 5*time.Second, probe)
	m.Answer(probe.Name(), bad)
	starts, asked := m.Starts("bot.service"), len(m.Asked())
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	if m.Starts("bot.service") != starts || len(m.Asked()) != asked {
		t.Error("bot.service was started anew, or asked, for a change of its probe")
	}

	// The next change of the service is judged by it.
	l = newLoad().service("bot.service", botUnit+"# changed\n").judged("bot", 5*time.Second, probe)
	got := twinDeploy(t, m, l.offer(), l, bundle.OutcomeRolledBack)
	wantList(t, "failing", got.res.Failing, "bot")
	e := got.res.Evidence
	if len(e) != 1 || e[0].Probe != probe.Name() || e[0].Result != bad.Wrong || e[0].Exit != 500 || !slices.Equal(e[0].Lines, []string{"no database", "sorry"}) {
		t.Errorf("evidence %+v, want that of the probe", e)
	}

	// A service that does not change is not asked, and one that leaves is not either.
	m.Answer(probe.Name())
	probe.Grace = time.Hour.Milliseconds()
	asked = len(m.Asked())
	l = newLoad().service("bot.service", botUnit).judged("bot", 5*time.Second, probe).file("/etc/other", "x")
	l.Files[len(l.Files)-1].Service = "other"
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	gone := newLoad().file("/etc/other", "x")
	gone.Files[0].Service = "other"
	twinDeploy(t, m, gone.offer(), gone, bundle.OutcomeDone)
	if n := len(m.Asked()); n != asked {
		t.Errorf("asked %d times more, want none", n-asked)
	}
}

// A key that two services share restarts both, and each is judged by its own word.
func TestTwinOtherServiceIsJudgedToo(t *testing.T) {
	make := func(value string) *load {
		l := newLoad()
		l.Keys = append(l.Keys, bundle.Key{Name: "token", Path: bundle.KeyDir + "/token", User: "root", Group: "root", Mode: 0o400, Service: "a"})
		l.keys["token"] = value
		l.service("a.service", botUnit, "key:token")
		l.Units[len(l.Units)-1].Service = "a"
		l.service("b.service", botUnit, "key:token")
		l.Units[len(l.Units)-1].Service = "b"
		return l
	}
	m := lab.NewMachine(t.TempDir())
	l := make("first")
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	m.DieAfter("b.service", time.Nanosecond)
	l = make("second")
	got := twinDeploy(t, m, l.offer(), l, bundle.OutcomeRolledBack)
	wantList(t, "failing", got.res.Failing, "b")
}

// What was only reloaded must live on.
func TestTwinReloadedUnitIsJudged(t *testing.T) {
	make := func(conf string) *load {
		l := newLoad().service("web.service", "[Service]\nExecStart=/bin/web\nExecReload=/bin/true\n[Install]\nWantedBy=multi-user.target\n", "file:/etc/web.conf").file("/etc/web.conf", conf)
		l.Units[0].OnChange = bundle.Reload
		return l
	}
	m := lab.NewMachine(t.TempDir())
	l := make("one")
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	m.Host().Reached = func(step string) {
		if step == "start" {
			m.Crash("web.service")
		}
	}
	l = make("two")
	got := twinDeploy(t, m, l.offer(), l, bundle.OutcomeRolledBack)
	if m.Count("reload", "web.service") == 0 || !strings.Contains(got.res.Error, "unit web.service: it is failed") {
		t.Errorf("error %q after %d reloads, want that it died of one", got.res.Error, m.Count("reload", "web.service"))
	}
	m.Host().Reached = nil
	if text := readTwin(t, m, "/etc/web.conf"); text != "one" || !m.Active("web.service") {
		t.Errorf("/etc/web.conf is %q and web.service active %v after the undo", text, m.Active("web.service"))
	}
}

// Others that fail meanwhile do not fail the run, but are told.
func TestTwinOthersThatFailAreTold(t *testing.T) {
	m := lab.NewMachine(t.TempDir())
	l := newLoad().service("a.service", botUnit).service("b.service", botUnit)
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	m.Host().Reached = func(step string) {
		if step == "start" {
			m.Crash("b.service")
		}
	}
	l = newLoad().service("a.service", botUnit+"#\n").service("b.service", botUnit)
	got := twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	if w := strings.Join(got.res.Warnings, "\n"); !strings.Contains(w, "unit b.service failed meanwhile") {
		t.Errorf("warnings %q, want one of b.service", w)
	}

	want := []bundle.UnitSeen{{Name: "a.service", Active: "active", Sub: "running"}, {Name: "b.service", Active: "failed", Sub: "failed"}}
	if !slices.Equal(got.res.Units, want) {
		t.Errorf("units %v, want %v", got.res.Units, want)
	}
}

// A service that its timer starts may fail by what the run brought of it, which is not to be denied.
func TestTwinServiceOfATimerThatFails(t *testing.T) {
	timed := func(program string) *load {
		l := newLoad().service("tick.timer", "[Timer]\nOnCalendar=hourly\n[Install]\nWantedBy=timers.target\n").
			service("tick.service", "[Service]\nExecStart="+program+"\n").
			service("a.service", botUnit+"# beside "+program+"\n")
		tick := &l.Units[1]
		tick.Enable, tick.Start = false, false
		return l
	}
	m := lab.NewMachine(t.TempDir())
	l := timed("/bin/true")
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	m.Host().Reached = func(step string) {
		if step == "start" {
			m.Trigger("tick.timer")
			m.Crash("tick.service")
		}
	}

	l = timed("/bin/false")
	got := twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	w := strings.Join(got.res.Warnings, "\n")
	if !strings.Contains(w, "unit tick.service failed meanwhile") || strings.Contains(w, "did not touch") {
		t.Errorf("warnings %q, want one of tick.service, which does not say that the run did not touch it", w)
	}
}

// A unit that prints its key does not bring the value to disk by way of evidence: not the value that
// came, nor the one that it replaces.
func TestTwinEvidenceHoldsNoKeys(t *testing.T) {
	const first, second = "first-value-of-the-token", "second-value-of-the-token"
	load := func(value string) *load {
		l := newLoad().service("bot.service", botUnit, "key:token")
		l.Keys = append(l.Keys, bundle.Key{Name: "token", Path: bundle.KeyDir + "/token", User: "root", Group: "root", Mode: 0o400, Service: "bot"})
		l.keys["token"] = value
		return l
	}
	m := lab.NewMachine(t.TempDir())
	l := load(first)
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)

	m.DieAfter("bot.service", time.Nanosecond)
	m.Say("bot.service", "was "+first, "is "+second[:9], second[9:])
	l = load(second)
	got := twinDeploy(t, m, l.offer(), l, bundle.OutcomeRolledBack)
	if len(got.res.Evidence) != 1 || !slices.Equal(got.res.Evidence[0].Lines, []string{mask.Withheld}) {
		t.Errorf("evidence %+v, want its lines withheld", got.res.Evidence)
	}

	m.Say("bot.service", "was "+first, "is "+second)
	got = twinDeploy(t, m, l.offer(), l, bundle.OutcomeRolledBack)
	if want := []string{"was ‹key token›", "is ‹key token›"}; len(got.res.Evidence) != 1 || !slices.Equal(got.res.Evidence[0].Lines, want) {
		t.Errorf("evidence %+v, want the lines %q", got.res.Evidence, want)
	}

	err := filepath.WalkDir(m.Path(bundle.StateDir), func(file string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		p, err := os.ReadFile(file)
		for _, value := range []string{first, second, second[9:]} {
			if strings.Contains(string(p), value) {
				t.Errorf("%s holds the value of a key", file)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A result that a dying process could not give is given by the next, with its evidence.
func TestTwinEvidenceOutlivesTheProcess(t *testing.T) {
	m := lab.NewMachine(t.TempDir())
	m.DieAfter("bot.service", time.Nanosecond)
	m.Say("bot.service", "no database")
	died := false
	m.Host().Reached = func(step string) {
		if step == "undo paths" && !died {
			died = true
			panic("killed at " + step)
		}
	}
	l := newLoad().service("bot.service", botUnit)
	got := twinDeploy(t, m, l.offer(), l, bundle.OutcomeRolledBack)
	wantList(t, "failing", got.res.Failing, "bot")
	if !died || len(got.res.Evidence) != 1 || !slices.Equal(got.res.Evidence[0].Lines, []string{"no database"}) {
		t.Errorf("died %v, evidence %+v; want that of bot.service", died, got.res.Evidence)
	}
}

func readTwin(t *testing.T, m *lab.Machine, path string) string {
	t.Helper()
	p, err := os.ReadFile(m.Path(path))
	if err != nil {
		t.Fatal(err)
	}
	return string(p)
}

// A unit file that systemd can't use is its service's fault, though nothing was started.
func TestTwinUnusableUnitIsItsServicesFault(t *testing.T) {
	m := lab.NewMachine(t.TempDir())
	l := newLoad().service("bad.service", "[Service]\nType=simple\n").of("bad").service("good.service", botUnit).of("good")
	got := twinDeploy(t, m, l.offer(), l, bundle.OutcomeRolledBack)
	if !strings.Contains(got.res.Error, "unit bad.service: systemd can't use it as it is written") {
		t.Errorf("error %q, want one of bad.service", got.res.Error)
	}
	wantList(t, "failing", got.res.Failing, "bad")
}

// A job that ended by itself was not stopped by hand: it is started when it becomes a service.
func TestTwinJobBecomesAService(t *testing.T) {
	m := lab.NewMachine(t.TempDir())
	job := newLoad().service("bot.service", "[Service]\nType=oneshot\nExecStart=/bin/bot\n[Install]\nWantedBy=multi-user.target\n")
	job.Units[0].Oneshot = true
	twinDeploy(t, m, job.offer(), job, bundle.OutcomeDone)

	l := newLoad().service("bot.service", botUnit)
	got := twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	wantList(t, "started", got.res.Started, "bot.service")
	if !m.Active("bot.service") {
		t.Error("bot.service does not run")
	}
}

// What a condition kept from starting was not stopped by hand: without the condition it starts.
func TestTwinSkippedUnitStartsWithoutItsCondition(t *testing.T) {
	m := lab.NewMachine(t.TempDir())
	for _, unit := range []string{botUnit, "[Unit]\nConditionPathExists=/nowhere\n" + botUnit, botUnit} {
		l := newLoad().service("bot.service", unit)
		twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
		if want := unit == botUnit; m.Active("bot.service") != want {
			t.Errorf("active %v with %q", !want, unit)
		}
	}
}

// A quadlet whose health check fails goes back to its former file, of which the generator makes the former unit,
// and that runs again.
func TestTwinQuadletThatFailsItsHealth(t *testing.T) {
	probe := bundle.Probe{TCP: "127.0.0.1:80", Grace: 1}
	const at = bundle.QuadletDir + "/app.container"
	quadlet := func(text string) *load {
		l := newLoad().file(at, "[Container]\nImage=app\n"+text+"[Install]\nWantedBy=multi-user.target\n").judged("bot", 5*time.Second, probe)
		l.Units = append(l.Units, bundle.Unit{Name: "app.service", Service: "bot", Start: true, OnChange: bundle.Restart, Files: []string{at}, Triggers: []string{"file:" + at}})
		return l
	}
	m := lab.NewMachine(t.TempDir())
	l := quadlet("Exec=one\n")
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	before := readTwin(t, m, at)

	m.Answer(probe.Name(), machine.Answer{Wrong: "connection refused"})
	l = quadlet("Exec=two\n")
	got := twinDeploy(t, m, l.offer(), l, bundle.OutcomeRolledBack)
	wantList(t, "failing", got.res.Failing, "bot")
	if readTwin(t, m, at) != before || !m.Active("app.service") || m.Starts("app.service") != 3 {
		t.Errorf("the quadlet is %q, its unit active %v after %d starts; want the former one, started a third time", readTwin(t, m, at), m.Active("app.service"), m.Starts("app.service"))
	}
}
