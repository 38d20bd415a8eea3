//go:build e2e

package e2e

import (
	"strings"
	"sync"
	"testing"
	"time"
)

// What becomes of a host on which more is wrong than a service: its disk can't be written or is full, systemd may not run what a
// login may, its clock was set, a service's user works against bellhop, or a second deployer is at work.

// anotherDeployer is a deployer of its own, for the same network and host as w.
func anotherDeployer(w *world) *world {
	other := newDeployer(w.t)
	other.bellhop("init")
	other.bellhop("host", "add", "chrysalis", "root@"+addr("host1"))
	other.edit("bellhop.yaml", "  chrysalis:\n", "  chrysalis:\n    services: { x: true }\n")
	other.edit("bellhop.yaml", lineOf(other, "network:"), lineOf(w, "network:"))
	return other
}

// lineOf is the line of bellhop.yaml that begins so.
func lineOf(w *world, start string) string {
	for line := range strings.Lines(w.read("bellhop.yaml")) {
		if strings.HasPrefix(line, start) {
			return line
		}
	}
	return ""
}

// Two deployers take a host over at the same moment, again and again: one comes after the other or is
// told that it can't, and the host holds what one of them brought, whole.
func TestTwoDeployersAtOnce(t *testing.T) {
	w := oneHost(t)
	version := func(w *world, text string) {
		w.write(map[string]string{"services/x/x.service": strings.Replace(sleeper, "[Service]\n", "[Service]\nEnvironment=V="+text+"\n", 1),
			"services/x/files/etc/x.a": text + "\n", "services/x/files/etc/x.b": text + "\n"})
		w.commit(text)
	}
	w.edit("bellhop.yaml", "network:", "# mine\nnetwork:")
	version(w, "left0")
	w.deploy("left0", "current")
	other := anotherDeployer(w)

	for _, n := range []string{"1", "2", "3", "4"} {
		version(w, "left"+n)
		version(other, "right"+n)
		var outs [2]string
		var codes [2]int
		var both sync.WaitGroup
		for i, d := range []*world{w, other} {
			both.Go(func() { outs[i], codes[i] = d.try("deploy", "--take-over", "--retry") })
		}
		both.Wait()
		t.Logf("left exits with %d\n%s\nright exits with %d\n%s", codes[0], outs[0], codes[1], outs[1])

		eventually(t, 30*time.Second, "nothing is at work", func() bool {
			out, _ := tryOn("host1", "systemctl is-active bellhop-apply; ls /var/lib/bellhop/journal 2>/dev/null")
			return out == "inactive" || out == "failed"
		})
		got := strings.Fields(on(t, "host1", "cat /etc/x.a /etc/x.b; tr '\\0' '\\n' </proc/$(systemctl show -P MainPID x)/environ | grep ^V= | cut -c3-"))
		if len(got) != 3 || got[0] != got[1] || got[1] != got[2] || got[0] != "left"+n && got[0] != "right"+n {
			t.Errorf("the host holds %q", got)
		}
		if codes[0] != 0 && codes[1] != 0 {
			t.Errorf("nobody has the host: exits %v", codes)
		}
		for i, name := range []string{"left", "right"} {
			if codes[i] != 0 && codes[i] != 3 {
				t.Errorf("%s exits with %d:\n%s", name, codes[i], outs[i])
			}
		}
	}
}

// A host whose whole disk is full, to the last byte: the host says so, stays what it was, and gets there once there is room.
func TestRootFull(t *testing.T) {
	rig(t, "small", "host1", "256")
	t.Cleanup(func() { rig(t, "wipe", "host1") })
	w := newDeployer(t)
	w.bellhop("init")
	w.bellhop("host", "add", "chrysalis", "root@"+addr("host1"))
	w.edit("bellhop.yaml", "  chrysalis:\n", "  chrysalis:\n    services: { x: true }\n")
	write := func(text string) {
		w.write(map[string]string{"services/x/x.service": strings.Replace(sleeper, "[Service]\n", "[Service]\nEnvironment=V="+text+"\n", 1),
			"services/x/files/etc/x.conf": text + "\n" + strings.Repeat(text, 5000)})
	}
	write("one")
	w.deploy("one", "current")
	before := on(t, "host1", "head -1 /etc/x.conf; systemctl show -P MainPID x")
	on(t, "host1", "dd if=/dev/zero of=/filler bs=1M 2>/dev/null; dd if=/dev/zero of=/filler2 bs=1 2>/dev/null; df -h / | tail -1; ! echo x >/more")
	for _, text := range []string{"two", "three"} {
		write(text)
		w.commit(text)
		out, code := w.try("deploy", "--retry")
		t.Logf("exit %d\n%s\n%s", code, out, w.bellhop("status"))
		if !strings.Contains(out, "no space left on device") || code != 3 {
			t.Errorf("deploy does not say why:\n%s", out)
		}
		if got := on(t, "host1", "head -1 /etc/x.conf; systemctl show -P MainPID x"); got != before {
			t.Errorf("the host holds %q, want %q", got, before)
		}
	}
	on(t, "host1", "rm -f /filler /filler2 /more")
	w.deploy("room", "current")
	if got := on(t, "host1", "head -1 /etc/x.conf; systemctl is-active x; ls /var/lib/bellhop/journal 2>/dev/null; true"); got != "three\nactive" {
		t.Errorf("the host holds %q", got)
	}
}

// A troubled is a host with the service x, whose unit and file both say which version they are.
type troubled struct {
	*world
	text string
}

