package host_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"bellhop/internal/bundle"
	"bellhop/internal/lab"
)

// The lab's twin reads unit files and knows gates, so the rig's bundle runs on it as well.

func twinDeploy(t *testing.T, m *lab.Machine, o bundle.Offer, l *load, outcome string) told {
	t.Helper()
	got, err := talk(m.Host(), o, l)
	if err != nil {
		t.Fatal(err)
	}
	if got.res.Outcome != outcome {
		t.Fatalf("outcome = %s (%s), want %s", got.res.Outcome, got.res.Error, outcome)
	}
	return got
}

func TestTwinGatesAndReboots(t *testing.T) {
	m := lab.NewMachine(t.TempDir())
	l := rigBot("one", "first")
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	if !m.Active("rigbot.service") || !m.Active("rigtoken-key.service") || m.Starts("rigbot.service") != 1 {
		t.Errorf("rigbot active %v after %d starts, want once", m.Active("rigbot.service"), m.Starts("rigbot.service"))
	}
	if err := m.Reboot(); err != nil {
		t.Fatal(err)
	}
	if m.Active("rigbot.service") {
		t.Error("rigbot runs without its key")
	}
	l = rigBot("one", "first")
	twinDeploy(t, m, keysOffer(l), l, bundle.OutcomeNothing)
	if !m.Active("rigbot.service") {
		t.Error("rigbot did not start when its key came back")
	}
}

// A second key, a changed file and a changed key in one run: the app restarts once.
func TestTwinRestartsOnce(t *testing.T) {
	m := lab.NewMachine(t.TempDir())
	l := rigBot("one", "first")
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	m.ClearLog()
	l = rigBot("two", "second")
	got := twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	wantList(t, "restarted", got.res.Restarted, "rigbot.service")
	if n := m.Starts("rigbot.service"); n != 1 || m.Count("stop", "rigtoken-key.service") != 0 {
		t.Errorf("%d starts, log %v; want one, and the key unit alone", n, m.Log())
	}
}

// An app that was stopped by hand stays so when it gains a key, whose unit wants it.
func TestTwinStoppedByHandGainsAKey(t *testing.T) {
	m := lab.NewMachine(t.TempDir())
	l := rigBot("one", "first")
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	if errs := m.Host().Systemd.Job(t.Context(), "stop", []string{"rigbot.service"}); len(errs) > 0 {
		t.Fatal(errs)
	}
	l = rigBot("one", "first")
	text := "[Unit]\nDefaultDependencies=no\nBefore=rigbot.service\nWants=rigbot.service\n[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh -c 'test -e /run/keys/rigmore'\n"
	l.key("rigmore", "second")
	l.Files = l.Files[:len(l.Files)-1]
	l.file(bundle.UnitDir+"/rigmore-key.service", text)
	m.ClearLog()
	got := twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	wantList(t, "drifted", got.res.Drifted, "rigbot.service")
	if m.Active("rigbot.service") || m.Starts("rigbot.service") != 0 || !m.Active("rigmore-key.service") {
		t.Errorf("rigbot runs: %v, after %d starts; its new key unit: %v; log %v", m.Active("rigbot.service"), m.Starts("rigbot.service"), m.Active("rigmore-key.service"), m.Log())
	}
}

// A unit that its own condition keeps from starting is no failure, and is told.
func TestTwinSkippedByCondition(t *testing.T) {
	m := lab.NewMachine(t.TempDir())
	l := newLoad().service("only.service", "[Unit]\nConditionPathExists=/etc/not-here\n[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n")
	got := twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	if len(got.res.Warnings) != 1 || !strings.Contains(got.res.Warnings[0], "only.service was not started") {
		t.Errorf("warnings %q, want one that names the unit", got.res.Warnings)
	}
}

