package host_test

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/bundle/wire"
)

// The window in which a run waits to be confirmed, on a real host.

// ask runs one helper that is asked, over a connection of its own.
func (r *rig) ask(a bundle.Ask) (h bundle.Hello, reply bundle.Reply) {
	r.t.Helper()
	cmd := exec.Command(r.ssh[0], append(r.ssh[1:], rigHelper+" serve")...)
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	defer cmd.Wait()
	defer in.Close()
	fr := wire.NewReader(out)
	_, err := fr.SkipNoise()
	if err == nil {
		err = fr.Expect(bundle.FrameHello, &h)
	}
	if err == nil {
		err = wire.WriteFrame(in, bundle.FrameAsk, a)
	}
	if err == nil {
		err = fr.Expect(bundle.FrameReply, &reply)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return h, reply
}

func (r *rig) confirm(run string) string {
	r.t.Helper()
	_, reply := r.ask(bundle.Ask{Verb: bundle.AskConfirm, Run: run})
	return reply.Error
}

// wait begins a run and returns when it waits to be confirmed.
func (r *rig) wait(l *load, window time.Duration) (run string, end chan told) {
	r.t.Helper()
	o := l.confirming(window.Milliseconds())
	o.Run = fmt.Sprintf("rig-%d", time.Now().UnixNano())
	end = make(chan told, 1)
	go func() {
		t, _ := r.session(o, l)
		end <- t
	}()
	r.until("test -e /var/lib/bellhop/runs/"+o.Run+"/waiting && echo waits", "waits")
	return o.Run, end
}

// pull takes the host's power, as far as it can itself: nothing is stopped, nothing synced.
func (r *rig) pull() {
	r.t.Helper()
	boot := r.sh("cat /proc/sys/kernel/random/boot_id")
	r.try("systemctl reboot --force --force")
	for range 300 {
		if now, err := r.try("cat /proc/sys/kernel/random/boot_id"); err == nil && now != boot {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	r.t.Fatal("the host does not come back")
}

func outcomeOf(t told) string {
	if t.res == nil {
		return "none"
	}
	return t.res.Outcome
}

const long = 10 * time.Minute // a window that no test outlives

func TestRigConfirmed(t *testing.T) {
	r := newRig(t)
	r.deploy(rigBot("one", "first"), bundle.OutcomeDone)
	run, end := r.wait(rigBot("two", "second"), long)
	r.want("cat /etc/rigbot/conf /srv/rigbot/rigbot/token", "twosecond")
	r.want("stat -c '%a %U:%G' /run/keys/.before /run/keys/.before/*; stat -c '%a %U:%G' /run/keys/.before/*/*", "700 root:root\n700 root:root\n600 root:root")
	h, _ := r.ask(bundle.Ask{Verb: bundle.AskCheck})
	if h.Open != run || !h.Waits || h.Record.Generation != 1 {
		t.Errorf("hello names %q, waits %v, generation %d; want %s, true, 1", h.Open, h.Waits, h.Record.Generation, run)
	}
	began := time.Now()
	if text := r.confirm(run); text != "" {
		t.Fatalf("confirm = %q", text)
	}
	got := <-end
	t.Logf("confirmed, with its login, in %v", time.Since(began))
	if outcomeOf(got) != bundle.OutcomeDone {
		t.Fatalf("result %+v", got.res)
	}
	if text := r.confirm(run); text != "" {
		t.Errorf("confirm again = %q", text)
	}
	r.want("ls -A /run/keys /var/lib/bellhop/staging; ls /var/lib/bellhop/record.next 2>&1 | grep -c 'No such'", "/run/keys:\nrigtoken\n\n/var/lib/bellhop/staging:\n1")
}

func TestRigUnconfirmed(t *testing.T) {
	r := newRig(t)
	reloads := func(conf, token string) *load {
		l := rigBot(conf, token)
		p := bundle.UnitDir + "/rigreload.service"
		l.file(p, "[Service]\nExecStart=/bin/sleep infinity\nExecReload=/bin/sh -c 'cat /etc/rigbot/conf >>/run/rigreloads'\n[Install]\nWantedBy=multi-user.target\n")
		l.Units = append(l.Units, bundle.Unit{Name: "rigreload.service", Service: "rigbot", Enable: true, Start: true, OnChange: bundle.Reload,
			Files: []string{p}, Triggers: []string{"file:/etc/rigbot/conf"}})
		return l
	}
	r.sh("rm -f /run/rigreloads")
	r.deploy(reloads("one", "first"), bundle.OutcomeDone)
	pid := r.sh("systemctl show -P MainPID rigreload")
	began := time.Now()
	run, end := r.wait(reloads("two", "second"), 2*time.Second)
	r.want("cat /run/rigreloads", "two")
	got := <-end
	t.Logf("back after %v", time.Since(began))
	if outcomeOf(got) != bundle.OutcomeUnconfirmed {
		t.Fatalf("result %+v", got.res)
	}
	r.want("cat /etc/rigbot/conf /srv/rigbot/rigbot/token", "onefirst")
	r.want("systemctl show -P MainPID rigreload; cat /run/rigreloads", pid+"\ntwoone")
	r.want("stat -c '%a %U:%G' /run/keys/rigtoken; ls -A /run/keys", "640 rigbot:rigbot\nrigtoken")
	r.want("systemctl is-active rigbot rigreload; systemctl is-enabled rigbot; systemctl is-system-running", "active\nactive\nenabled\nrunning")
	if text := r.confirm(run); !strings.Contains(text, "unconfirmed") {
		t.Errorf("a late confirm = %q", text)
	}
}

// Killed while it waits, a run is undone; killed after it was confirmed, and before it heard of
// that, it is done.
func TestRigKilledWhileItWaits(t *testing.T) {
	r := newRig(t)
	r.deploy(rigBot("one", "first"), bundle.OutcomeDone)
	_, end := r.wait(rigBot("two", "second"), long)
	r.sh("systemctl kill -s KILL bellhop-apply.service")
	if got := <-end; outcomeOf(got) != bundle.OutcomeRolledBack || !got.res.CutOff {
		t.Fatalf("killed while it waits: %+v", got.res)
	}
	r.want("cat /etc/rigbot/conf /srv/rigbot/rigbot/token; ls -A /run/keys", "onefirst\nrigtoken")

	run, end := r.wait(rigBot("two", "second"), long)
	r.sh("systemctl kill -s STOP bellhop-apply.service")
	if text := r.confirm(run); text != "" {
		t.Fatalf("confirm = %q", text)
	}
	r.sh("systemctl kill -s KILL bellhop-apply.service")
	if got := <-end; outcomeOf(got) != bundle.OutcomeDone || got.res.Record.Generation != 2 {
		t.Fatalf("killed after it was confirmed: %+v", got.res)
	}
	r.want("cat /etc/rigbot/conf /srv/rigbot/rigbot/token; ls -A /run/keys", "twosecond\nrigtoken")
}

// The power goes while a run waits: before the network is up the host is back, unless the run was
// confirmed.
func TestRigPowerCutWhileItWaits(t *testing.T) {
	const order = "test $(systemctl show -P ExecMainExitTimestampMonotonic bellhop-settle) -le $(systemctl show -P ActiveEnterTimestampMonotonic network-pre.target) && echo before"
	r := newRig(t)
	r.deploy(rigBot("one", "first"), bundle.OutcomeDone)
	keys := func(conf, token string) {
		t.Helper()
		l := rigBot(conf, token)
		o := l.offer()
		o.Run, o.Mode = fmt.Sprintf("rig-%d", time.Now().UnixNano()), bundle.ModeKeys
		if got, err := r.session(o, l); err != nil || outcomeOf(got) != bundle.OutcomeNothing {
			t.Fatalf("keys: %+v, %v", got.res, err)
		}
		r.until("systemctl is-active rigbot; cat /srv/rigbot/rigbot/token", "active\n"+token)
	}

	run, _ := r.wait(rigBot("two", "second"), long)
	r.pull()
	r.want("cat /etc/rigbot/conf; ls /var/lib/bellhop/journal 2>&1 | grep -c 'No such'", "one1")
	r.want(order, "before")
	if text := r.confirm(run); !strings.Contains(text, "rolled-back") {
		t.Errorf("confirm after the power cut = %q", text)
	}
	keys("one", "first")

	run, _ = r.wait(rigBot("two", "second"), long)
	r.sh("systemctl kill -s STOP bellhop-apply.service")
	if text := r.confirm(run); text != "" {
		t.Fatalf("confirm = %q", text)
	}
	r.pull()
	r.want("cat /etc/rigbot/conf; ls /var/lib/bellhop/journal 2>&1 | grep -c 'No such'", "two1")
	if text := r.confirm(run); text != "" {
		t.Errorf("confirm again after the power cut = %q", text)
	}
	keys("two", "second")
}

// What can't be written says so, and the host stays as it was: a folder that is mounted read-only,
// and the state directory itself.
func TestRigReadOnly(t *testing.T) {
	r := newRig(t)
	r.deploy(rigBot("one", "first"), bundle.OutcomeDone)
	readOnly := func(dir string) (mend func()) {
		r.sh("mount --bind " + dir + " " + dir + " && mount -o remount,ro,bind " + dir)
		return func() { r.try("umount -l " + dir) }
	}
	mend := readOnly("/etc/rigbot")
	t.Cleanup(mend)
	got := r.deploy(rigBot("two", "second"), bundle.OutcomeRolledBack)
	if !strings.Contains(got.res.Error, "/etc/rigbot/conf: read-only file system") {
		t.Errorf("error %q does not say that the folder is read-only", got.res.Error)
	}
	r.want("cat /etc/rigbot/conf /srv/rigbot/rigbot/token; ls -A /run/keys; systemctl is-active rigbot", "onefirst\nrigtoken\nactive")
	mend()

	mend = readOnly("/var/lib/bellhop")
	t.Cleanup(mend)
	l := rigBot("two", "second")
	o := l.offer()
	o.Run = fmt.Sprintf("rig-%d", time.Now().UnixNano())
	if got, err := r.session(o, l); err != nil || outcomeOf(got) != bundle.OutcomeFailed || !strings.Contains(got.res.Error, "read-only file system") {
		t.Errorf("a session of a host that can write nothing: %+v, %v", got.res, err)
	}
	mend()

	// The disk turns read-only while a run waits, as after an error of the disk: the run goes back once
	// it can.
	_, end := r.wait(rigBot("two", "second"), 5*time.Second)
	mend = readOnly("/var/lib/bellhop")
	t.Cleanup(mend)
	r.until("test $(systemctl show -P NRestarts bellhop-apply) -gt 0 && cat /etc/rigbot/conf", "two")
	mend()
	r.until("cat /etc/rigbot/conf; systemctl is-active bellhop-apply", "oneinactive")
	<-end
	r.want("cat /srv/rigbot/rigbot/token; ls -A /run/keys; systemctl is-active rigbot", "first\nrigtoken\nactive")
}
