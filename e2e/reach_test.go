//go:build e2e

package e2e

import (
	"cmp"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// machine is the machine's own address on the rig's network: where a deployer comes from.
var machine = "10.78." + cmp.Or(lane, "0") + ".1"

// The ways that are not the plain one, in one fleet: the repo over SSH with a key of its own, a host
// that is entered as a user who may sudo, and a host behind another.
func TestWays(t *testing.T) {
	wipe(t)
	w := newDeployer(t)
	w.moveRepo("host1")
	w.bellhop("init")
	w.bellhop("host", "add", "chrysalis", "ops@"+addr("host1"))
	w.bellhop("host", "add", "lufta", "root@"+addr("host2"))
	w.bellhop("host", "add", "kos-mos", "root@"+addr("host3"), "--jump", "lufta")
	w.writeRepo()
	w.push("the first day")
	deployer := strings.Fields(w.sh("", "ssh-keygen -y -f "+w.state+"/ssh_ed25519 | ssh-keygen -lf -"))[1]
	// logins counts how often the deployer's key was let in, as that user and from there
	logins := func(host, user, from string) int {
		n := 0
		for l := range strings.Lines(journal(t, host, "_COMM=sshd")) {
			if strings.HasPrefix(l, "Accepted publickey for "+user+" from "+from+" ") && strings.Contains(l, deployer) {
				n++
			}
		}
		return n
	}

	t.Run("sudo", func(t *testing.T) {
		w.edit("services/withinbot/files/etc/within/a.conf", "line two", "line 2")
		w.secret("withinbot.env", "TOKEN=by sudo\n")
		w.push("a line and a key")
		if got := on(t, "host1", "cat /etc/within/a.conf /run/keys/withinbot; systemctl is-active withinbot; stat -c %U /var/lib/bellhop/record"); got !=
			"line one\nline 2\nTOKEN=by sudo\nactive\nroot" {
			t.Errorf("after a push through sudo:\n%s", got)
		}
		on(t, "host1", writableKeys+"rm /run/keys/withinbot")
		w.bellhop("key", "push", "chrysalis")
		if got := on(t, "host1", "cat /run/keys/withinbot; stat -c '%a %U:%G' /run/keys/withinbot"); got != "TOKEN=by sudo\n640 withinbot:within" {
			t.Errorf("after key push the key is %q", got)
		}
		if out := w.bellhop("key", "status", "chrysalis"); !strings.Contains(out, "pushed") {
			t.Errorf("key status:\n%s", out)
		}
		if out := w.bellhop("exec", "--on", "chrysalis", "--", "id -un; echo $SUDO_USER"); !strings.Contains(out, "root") || !strings.Contains(out, "ops") {
			t.Errorf("exec on a host that is entered as ops:\n%s", out)
		}
		if logins("host1", "ops", machine) == 0 || logins("host1", "root", machine) != 0 {
			t.Errorf("the deployer logged in as ops %d times, as root %d times; want all as ops", logins("host1", "ops", machine), logins("host1", "root", machine))
		}
		if said := journal(t, "host1", "_COMM=sudo"); !strings.Contains(said, "ops : ") || !strings.Contains(said, "libexec/bellhop") {
			t.Errorf("no helper ran under sudo:\n%s", said)
		}
	})

	t.Run("jump", func(t *testing.T) {
		if through, direct := logins("host3", "root", addr("host2")), logins("host3", "root", machine); through == 0 || direct != 0 {
			t.Errorf("the deployer came through the jump host %d times, directly %d times; want all through it", through, direct)
		}
		rig(t, "cut", "host2")
		defer rig(t, "mend", "host2")
		w.write(map[string]string{"services/idle/files/etc/motd": "behind another\n"})
		c := w.commit("the jump host is away")
		w.deliver(c)
		w.waitState(c, "chrysalis", "current")
		w.waitState(c, "lufta", "pending")
		w.waitState(c, "kos-mos", "pending")
		rig(t, "mend", "host2")
		w.waitCurrent(c)
		if got := on(t, "host3", "cat /etc/motd"); got != "behind another" {
			t.Errorf("motd behind the jump host is %q", got)
		}
	})

	t.Run("repo over SSH", func(t *testing.T) {
		if !strings.Contains(journal(t, "host1", "_COMM=sshd"), "Accepted publickey for git from "+machine+" ") || logins("host1", "git", machine) != 0 {
			t.Error("the repo was not read with the key that is for it")
		}
		w.stop()
		w.flags[len(w.flags)-1] = hostKey(t, "host2")
		w.start()
		eventually(t, 20*time.Second, "a repo that shows another host key is not read", func() bool {
			return strings.Contains(w.log.String(), "host key is not the pinned one")
		})
	})
}

// moveRepo moves the repo to a host, where a user git has it and lets in one key for it alone.
func (w *world) moveRepo(host string) {
	w.t.Helper()
	key := filepath.Join(w.work, "../repo-key")
	w.sh("", "ssh-keygen -q -t ed25519 -N '' -C deploy-key -f "+key)
	on(w.t, host, "useradd -m -s /bin/sh git && usermod -p '*' git && install -d -m 700 -o git -g git ~git/.ssh && "+
		"{ cat /root/.ssh/authorized_keys; echo '"+strings.TrimSpace(w.read("../repo-key.pub"))+"'; } >~git/.ssh/authorized_keys && su git -c 'git init -q --bare -b main ~/cadey/config.git'")
	w.stop()
	w.bare = "git@" + addr(host) + ":cadey/config.git"
	w.sh(w.work, "git remote set-url origin "+w.bare+" && git config core.sshCommand 'ssh -i "+rigDir()+"/id -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR'")
	w.flags = []string{"--repo-key", key, "--repo-host-key", hostKey(w.t, host)}
	w.start()
}

// hostKey is the host key of a rig host, as a line of authorized_keys.
func hostKey(t testing.TB, host string) string {
	return on(t, host, "cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub")
}
