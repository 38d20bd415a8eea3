//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// formerRelease is the commit of the release that an upgrade begins with.
const formerRelease = "a7c53af"

// buildFormer builds the former release from the history of this repo.
func buildFormer(t *testing.T) string {
	t.Helper()
	if out, err := sh("..", "git cat-file -e "+formerRelease+"^{commit}"); err != nil {
		if isShallow, _ := sh("..", "git rev-parse --is-shallow-repository"); strings.TrimSpace(isShallow) != "false" {
			t.Skip("this is no clone, or a shallow one, without the commit of the former release: git fetch --unshallow")
		}
		t.Fatalf("the commit of the former release is not here: this needs a clone with all of the history\n%s", out)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "bellhop")
	if out, err := sh("..", "git archive "+formerRelease+" | tar -x -C "+dir+" && cd "+dir+" && CGO_ENABLED=0 go build -o "+file+" ./cmd/bellhop"); err != nil {
		t.Fatalf("build the former release: %v\n%s", err, out)
	}
	return file
}

// plainCommit is commit without settings that the former release does not know.
func (w *world) plainCommit(msg string) string {
	w.t.Helper()
	w.sh(w.work, "git add -A && git -c core.hooksPath=/dev/null commit -q -m '"+msg+"' && git push -q origin main")
	return w.head()
}

// A deployer is upgraded from the former release, which left a run open on chrysalis. There it is undone, and brought again. On lufta all is
// taken over with no more than a first contact: nothing is restarted, keys stay, and what the former release replaced comes
// back when its service leaves.
func TestUpgradeFromTheFormerRelease(t *testing.T) {
	former, new := buildFormer(t), bin
	bin = former
	t.Cleanup(func() { bin = new })
	w := newFormerFleet(t)
	first := w.plainCommit("by the former release")
	w.deliver(first)
	w.waitCurrent(first)
	was := lives(t)
	second := w.leaveOpen()

	bin = new
	before := sessions(t, "host2")
	w.start()
	w.waitCurrent(second)
	if n := sessions(t, "host2") - before; n > firstContact {
		t.Errorf("the upgrade cost %d sessions on a host of which nothing changed, want %d at most", n, firstContact)
	}
	w.bellhop("deploy", "--all")
	if is := lives(t); is != was {
		t.Errorf("after the upgrade lufta has\n%s\nand had\n%s", is, was)
	}

	if got := on(t, "host1", "cat /etc/slow.conf; systemctl is-active slow withinbot; ls /var/lib/bellhop/journal 2>/dev/null; true"); got != "two\nactive\nactive" {
		t.Errorf("chrysalis holds %q", got)
	}
	if !w.wasUndone(second) {
		t.Errorf("history does not say that the run which was left open was undone:\n%s", w.bellhop("history"))
	}

	w.enable("lufta", "withinbot: true")
	w.push("idle leaves")
	if got := on(t, "host2", "cat /etc/motd; stat -c '%U:%G %a' /etc/motd; ls /etc/systemd/system/idle.service 2>/dev/null; cat /run/keys/withinbot"); got != "welcome\ngames:games 604\nTOKEN=hunter2" {
		t.Errorf("after a service of the former release left: %q", got)
	}
}

// newFormerFleet is a fleet of two hosts with keys, of which lufta has a file that a service will replace.
func newFormerFleet(t *testing.T) *world {
	t.Helper()
	for _, h := range []string{"host1", "host2"} {
		rig(t, "wipe", h)
	}
	on(t, "host2", "echo welcome >/etc/motd && chmod 0604 /etc/motd && chown games:games /etc/motd")

	w := newDeployer(t)
	w.bellhop("init")
	w.bellhop("host", "add", "chrysalis", "root@"+addr("host1"))
	w.bellhop("host", "add", "lufta", "root@"+addr("host2"))
	tar, err := os.ReadFile(botTar)
	if err != nil {
		t.Fatal(err)
	}
	w.write(map[string]string{
		"services/withinbot/withinbot.service":       withinbotUnit,
		"services/withinbot/service.yaml":            withinbotService,
		"services/withinbot/withinbot.tar.gz":        string(tar),
		"services/withinbot/files/etc/within/a.conf": "one\n",
		"services/idle/idle.service":                 idleUnit,
		"services/idle/files/etc/motd":               "idle was here\n",
		"services/slow/slow.service":                 idleUnit,
		"services/slow/files/etc/slow.conf":          "one\n",
	})
	w.enable("chrysalis", "withinbot: true", "slow: true")
	w.enable("lufta", "withinbot: true", "idle: true")
	w.secret("withinbot.env", "TOKEN=hunter2\n")
	return w
}

// leaveOpen has the deployer, and then the run on chrysalis, die in the middle of a commit, which it returns.
func (w *world) leaveOpen() (commit string) {
	w.t.Helper()
	w.write(map[string]string{"services/slow/files/etc/slow.conf": "two\n",
		"services/slow/slow.service": strings.Replace(idleUnit, "ExecStart=", "ExecStartPre=/bin/sh -c 'until [ -e /run/go ]; do sleep 0.1; done'\nExecStart=", 1)})
	commit = w.plainCommit("left open by the former release")
	w.deliver(commit)
	eventually(w.t, 20*time.Second, "the unit waits", func() bool {
		out, _ := tryOn("host1", "systemctl is-active slow")
		return out == "activating"
	})

	w.kill()
	on(w.t, "host1", "systemctl stop --no-block bellhop-apply; systemctl kill -s KILL bellhop-apply; systemctl stop bellhop-apply; test -e /var/lib/bellhop/journal && touch /run/go")
	return commit
}

func (w *world) wasUndone(commit string) bool {
	for _, r := range w.history().Runs {
		for _, h := range r.Hosts {
			if r.Commit == commit && h.Outcome == "rolled-back" {
				return true
			}
		}
	}
	return false
}

// firstContact is how many sessions an upgrade costs on a host with keys: the new helper is not there, is brought, and is
// asked for its keys.
const firstContact = 3

// lives are the lives of the units on lufta, and what its keys and files are.
func lives(t *testing.T) string {
	t.Helper()
	return on(t, "host2", `systemctl show -p Id -p InvocationID -p MainPID -p NRestarts withinbot idle withinbot-key; sha256sum /run/keys/withinbot; stat -c '%n %i %Y %a %U:%G' /run/keys/withinbot /etc/motd /etc/within/a.conf`)
}