func newTroubled(t *testing.T) *troubled {
	w := &troubled{world: oneHost(t)}
	w.version("first")
	w.deploy("first", "current")
	return w
}

func (w *troubled) version(text string) {
	w.text = text
	w.write(map[string]string{"services/x/x.service": strings.Replace(sleeper, "[Service]\n", "[Service]\nEnvironment=V="+text+"\n", 1),
		"services/x/files/etc/x.conf": text + "\n"})
}

// tries deploys, whatever comes of it, and returns what it said.
func (w *troubled) tries(text string) (out string, code int) {
	w.t.Helper()
	w.version(text)
	w.commit(text)
	out, code = w.try("deploy", "--retry")
	w.t.Logf("exit %d\n%s\n%s", code, out, w.bellhop("status"))
	return out, code
}

// holds says that the host stands at a version, whole.
func (w *troubled) holds(want string) {
	w.t.Helper()
	got := on(w.t, "host1", "cat /etc/x.conf; tr '\\0' '\\n' </proc/$(systemctl show -P MainPID x)/environ | grep ^V= | cut -c3-; ls /var/lib/bellhop/journal 2>/dev/null; true")
	if got != want+"\n"+want {
		w.t.Errorf("the host holds %q, want %q", got, want)
	}
}

func TestRootReadOnly(t *testing.T) {
	w := newTroubled(t)
	// what writes to / keeps it from becoming read-only, as only a broken disk does by itself
	on(t, "host1", "mkdir -p /run/systemd/journald.conf.d && printf '[Journal]\\nStorage=volatile\\n' >/run/systemd/journald.conf.d/v.conf && "+
		"systemctl restart systemd-journald && { mount -o remount,ro / 2>/dev/null || mount -o remount,bind,ro /; } && ! touch /etc/x 2>/dev/null")
	const mend = "mount -o remount,rw / 2>/dev/null || mount -o remount,bind,rw /"
	t.Cleanup(func() { tryOn("host1", mend) })

	if out, code := w.tries("second"); code != 3 || !strings.Contains(out, "read-only file system") || !strings.Contains(out, "/var/lib/bellhop") {
		t.Errorf("deploy does not say why:\n%s", out)
	}
	w.holds("first")
	on(t, "host1", mend)
	w.deploy("writable", "current")
	w.holds("second")
}

// A security policy may let a login run what PID 1 may not.
func TestSystemdMayNotRunTheHelper(t *testing.T) {
	w := newTroubled(t)
	const dir = "/etc/systemd/system/bellhop-apply.service.d"
	on(t, "host1", "mkdir -p "+dir+" && printf '[Service]\\nNoExecPaths=/usr/local/libexec /opt /var\\n' >"+dir+"/deny.conf && systemctl daemon-reload")

	out, code := w.tries("second")
	if code != 3 || !strings.Contains(out, "systemd could not run /usr/local/libexec/bellhop") || !strings.Contains(out, "SELinux") {
		t.Errorf("deploy does not say why:\n%s", out)
	}
	w.holds("first")
	on(t, "host1", "rm -rf "+dir+"; systemctl daemon-reload")
	w.deploy("allowed", "current")
	w.holds("second")
}

// What stands on the host was written at a time to come, or an hour before it was: the clock was set meanwhile.
func TestClockJumped(t *testing.T) {
	w := newTroubled(t)
	for _, by := range []string{"+1 hour", "-1 hour"} {
		on(t, "host1", "find /var/lib/bellhop /run/bellhop /run/keys /etc/x.conf /etc/systemd/system /usr/local/libexec -xdev -exec touch -h -d '"+by+"' {} + 2>/dev/null; true")
		w.version("at" + by[:2])
		w.deploy("the clock is at "+by, "current")
		w.holds(w.text)
	}
}

// A service's user bars its path while a run is at work: whatever he meets, the next push brings all but his service.
func TestPathBarredDuringARun(t *testing.T) {
	w := newTroubled(t)
	w.edit("bellhop.yaml", "x: true", "x: true, bot: true")
	bot := func(v string) {
		w.write(map[string]string{"services/bot/service.yaml": "user: { name: bot, home: /srv/bot }\n",
			"services/bot/bot.service":               strings.Replace(sleeper, "[Service]\n", "[Service]\nUser=bot\nEnvironment=V="+v+"\n", 1),
			"services/bot/files/srv/bot/conf/x.conf": v + "\n"})
	}
	bot("1")
	w.deploy("bot", "current")
	on(t, "host1", "chown bot /srv/bot /srv/bot/conf")

	// his program waits for the run to begin, and exchanges the folder for a link
	on(t, "host1", "systemd-run -q --unit=evil -p User=bot sh -c 'until grep -q second /etc/x.conf; do :; done; mv /srv/bot/conf /srv/bot/aside; ln -s /etc /srv/bot/conf'")
	bot("2")
	w.tries("second")
	for _, text := range []string{"third", "fourth"} {
		out, code := w.tries(text)
		w.holds(text)
		if got := w.status().state("chrysalis"); code != 3 || got != "held-back" || !strings.Contains(out, "/srv/bot/conf is barred by something of user bot") {
			t.Errorf("exit %d, chrysalis is %s, want held-back:\n%s", code, got, out)
		}
	}
	on(t, "host1", "rm /srv/bot/conf && mv /srv/bot/aside /srv/bot/conf")
	w.deploy("moved away", "current")
	if got := on(t, "host1", "cat /srv/bot/conf/x.conf; test ! -e /etc/x.conf.bellhop; systemctl is-active bot"); got != "2\nactive" {
		t.Errorf("bot stands at %q", got)
	}
}
