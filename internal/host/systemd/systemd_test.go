package systemd_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"bellhop/internal/host/systemd"
)

// These tests run on a host that may be played with, as root; go test -c and BELLHOP_CONFORMANCE=1.
// What every machine must do is in lab/conformance; here is what only a real one can suffer.
func open(t *testing.T) *systemd.Systemd {
	t.Helper()
	if os.Getenv("BELLHOP_CONFORMANCE") != "1" {
		t.Skip("BELLHOP_CONFORMANCE=1 runs it on the host itself, as root")
	}
	s, err := systemd.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// slow installs a unit whose start takes that many seconds.
func slow(t *testing.T, s *systemd.Systemd, name string, seconds int) {
	t.Helper()
	install(t, s, map[string]string{name: fmt.Sprintf("[Service]\nExecStartPre=/bin/sleep %d\nExecStart=/bin/sleep 1000\n", seconds)})
}

// install puts units there, by name, until the test ends.
func install(t *testing.T, s *systemd.Systemd, units map[string]string) {
	t.Helper()
	const dir = "/run/systemd/system/"
	os.MkdirAll(dir, 0o755)
	for name, text := range units {
		if err := os.WriteFile(dir+name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Reload(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Job(context.Background(), "stop", slices.Collect(maps.Keys(units)))
		for name := range units {
			os.Remove(dir + name)
		}
		s.Reload(context.Background())
	})
}

// systemd tells each connection of every unit, so a helper has one.
func TestOneConnection(t *testing.T) {
	sockets := func() (n int) {
		files, _ := os.ReadDir("/proc/self/fd")
		for _, f := range files {
			to, _ := os.Readlink("/proc/self/fd/" + f.Name())
			if strings.HasPrefix(to, "socket:") {
				n++
			}
		}
		return n
	}

	before := sockets()
	s := open(t)
	if n := sockets() - before; n != 1 {
		t.Errorf("%d connections to systemd, want one", n)
	}
	if _, err := s.Version(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if n := sockets() - before; n != 0 {
		t.Errorf("%d connections are left after Close", n)
	}
}

// A daemon-reexec closes the private socket: the result never comes, and the state tells.
func TestJobOutlivesReexec(t *testing.T) {
	s := open(t)
	const name = "bhconf-reexec.service"
	slow(t, s, name, 2)
	done := make(chan map[string]error, 1)
	go func() { done <- s.Job(context.Background(), "start", []string{name}) }()
	time.Sleep(300 * time.Millisecond)
	if out, err := exec.Command("systemctl", "daemon-reexec").CombinedOutput(); err != nil {
		t.Fatalf("daemon-reexec: %v\n%s", err, out)
	}
	select {
	case errs := <-done:
		if err := errs[name]; err != nil {
			t.Errorf("Job across a reexec: %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("Job waits for a result that can't come")
	}
	states, err := s.Units(context.Background(), []string{name})
	if err != nil || states[name].Active != "active" {
		t.Errorf("after a reexec: %+v, %v", states[name], err)
	}
}

func TestJobOutlivesBusRestart(t *testing.T) {
	s := open(t)
	const name = "bhconf-bus.service"
	slow(t, s, name, 2)
	done := make(chan map[string]error, 1)
	go func() { done <- s.Job(context.Background(), "start", []string{name}) }()
	time.Sleep(300 * time.Millisecond)
	exec.Command("systemctl", "restart", "dbus").Run()
	select {
	case errs := <-done:
		if err := errs[name]; err != nil {
			t.Errorf("Job across a restart of dbus: %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("Job waits for a result that can't come")
	}
}

// A reload goes over the bus, and without a bus daemon over the private socket; either way what is
// loaded afterwards is what the files say.
func TestReloadWithAndWithoutBus(t *testing.T) {
	s := open(t)
	const name, path = "bhconf-read.service", "/run/systemd/system/bhconf-read.service"
	t.Cleanup(func() { os.Remove(path); s.Reload(context.Background()) })
	described := func(text string) {
		t.Helper()
		unit := "[Unit]\nDescription=" + text + "\n[Service]\nExecStart=/bin/sleep 1000\n"
		if err := os.WriteFile(path, []byte(unit), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := s.Reload(context.Background()); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("systemctl", "show", "-p", "Description", name).CombinedOutput()
		if want := "Description=" + text + "\n"; err != nil || string(out) != want {
			t.Errorf("after a reload systemd says %q, %v; want %q", out, err, want)
		}
	}

	described("with a bus")
	for _, verb := range []string{"stop", "start"} {
		exec.Command("systemctl", verb, "dbus.socket", "dbus.service").Run()
		described("after " + verb)
	}
}

func TestJobKeepsItsDeadline(t *testing.T) {
	s := open(t)
	const name = "bhconf-slow.service"
	slow(t, s, name, 30)
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	err := s.Job(ctx, "start", []string{name})[name]
	if err == nil || !strings.Contains(err.Error(), name) {
		t.Errorf("Job = %v, want an error that names the unit", err)
	}
	states, _ := s.Units(context.Background(), []string{name})
	if !states[name].Job || states[name].Active != "activating" {
		t.Errorf("the unit meanwhile, which takes its time: %+v", states[name])
	}
}

// Twenty units each wait in their start until all have been started: were one queued after another was up,
// none would come up.
func TestManyJobsAtOnce(t *testing.T) {
	const dir = "/run/bhconf-many"
	s := open(t)
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir+"/here", 0o755)); err != nil {
		t.Fatal(err)
	}
	meet := "touch " + dir + "/here/$1\nuntil [ $(ls " + dir + "/here | wc -l) -eq 20 ]; do sleep 0.1; done\n"
	if err := os.WriteFile(dir+"/meet", []byte(meet), 0o644); err != nil {
		t.Fatal(err)
	}

	units := map[string]string{}
	for i := range 20 {
		units[fmt.Sprintf("bhconf-many%d.service", i)] = "[Service]\nTimeoutStartSec=4min\nExecStartPre=/bin/sh " + dir + "/meet %n\nExecStart=/bin/sleep 1000\n"
	}
	install(t, s, units)
	names := slices.Sorted(maps.Keys(units))
	for n, err := range s.Job(context.Background(), "start", names) {
		t.Errorf("%s: %v", n, err)
	}

	states, err := s.Units(context.Background(), names)
	if err != nil || len(states) != 20 {
		t.Fatal(err)
	}
	for n, st := range states {
		if st.Active != "active" {
			t.Errorf("%s is %s", n, st.Active)
		}
	}
}
