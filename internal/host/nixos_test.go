package host_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bellhop/internal/bundle"
	"bellhop/internal/host"
	"bellhop/internal/host/look"
	"bellhop/internal/host/state"
	"bellhop/internal/lab"
)

// Systems of the twin of a NixOS host.
const (
	systemOne = "/nix/store/11111111111111111111111111111111-nixos-system-lufta-1"
	systemTwo = "/nix/store/22222222222222222222222222222222-nixos-system-lufta-2"
	goodUnit  = "[Service]\nExecStart=/bin/web "
	badUnit   = "[Service]\nExecStart=/bin/false\n"
)

func topOne() lab.Toplevel {
	return lab.Toplevel{Units: map[string]string{"web.service": goodUnit + "1\n", "leaves.service": goodUnit + "1\n"}, Kernel: "/nix/store/kernel-1"}
}

func topTwo() lab.Toplevel {
	return lab.Toplevel{Units: map[string]string{"web.service": goodUnit + "2\n", "comes.service": goodUnit + "2\n"}, Kernel: "/nix/store/kernel-1"}
}

// newNixOS is a NixOS host that runs systemOne and has systemTwo in its store.
func newNixOS(t *testing.T, two lab.Toplevel) *lab.Machine {
	m := lab.NewMachine(t.TempDir())
	m.MakeNixOS(systemOne, topOne())
	m.AddSystem(systemTwo, two)
	m.ClearLog()
	return m
}

func systemLoad(path, action string) *load {
	l := newLoad()
	l.System = &bundle.System{Path: path, Action: action}
	return l
}

// nixosState is all of a NixOS host that a run may change.
func nixosState(m *lab.Machine) []string {
	all := append(m.Generations(), "runs "+m.CurrentSystem(), "boots "+m.BootsSystem())
	for _, n := range []string{"web.service", "leaves.service", "comes.service"} {
		text, _ := os.ReadFile(m.Path("/etc/systemd/system/" + n))
		all = append(all, fmt.Sprintf("%s: %s %q", n, m.Unit(n).Active, text))
	}
	return all
}

func TestNixOSSwitch(t *testing.T) {
	m := newNixOS(t, topTwo())
	l := systemLoad(systemTwo, "")
	got := twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	if want := (bundle.SystemState{Nix: true, Current: systemOne, Profile: systemOne, Booted: systemOne, Number: 1}); *got.hello.System != want {
		t.Errorf("hello tells of %+v, want %+v", *got.hello.System, want)
	}
	want := []string{"1 " + systemOne, "2 " + systemTwo, "at system-2-link", "runs " + systemTwo, "boots " + systemTwo,
		fmt.Sprintf("web.service: active %q", goodUnit+"2\n"), `leaves.service: inactive ""`, fmt.Sprintf("comes.service: active %q", goodUnit+"2\n")}
	if d := cmp.Diff(want, nixosState(m)); d != "" {
		t.Errorf("after the switch (-want +got):\n%s", d)
	}
	wantList(t, "changed", got.res.Changed, "nixos")
	if n := m.Count("restart", "web.service"); n != 1 {
		t.Errorf("web.service restarted %d times, want once", n)
	}
	if root, _ := os.Readlink(m.Path("/nix/var/nix/gcroots/bellhop/" + systemTwo[len("/nix/store/"):])); root != systemTwo {
		t.Errorf("the system has no root: %q", root)
	}

	// The same again asks for nothing.
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeNothing)
	wantList(t, "switched", m.Switched(), "switch "+systemTwo)
	if drift := seen(t, m).Drift; len(drift) > 0 {
		t.Errorf("drift after the switch: %+v", drift)
	}
}