// An app that could not start while its key was gone starts when the key is back, though its key
// unit was active all the time.
func TestTwinAppThatMissedItsKey(t *testing.T) {
	for _, mode := range []string{bundle.ModeKeys, bundle.ModeDeploy} {
		m := lab.NewMachine(t.TempDir())
		l := rigBot("one", "first")
		twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
		if err := os.Remove(m.Path("/run/keys/rigtoken")); err != nil {
			t.Fatal(err)
		}
		if errs := m.Host().Systemd.Job(t.Context(), "restart", []string{"rigbot.service"}); len(errs) == 0 || m.Active("rigbot.service") {
			t.Fatal("it runs without its key")
		}
		l = rigBot("one", "first")
		o := l.offer()
		o.Mode = mode
		want := bundle.OutcomeDone
		if mode == bundle.ModeKeys {
			want = bundle.OutcomeNothing
		}
		twinDeploy(t, m, o, l, want)
		if !m.Active("rigbot.service") {
			t.Errorf("mode %s: it does not run though its key is back", mode)
		}
	}
}

// A key leaves and its app stays: stopping the key unit takes the app down, and it is
// brought up once.
func TestTwinAppOutlivesItsKey(t *testing.T) {
	m := lab.NewMachine(t.TempDir())
	l := rigBot("one", "first")
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	m.ClearLog()
	l = rigBot("one", "first")
	l.Keys = nil
	l.Units = slices.DeleteFunc(l.Units, func(u bundle.Unit) bool { return u.KeyUnit })
	l.Files = slices.DeleteFunc(l.Files, func(f bundle.File) bool {
		return f.Path == bundle.UnitDir+"/rigtoken-key.service" || f.Path == bundle.UnitDir+"/rigbot.service.d/50-bellhop.conf"
	})
	got := twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	if !m.Active("rigbot.service") || m.Starts("rigbot.service") != 1 {
		t.Errorf("rigbot: %d starts, log %v", m.Starts("rigbot.service"), m.Log())
	}
	wantList(t, "stopped", got.res.Stopped, "rigtoken-key.service")
	if _, err := os.Stat(m.Path("/run/keys/rigtoken")); err == nil {
		t.Error("the key still stands")
	}
}

func TestTwinRenameHoldsThePort(t *testing.T) {
	m := lab.NewMachine(t.TempDir())
	unit := func(name string) *load {
		return newLoad().service(name, "[Service]\nExecStart=/x\n[Install]\nWantedBy=multi-user.target\n")
	}
	m.Claim("old.service", 80)
	m.Claim("new.service", 80)
	l := unit("old.service")
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	l = unit("new.service")
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	if !m.Active("new.service") || m.Active("old.service") {
		t.Errorf("old active %v, new active %v", m.Active("old.service"), m.Active("new.service"))
	}
}

func TestTwinCrashLoopRollsBack(t *testing.T) {
	m := lab.NewMachine(t.TempDir())
	l := newLoad().service("x.service", "[Service]\nExecStart=/x\nRestart=always\n[Install]\nWantedBy=multi-user.target\n")
	m.Flap("x.service")
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeRolledBack)
	if m.Unit("x.service").Load != "not-found" {
		t.Errorf("x.service = %+v", m.Unit("x.service"))
	}
}

