//go:build e2e

package e2e

import (
	"strings"
	"testing"
	"time"
)

// whole is what one generation of a service left on host1: files, links, units, the key and what runs.
func whole(t *testing.T) string {
	t.Helper()
	return on(t, "host1", `cd /; sha256sum etc/app.conf etc/systemd/system/app.service etc/systemd/system/side.service etc/side.conf run/keys/app 2>&1;
		for u in app side more; do echo $u $(systemctl is-enabled $u 2>&1) $(systemctl is-active $u); done; ls etc/systemd/system/multi-user.target.wants; cat run/keys/app`)
}

// A push changes a unit, files and a key, and takes a service away. After a rollback all of it is exactly
// as it was, it stays so while other hosts change and over a reboot, and a commit of the host ends that.
func TestGoingBack(t *testing.T) {
	w := oneHost(t)
	w.edit("bellhop.yaml", "{ x: true }", "{ app: true, side: true }")
	w.write(map[string]string{
		"services/app/app.service":          sleeper,
		"services/app/files/etc/app.conf":   "one\n",
		"services/app/service.yaml":         "keys: [app]\nbefore: { command: 'echo ran >>/srv/steps' }\n",
		"services/side/side.service":        sleeper,
		"services/side/files/etc/side.conf": "side\n",
		"services/more/more.service":        sleeper,
	})
	w.secret("app", "first value")
	w.deploy("first", "current")
	first := whole(t)

	w.edit("bellhop.yaml", "{ app: true, side: true }", "{ app: true, more: true }")
	w.write(map[string]string{
		"services/app/app.service":        strings.Replace(sleeper, "[Service]\n", "[Service]\nEnvironment=VERSION=2\n", 1),
		"services/app/files/etc/app.conf": "two\n",
	})
	w.secret("app", "second value")
	w.deploy("second", "current")
	if whole(t) == first {
		t.Fatal("the second commit changed nothing")
	}
	steps, before := on(t, "host1", "wc -l </srv/steps"), sessions(t, "host1")

	w.bellhop("rollback", "chrysalis", "--reason", "two is bad")
	after := sessions(t, "host1")
	if got := whole(t); got != first {
		t.Errorf("the host holds\n%s\nand held\n%s", got, first)
	}
	if got := on(t, "host1", "wc -l </srv/steps"); got != steps {
		t.Errorf("steps ran %s times, and %s times before the rollback", got, steps)
	}
	if got := after - before; got > 2 {
		t.Errorf("%d sessions, want one that pushes and one that confirms", got)
	}
	if got := w.status().state("chrysalis"); got != "held" {
		t.Errorf("chrysalis is %s, want held", got)
	}

	w.write(map[string]string{"README": "not of the host\n"})
	w.commit("of no host")
	if out, code := w.try("deploy"); code != 3 || whole(t) != first {
		t.Errorf("a deploy that meets a held host exits %d, want 3\n%s\nthe host holds\n%s", code, out, whole(t))
	}
	rig(t, "reboot", "host1")
	rig(t, "wait", "host1")
	w.bellhop("key", "push")
	eventually(t, 30*time.Second, "all stands as it did after a reboot", func() bool { return whole(t) == first })
	if out := w.bellhop("status"); !strings.Contains(out, "(two is bad); bellhop resume chrysalis") {
		t.Errorf("status does not lead with the hold:\n%s", out)
	}

	w.write(map[string]string{"services/more/files/etc/more.conf": "three\n"})
	w.deploy("third, of another service", "current")
	if got := on(t, "host1", "cat /etc/app.conf /etc/more.conf /run/keys/app; systemctl is-active side || true"); got != "two\nthree\nsecond valueinactive" {
		t.Errorf("after a commit that changes the host it holds %q", got)
	}
	if out := w.bellhop("history", "-n", "1"); !strings.Contains(out, "chrysalis is held no longer: this commit changes") {
		t.Errorf("history does not say why the hold ended:\n%s", out)
	}
}