func seen(t *testing.T, m *lab.Machine) *bundle.Seen {
	t.Helper()
	s, err := look.Host(t.Context(), state.Of(m.Host()), bundle.Look{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A switch that fails leaves the exact path, generation list, units and boot default.
func TestNixOSFailedSwitch(t *testing.T) {
	failing := topTwo()
	failing.Units["comes.service"] = badUnit
	for _, c := range []struct {
		name string
		top  lab.Toplevel
		unit string
	}{
		{"a unit fails", failing, "comes.service"},
		{"activation fails", lab.Toplevel{Units: topTwo().Units, Exit: 2}, "bellhop-nixos.service"},
	} {
		m := newNixOS(t, c.top)
		before := nixosState(m)
		l := systemLoad(systemTwo, "")
		got := twinDeploy(t, m, l.offer(), l, bundle.OutcomeRolledBack)
		if d := cmp.Diff(before, nixosState(m)); d != "" {
			t.Errorf("%s: after the rollback (-want +got):\n%s", c.name, d)
		}
		wantList(t, "failing", got.res.Failing, "nixos")
		if len(got.res.Evidence) != 1 || got.res.Evidence[0].Unit != c.unit {
			t.Errorf("%s: evidence %+v, want one of %s", c.name, got.res.Evidence, c.unit)
		}
		if roots, _ := os.ReadDir(m.Path("/nix/var/nix/gcroots/bellhop")); len(roots) > 0 {
			t.Errorf("%s: %d roots are left", c.name, len(roots))
		}
	}
}

// A unit that had failed before makes switch-to-configuration end with 4 too, and is not the run's fault.
func TestNixOSUnitThatHadFailedBefore(t *testing.T) {
	one, two := topOne(), topTwo()
	one.Units["broken.service"], two.Units["broken.service"] = badUnit, badUnit
	m := lab.NewMachine(t.TempDir())
	m.MakeNixOS(systemOne, one)
	m.AddSystem(systemTwo, two)
	l := systemLoad(systemTwo, "")
	got := twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	if !strings.Contains(strings.Join(got.res.Warnings, " "), "had failed before: broken.service") {
		t.Errorf("warnings %q do not name the unit", got.res.Warnings)
	}
	if s := seen(t, m); len(s.FailedUnits) != 1 || s.FailedUnits[0].Name != "broken.service" {
		t.Errorf("a look sees failed units %+v", s.FailedUnits)
	}
}

// What can't be switched to while the host runs is what boots next, and is told so.
func TestNixOSBootInstead(t *testing.T) {
	inhibits := func(top lab.Toplevel, systemd string) lab.Toplevel {
		top.Inhibitors = fmt.Sprintf(`{"systemd": %q, "same": "x"}`, systemd)
		return top
	}
	exits := topTwo()
	exits.Exit = 100
	for _, c := range []struct {
		name, action  string
		one, two      lab.Toplevel
		warning, verb string
	}{
		{"inhibitors", "", inhibits(topOne(), "256"), inhibits(topTwo(), "257"), "switch inhibitors differ: systemd", "boot"},
		{"exit status 100", "", topOne(), exits, "exit status 100", "switch"},
		{"asked for", "boot", topOne(), topTwo(), "", "boot"},
	} {
		m := lab.NewMachine(t.TempDir())
		m.MakeNixOS(systemOne, c.one)
		m.AddSystem(systemTwo, c.two)
		l := systemLoad(systemTwo, c.action)
		got := twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
		if w := strings.Join(got.res.Warnings, " "); !strings.Contains(w, c.warning) || (c.warning == "" && w != "") {
			t.Errorf("%s: warnings %q", c.name, w)
		}
		wantList(t, c.name+": switched", m.Switched(), c.verb+" "+systemTwo)
		if m.CurrentSystem() != systemOne || m.BootsSystem() != systemTwo {
			t.Errorf("%s: runs %s, boots %s", c.name, m.CurrentSystem(), m.BootsSystem())
		}
		s := seen(t, m)
		if !s.RebootRequired || !strings.Contains(s.RebootReason, "next boot") || len(s.Drift) > 0 {
			t.Errorf("%s: a look sees %v %q, drift %+v", c.name, s.RebootRequired, s.RebootReason, s.Drift)
		}
		twinDeploy(t, m, l.offer(), l, bundle.OutcomeNothing)

		if err := m.Reboot(); err != nil {
			t.Fatal(err)
		}
		if s := seen(t, m); m.CurrentSystem() != systemTwo || s.RebootRequired || len(s.Drift) > 0 {
			t.Errorf("%s: after the reboot it runs %s, look %+v", c.name, m.CurrentSystem(), s)
		}
	}
}

func TestNixOSRebootRequired(t *testing.T) {
	two := topTwo()
	two.Kernel = "/nix/store/kernel-2"
	m := newNixOS(t, two)
	l := systemLoad(systemTwo, "")
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	if s := seen(t, m); !s.RebootRequired || !strings.Contains(s.RebootReason, "another kernel") {
		t.Errorf("RebootRequired = %v, %q", s.RebootRequired, s.RebootReason)
	}
}

// test goes over to a system, and the next boot brings back what was there.
func TestNixOSTest(t *testing.T) {
	m := newNixOS(t, topTwo())
	l := systemLoad(systemTwo, "test")
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	wantList(t, "generations", m.Generations(), "1 "+systemOne, "at system-1-link")
	if m.CurrentSystem() != systemTwo || m.BootsSystem() != systemOne {
		t.Errorf("runs %s, boots %s", m.CurrentSystem(), m.BootsSystem())
	}
	if err := m.Reboot(); err != nil {
		t.Fatal(err)
	}
	if m.CurrentSystem() != systemOne {
		t.Errorf("after a reboot it runs %s", m.CurrentSystem())
	}
}

// What can't be switched to while the host runs can't be tried at all, and nothing is touched.
func TestNixOSTestThatIsInhibited(t *testing.T) {
	one, two := topOne(), topTwo()
	one.Inhibitors, two.Inhibitors = `{"systemd": "256"}`, `{"systemd": "257"}`
	m := lab.NewMachine(t.TempDir())
	m.MakeNixOS(systemOne, one)
	m.AddSystem(systemTwo, two)
	l := systemLoad(systemTwo, "test")
	got := twinDeploy(t, m, l.offer(), l, bundle.OutcomeRefused)
	if !strings.Contains(got.res.Error, "can't be tried while the host runs: switch inhibitors differ: systemd") || len(m.Switched()) > 0 {
		t.Errorf("refused with %q, switched %q", got.res.Error, m.Switched())
	}
}

// Who switches by hand is found by a look, and the next run brings back what the repo says.
func TestNixOSDrift(t *testing.T) {
	m := newNixOS(t, topTwo())
	l := systemLoad(systemOne, "")
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	other := systemLoad(systemTwo, "")
	twinDeploy(t, m, other.offer(), other, bundle.OutcomeDone)
	os.Remove(m.Path("/run/current-system"))
	os.Symlink(systemOne, m.Path("/run/current-system"))
	os.Remove(m.Path("/nix/var/nix/profiles/system"))
	os.Symlink("system-1-link", m.Path("/nix/var/nix/profiles/system"))

	want := []bundle.Drift{
		{Kind: "system", Name: "nixos", What: bundle.DriftChanged, Want: systemTwo, Is: systemOne},
		{Kind: "system", Name: "nixos", What: bundle.DriftProfile, Want: systemTwo, Is: systemOne},
	}
	if d := cmp.Diff(want, seen(t, m).Drift); d != "" {
		t.Errorf("drift (-want +got):\n%s", d)
	}
	got := twinDeploy(t, m, other.offer(), other, bundle.OutcomeDone)
	if len(got.res.Restored) != 1 || m.CurrentSystem() != systemTwo {
		t.Errorf("restored %q, runs %s", got.res.Restored, m.CurrentSystem())
	}
	wantList(t, "generations", m.Generations(), "1 "+systemOne, "2 "+systemTwo, "at system-2-link")
}

// A system is refused, before anything is touched, where it can't be activated.
func TestNixOSRefused(t *testing.T) {
	const missing = "/nix/store/33333333333333333333333333333333-nixos-system-lufta-3"
	notNixOS := lab.NewMachine(t.TempDir())
	notThere := newNixOS(t, topTwo())
	notWhole := newNixOS(t, topTwo())
	if err := notWhole.Plant(missing+"/bin/switch-to-configuration", ""); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		m    *lab.Machine
		want string
	}{{notNixOS, "no NixOS host"}, {notThere, "has no bin/switch-to-configuration"}, {notWhole, "is not whole"}} {
		before := nixosState(c.m)
		l := systemLoad(missing, "")
		got := twinDeploy(t, c.m, l.offer(), l, bundle.OutcomeRefused)
		if !strings.Contains(got.res.Error, c.want) {
			t.Errorf("refused for %q, want %q", got.res.Error, c.want)
		}
		if d := cmp.Diff(before, nixosState(c.m)); d != "" {
			t.Errorf("%s: it was touched:\n%s", c.want, d)
		}
	}
}

// A run that is killed after any step, by a signal or by the plug, ends with all of the old or all of
// the new, and the way back may be killed too.
func TestNixOSKilledAfterEveryStep(t *testing.T) {
	for _, how := range []string{"kill", "boot", "boot and contact"} {
		for n := 1; ; n++ {
			m := newNixOS(t, topTwo())
			m.HasSettleModule(how == "boot")
			before := nixosState(m)
			l := systemLoad(systemTwo, "")
			l.file("/srv/x", "y")
			at, died := nixosKillAt(t, m, l, n, how)
			if !died {
				if n < 10 {
					t.Fatalf("%s: only %d steps to die at", how, n)
				}
				break
			}

			want := before
			if rec, err := state.Of(m.Host()).Current(); err != nil {
				t.Fatal(err)
			} else if rec.Exists {
				want = nixosDone(t)
			}
			if d := cmp.Diff(want, nixosState(m)); d != "" {
				t.Fatalf("%s after %s: (-want +got):\n%s", how, at, d)
			}
		}
	}
}

// nixosDone is the state of a host on which nobody killed the run.
func nixosDone(t *testing.T) []string {
	m := newNixOS(t, topTwo())
	l := systemLoad(systemTwo, "")
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	return nixosState(m)
}

// nixosKillAt deploys l, and has the host die at the nth step.
func nixosKillAt(t *testing.T, m *lab.Machine, l *load, n int, how string) (at string, died bool) {
	steps := 0
	h := m.Host()
	pulled := make(chan struct{})
	h.Reached = func(step string) {
		if steps++; steps == n {
			at, died = step, true
			if how != "kill" {
				close(pulled)
				lab.AwaitPlug(m)
			}
			panic("killed")
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		talk(h, l.offer(), l)
	}()

	if how == "kill" {
		<-done
	} else {
		select {
		case <-pulled:
			if err := m.Reboot(); err != nil {
				t.Logf("settle at boot: %v", err)
			}
		case <-done:
		}
	}
	m.WaitApply(time.Minute)
	h.Reached = nil
	if died {
		if err := host.Settle(context.Background(), h); err != nil {
			t.Errorf("settle after %s: %v", at, err)
		}
	}
	t.Cleanup(func() { <-done }) // a session that was cut off waits for seconds
	return at, died
}

// The way back is killed too, after each of its steps, and goes on where it was.
func TestNixOSUndoKilled(t *testing.T) {
	failing := topTwo()
	failing.Units["comes.service"] = badUnit
	for _, at := range []string{"undo paths", "undo profile", "undo switch", "undo units"} {
		m := newNixOS(t, failing)
		before := nixosState(m)
		died := false
		m.Host().Reached = func(step string) {
			if step == at && !died {
				died = true
				panic("killed")
			}
		}
		l := systemLoad(systemTwo, "")
		twinDeploy(t, m, l.offer(), l, bundle.OutcomeRolledBack)
		if d := cmp.Diff(before, nixosState(m)); d != "" || !died {
			t.Errorf("killed after %s (%v), and went on (-want +got):\n%s", at, died, d)
		}
	}
}

// A run that nobody confirms brings back what it found.
func TestNixOSUnconfirmed(t *testing.T) {
	m := newNixOS(t, topTwo())
	before := nixosState(m)
	l := systemLoad(systemTwo, "")
	twinDeploy(t, m, l.confirming(shortWindow), l, bundle.OutcomeUnconfirmed)
	if d := cmp.Diff(before, nixosState(m)); d != "" {
		t.Errorf("nobody confirmed (-want +got):\n%s", d)
	}
}

// Without a way to settle at boot, a host whose plug was pulled between set and switch runs the former
// system, and the profile names the new one until the next contact.
func TestNixOSPlugBetweenSetAndSwitch(t *testing.T) {
	for _, module := range []bool{true, false} {
		m := newNixOS(t, topTwo())
		m.HasSettleModule(module)
		before := nixosState(m)
		l := systemLoad(systemTwo, "")
		pull := make(chan struct{})
		m.Host().Reached = func(step string) {
			if step == "system set" {
				close(pull)
				lab.AwaitPlug(m)
				panic("the plug was pulled")
			}
		}
		go talk(m.Host(), l.offer(), l)
		<-pull
		if err := m.Reboot(); err != nil {
			t.Fatal(err)
		}
		m.Host().Reached = nil
		if undone := slices.Equal(before, nixosState(m)); undone != module {
			t.Errorf("with module %v: undone at boot %v; %q", module, undone, nixosState(m))
		}
		if _, err := talkHello(m.Host()); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(before, nixosState(m)); d != "" {
			t.Errorf("after the next contact (-want +got):\n%s", d)
		}
	}
}

// Key units of a NixOS host lie below /run, and come back with the keys after a boot.
func TestNixOSKeysComeBack(t *testing.T) {
	m := newNixOS(t, topTwo())
	l := systemLoad(systemTwo, "")
	const unit = bundle.RunUnitDir + "/token-key.service"
	text := "[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh -c 'test -e /run/keys/token'\n"
	l.Keys = append(l.Keys, bundle.Key{Name: "token", Path: "/run/keys/token", User: "root", Group: "root", Mode: 0o400, Service: "bot"})
	l.keys["token"] = "hunter2"
	l.file(unit, text)
	l.Units = append(l.Units, bundle.Unit{Name: "token-key.service", Service: "bot", KeyUnit: true, OnChange: bundle.None, Files: []string{unit}})
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	if written, _ := os.ReadDir(m.Path(bundle.UnitDir)); slices.ContainsFunc(written, func(e os.DirEntry) bool {
		return strings.Contains(e.Name(), "bellhop") || strings.Contains(e.Name(), "key")
	}) {
		t.Errorf("bellhop wrote to %s: %v", bundle.UnitDir, written)
	}
	if !m.Active("token-key.service") {
		t.Error("the key unit did not start")
	}

	if err := m.Reboot(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(m.Path(unit)); err == nil {
		t.Fatal("the twin kept /run through a boot")
	}
	if s := seen(t, m); len(s.Drift) > 0 || len(s.KeysMissing) != 1 {
		t.Errorf("after a boot: drift %+v, missing keys %q", s.Drift, s.KeysMissing)
	}
	twinDeploy(t, m, keysOffer(l), l, bundle.OutcomeNothing)
	if !m.Active("token-key.service") || m.CurrentSystem() != systemTwo {
		t.Errorf("after the keys came: key unit %s, system %s", m.Unit("token-key.service").Active, m.CurrentSystem())
	}
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeNothing)
}