// A unit that runs goes on running when its new file is one that systemd can't use, or when
// podman makes nothing of its new quadlet. That is no success.
func TestTwinRunningUnitBecomesUnusable(t *testing.T) {
	quadlet := func(text string) *load {
		l := newLoad().file(bundle.QuadletDir+"/app.container", text)
		l.Units = append(l.Units, bundle.Unit{Name: "app.service", Start: true, OnChange: bundle.Restart, Files: []string{bundle.QuadletDir + "/app.container"}})
		return l
	}
	service := func(text string) *load { return newLoad().service("app.service", text) }
	for _, c := range []struct{ good, bad *load }{
		{service("[Service]\nExecStart=/app\n[Install]\nWantedBy=multi-user.target\n"), service("[Service]\nRestart=always\n[Install]\nWantedBy=multi-user.target\n")},
		{quadlet("[Container]\nImage=app\n[Install]\nWantedBy=multi-user.target\n"), quadlet("[Container]\nImag=app\n[Install]\nWantedBy=multi-user.target\n")},
	} {
		m := lab.NewMachine(t.TempDir())
		twinDeploy(t, m, c.good.offer(), c.good, bundle.OutcomeDone)
		got := twinDeploy(t, m, c.bad.offer(), c.bad, bundle.OutcomeRolledBack)
		if !strings.Contains(got.res.Error, "unit app.service: ") || !m.Active("app.service") || m.Starts("app.service") != 1 {
			t.Errorf("error %q, app active %v after %d starts; want it named, and the old one left running", got.res.Error, m.Active("app.service"), m.Starts("app.service"))
		}
		if st, err := m.Host().Systemd.Units(t.Context(), []string{"app.service"}); err != nil || st["app.service"].Load != "loaded" {
			t.Errorf("app.service is %q after the undo, %v", st["app.service"].Load, err)
		}
	}
}

// A home passes from one user to another with what lies in it as it is, which is told; and back to the
// former one when the run is undone.
func TestTwinHomePassesToAnotherUser(t *testing.T) {
	web := func(user string) *load {
		l := newLoad().service("www.service", "[Service]\nUser="+user+"\nExecStart=/www\n[Install]\nWantedBy=multi-user.target\n").
			file("/etc/sysusers.d/bellhop-www.conf", "u "+user+" - - /srv/web\n").
			file("/etc/tmpfiles.d/bellhop-www.conf", "d /srv/web 0750 "+user+" "+user+" -\n")
		l.Units[0].Triggers = append(l.Units[0].Triggers, "file:"+bundle.UnitDir+"/www.service")
		l.Users = append(l.Users, bundle.User{Name: user, Group: user, Home: "/srv/web", Service: "www"})
		return l
	}
	m := lab.NewMachine(t.TempDir())
	owner := func(want string) {
		t.Helper()
		if user, group, err := m.Owner("/srv/web"); user != want || group != want || err != nil {
			t.Errorf("/srv/web is of %s:%s (%v), want %s", user, group, err, want)
		}
	}
	l := web("web3")
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	owner("web3")
	l = web("web4")
	m.Fail("www.service")
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeRolledBack)
	owner("web3")
	m.Mend("www.service")
	got := twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	owner("web4")
	wantList(t, "kept", got.res.Kept, "user web3")
	if len(got.res.Warnings) != 1 || !strings.Contains(got.res.Warnings[0], "home /srv/web is now that of user web4: the files in it still belong to web3") {
		t.Errorf("warnings %q, want one on the files below /srv/web", got.res.Warnings)
	}
}

// A service that runs by itself gets a socket beside it: systemd would refuse the socket.
func TestTwinRunningServiceGetsASocket(t *testing.T) {
	const text = "[Service]\nExecStart=/app\n"
	for _, c := range []struct{ name, conf, socket, line string }{
		{"alone", "one", "app.socket", ""},
		{"and its file changes", "two", "app.socket", ""},
		{"of another name", "one", "door.socket", "Service=app.service\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := lab.NewMachine(t.TempDir())
			l := newLoad().service("app.service", text+"[Install]\nWantedBy=multi-user.target\n", "file:/etc/conf").file("/etc/conf", "one")
			twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
			l = newLoad().service("app.service", text, "file:/etc/conf").file("/etc/conf", c.conf).
				service(c.socket, "[Socket]\nListenStream=99\n"+c.line+"[Install]\nWantedBy=sockets.target\n")
			for i := range l.Units {
				if l.Units[i].Name == "app.service" {
					l.Units[i].Start, l.Units[i].Enable = false, false // left to its socket
				}
			}
			m.ClearLog()
			twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
			if !m.Active(c.socket) || !m.Active("app.service") || m.Starts("app.service") != 1 {
				t.Errorf("%s active %v, app active %v, log %v", c.socket, m.Active(c.socket), m.Active("app.service"), m.Log())
			}
		})
	}
}
