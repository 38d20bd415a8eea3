//go:build e2e

package e2e

import (
	"strings"
	"testing"
	"time"
)

// A host whose disk is full to the last bytes refuses by that name, and its services are left in peace; once there
// is room, the same commit gets there.
func TestDiskFullToTheBrim(t *testing.T) {
	w := newWorld(t)
	w.writeRepo()
	w.push("first")
	const at = "/var/lib/bellhop"
	on(t, "host3", "cp -a "+at+" /var/tmp/full && mount -t tmpfs -o size=8m,mode=711 tmpfs "+at+" && cp -a /var/tmp/full/. "+at+"/ && "+
		"{ dd if=/dev/zero of="+at+"/filler bs=4k 2>/dev/null; truncate -s -16K "+at+"/filler; }")
	t.Cleanup(func() { tryOn("host3", "umount -l "+at) })
	before := starts(t, "host3", "idle.service")
	w.write(map[string]string{"services/idle/idle.service": strings.Replace(idleUnit, "sits there", "sits on a full disk", 1)})
	c := w.commit("no room")
	w.deliver(c)
	eventually(t, 60*time.Second, "the push is told", func() bool {
		s := w.status()
		st := s.state("kos-mos")
		return s.Commit == c && st != "deploying" && st != "behind"
	})
	out, _ := w.try("status")
	if !strings.Contains(out, "no space left") {
		t.Errorf("the status does not say why:\n%s", out)
	}
	if n := starts(t, "host3", "idle.service") - before; n > 1 {
		t.Errorf("idle.service was started %d times", n)
	}
	on(t, "host3", "rm "+at+"/filler")
	if out, code := w.try("deploy", "--retry"); code != 0 {
		t.Fatalf("deploy --retry once there is room: exit %d\n%s", code, out)
	}
	w.waitCurrent(c)
}

// A unit that was enabled before bellhop came stays so, whatever the fleet stops saying of it.
func TestForeignUnitStaysEnabled(t *testing.T) {
	w := newWorld(t)
	w.writeRepo()
	w.write(map[string]string{
		"services/door/ssh.service.d/door.conf": "[Service]\nEnvironment=DOOR=1\n",
		"services/door/service.yaml":            "units: { ssh.service: {} }\n",
	})
	w.enable("kos-mos", "door: true")
	w.push("named")
	w.sh(w.work, "git rm -q services/door/service.yaml")
	w.push("a drop-in alone")
	if got := on(t, "host3", "systemctl is-enabled ssh; systemctl is-active ssh"); got != "enabled\nactive" {
		t.Errorf("ssh.service is %q", got)
	}
}

// An sshd that is set up for something narrower: one session at a time is enough, and one that
// runs something else in bellhop's place is told by what it said.
func TestNarrowSSHD(t *testing.T) {
	w := oneHost(t)
	t.Cleanup(func() { rig(t, "wipe", "host1") })
	sshd := func(line string) { // for connections from now on
		// A restart waits until it listens by the new config. A reload does not, and bellhop may come back
		// by the old one.
		on(t, "host1", "echo '"+line+"' >/etc/ssh/sshd_config.d/narrow.conf && systemctl restart ssh")
		tryOn("host1", "pkill -f 'sshd: root@'") // ours too
	}
	sshd("MaxSessions 1")
	on(t, "host1", "rm -rf /usr/local/libexec/bellhop") // asked, sent and run: three sessions in a row
	w.write(map[string]string{"services/x/x.service": sleeper, "services/x/files/etc/x.conf": "one\n"})
	w.deploy("one session at a time", "current")

	on(t, "host1", `printf '%s\n' '#!/bin/sh' 'case $SSH_ORIGINAL_COMMAND in *bellhop-need*) echo this door is for backups; exit 1;; esac' 'exec /bin/sh -c "$SSH_ORIGINAL_COMMAND"' >/root/door && chmod +x /root/door`)
	sshd("ForceCommand /root/door")
	w.write(map[string]string{"services/x/files/etc/x.conf": "two\n"})
	if out := w.deploy("a forced command", "pending"); !strings.Contains(out, "a ForceCommand, ended with status 1: this door is for backups") {
		t.Errorf("deploy does not say what the forced command said:\n%s", out)
	}
	sshd("MaxSessions 1")
	w.deploy("the door is ours again", "current")
}
