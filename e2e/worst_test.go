//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// What else goes wrong on a host. Each time the answer names what is wrong and what to type, the host
// holds what it held, and once the cause is gone the same commit gets there.

// A bind is a folder of a host that becomes read-only, or a place where no program can run. It is made so
// for the whole host, and undone at the end.
func bind(t *testing.T, option string, folders ...string) (undo func()) {
	t.Helper()
	line := "true"
	for _, dir := range folders {
		line += fmt.Sprintf(" && mkdir -p %[1]s && mount --bind %[1]s %[1]s && mount -o remount,bind,%[2]s %[1]s", dir, option)
	}
	on(t, "host1", line)
	undo = func() {
		for _, dir := range folders {
			tryOn("host1", "while umount -l "+dir+"; do :; done")
		}
	}
	t.Cleanup(undo)
	return undo
}

func TestWorstDays(t *testing.T) {
	w := oneHost(t)
	version := 0
	write := func() string {
		version++
		text := fmt.Sprint("version ", version)
		w.write(map[string]string{"services/x/x.service": strings.Replace(sleeper, "[Service]\n", "[Service]\nEnvironment=V="+fmt.Sprint(version)+"\n", 1),
			"services/x/files/etc/x.conf": text + "\n"})
		return text
	}
	write()
	w.deploy("first", "current")

	// fails deploys a new version, which must end in state and say so; the host stays as it was. Once mend was
	// called, the same commit gets there.
	fails := func(t *testing.T, state string, mend func(), says ...string) {
		t.Helper()
		w := w.in(t)
		before := on(t, "host1", "cat /etc/x.conf; systemctl show -P MainPID x")
		text := write()
		out := w.deploy(t.Name(), state)
		t.Logf("%s", out)
		for _, s := range says {
			if !strings.Contains(out, s) {
				t.Errorf("deploy does not say %q:\n%s", s, out)
			}
		}
		if got := on(t, "host1", "cat /etc/x.conf; systemctl show -P MainPID x"); got != before {
			t.Errorf("the host holds\n%s\nand held\n%s", got, before)
		}
		mend()
		w.deploy(t.Name()+" mended", "current")
		if got := on(t, "host1", "cat /etc/x.conf; systemctl is-active x; ls /var/lib/bellhop/journal 2>/dev/null; true"); got != text+"\nactive" {
			t.Errorf("once it was mended the host holds %q", got)
		}
	}

	t.Run("etc is read-only", func(t *testing.T) {
		fails(t, "rolled-back", bind(t, "ro", "/etc"), "read-only file system", "/etc")
	})
	t.Run("all is read-only", func(t *testing.T) {
		fails(t, "failed", bind(t, "ro", "/etc", "/var/lib/bellhop", "/usr", "/opt"), "read-only file system", "/var/lib/bellhop")
	})
	t.Run("var is noexec", func(t *testing.T) { // nothing runs from there
		w := w.in(t)
		defer bind(t, "noexec", "/var")()
		text := write()
		w.deploy("noexec var", "current")
		if got := on(t, "host1", "cat /etc/x.conf"); got != text {
			t.Errorf("the host holds %q, want %q", got, text)
		}
	})
	t.Run("no place for programs", func(t *testing.T) {
		// the login is denied what it needs; it is asked again when it answers
		fails(t, "pending", bind(t, "noexec", "/usr/local/libexec", "/opt", "/var/lib/bellhop"), "no program can run in any of", "noexec")
	})
	t.Run("a program that may not be executed", func(t *testing.T) {
		w := w.in(t)
		w.write(map[string]string{"services/x/files/usr/local/bin/x": "#!/bin/sh\nexec sleep inf\n"}) // git has it 0644
		unit := strings.Replace(sleeper, "/bin/sleep inf", "/usr/local/bin/x", 1)
		write()
		w.write(map[string]string{"services/x/x.service": unit})
		before := on(t, "host1", "cat /etc/x.conf")
		out := w.deploy("not executable", "rolled-back")
		t.Logf("%s", out)
		if !strings.Contains(out, "/usr/local/bin/x is not executable (mode 0644)") {
			t.Errorf("deploy does not say why:\n%s", out)
		}
		if got := on(t, "host1", "cat /etc/x.conf; systemctl is-active x"); got != before+"\nactive" {
			t.Errorf("the host holds %q", got)
		}
		w.sh(w.work, "rm -rf services/x/files/usr")
	})
	t.Run("a security module refuses the program", func(t *testing.T) {
		// what SELinux or AppArmor do is done here by a folder that the service's user can't enter
		w := w.in(t)
		on(t, "host1", "install -d -m 700 /srv/shut && install -m 755 /bin/sleep /srv/shut/sleep")
		write()
		w.write(map[string]string{"services/x/x.service": "[Service]\nUser=nobody\nExecStart=/srv/shut/sleep inf\n[Install]\nWantedBy=multi-user.target\n"})
		before := on(t, "host1", "cat /etc/x.conf")
		out := w.deploy("refused to run", "rolled-back")
		t.Logf("%s", out)
		if !strings.Contains(out, "203/EXEC") && !strings.Contains(out, "Permission denied") {
			t.Errorf("deploy does not say why:\n%s", out)
		}
		if got := on(t, "host1", "cat /etc/x.conf; systemctl is-active x"); got != before+"\nactive" {
			t.Errorf("the host holds %q", got)
		}
	})
	t.Run("a masked unit", func(t *testing.T) {
		w := w.in(t)
		on(t, "host1", "systemctl mask y.service")
		w.write(map[string]string{"services/x/y.service": sleeper})
		fails(t, "refused", func() { on(t, "host1", "systemctl unmask y.service") }, "y.service is masked on the host", "systemctl unmask y.service", "--retry")
	})
	t.Run("a file that was edited by hand", func(t *testing.T) {
		w := w.in(t)
		on(t, "host1", "echo mine >/etc/x.conf")
		text := write()
		out := w.deploy("over an edit", "current")
		t.Logf("%s", out)
		if got := on(t, "host1", "cat /etc/x.conf; grep -rl ^mine /var/lib/bellhop/blobs | wc -l"); got != text+"\n1" {
			t.Errorf("the host holds %q, want the repo's file, and the edit kept", got)
		}
	})
}

// A start that takes longer than what bellhop waits for a unit that says nothing: systemd's own limit is
// what counts, as for the first pull of an image.
func TestStartThatTakesLong(t *testing.T) {
	w := oneHost(t)
	w.write(map[string]string{"services/x/x.service": "[Service]\nType=notify\nNotifyAccess=all\nTimeoutStartSec=10min\n" +
		"ExecStart=/bin/sh -c 'sleep 75; systemd-notify --ready; exec sleep inf'\n[Install]\nWantedBy=multi-user.target\n"})
	began := time.Now()
	c := w.commit("a long start")
	w.deliver(c)
	eventually(t, 2*time.Minute, "the host is current", func() bool { // after a minute it delays no other push any more
		s := w.status()
		return s.Commit == c && s.state("chrysalis") == "current"
	})
	if took := time.Since(began); took < 70*time.Second {
		t.Errorf("done after %v", took)
	}
	if got := on(t, "host1", "systemctl is-active x"); got != "active" {
		t.Errorf("the unit is %s", got)
	}
}
