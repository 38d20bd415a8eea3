//go:build e2e

package e2e

import (
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// What only a real host shows of the engine: its usermod, its disks, its systemd, its kill.

const sleeper = "[Service]\nExecStart=/bin/sleep inf\n[Install]\nWantedBy=multi-user.target\n"

// oneHost is a world with chrysalis alone, and a service folder "x" that it enables.
func oneHost(t testing.TB) *world {
	t.Helper()
	rig(t, "wipe", "host1")
	w := newDeployer(t)
	w.bellhop("init")
	w.bellhop("host", "add", "chrysalis", "root@"+addr("host1"))
	y := w.read("bellhop.yaml")
	w.write(map[string]string{"bellhop.yaml": strings.Replace(y, "  chrysalis:\n", "  chrysalis:\n    services: { x: true }\n", 1)})
	return w
}

// deploy commits and deploys; the host must end in state.
func (w *world) deploy(msg, state string) string {
	w.t.Helper()
	w.commit(msg)
	out, _ := w.try("deploy", "--retry")
	if got := w.status().state("chrysalis"); got != state {
		w.t.Fatalf("%s: chrysalis is %s, want %s\n%s", msg, got, state, out)
	}
	return out
}

// usermod refuses to move a user who has processes, and a rollback meets the new version at
// work as that user.
func TestUserOfARunningServiceMoves(t *testing.T) {
	w := oneHost(t)
	user := func(home string) string { return "user: { name: mover, group: movers, home: " + home + " }\n" }
	unit := strings.Replace(sleeper, "[Service]\n", "[Service]\nUser=mover\n", 1)
	w.write(map[string]string{"services/x/service.yaml": user("/srv/one"), "services/x/x.service": unit})
	w.deploy("one", "current")
	w.write(map[string]string{"services/x/service.yaml": user("/srv/two"), "services/x/y.service": "[Service]\nType=oneshot\nExecStart=/bin/false\n[Install]\nWantedBy=multi-user.target\n"})
	w.deploy("two, and something that fails", "rolled-back")
	if got := on(t, "host1", "getent passwd mover | cut -d: -f6; systemctl is-active x"); got != "/srv/one\nactive" {
		t.Errorf("after rollback: %s", got)
	}
	w.sh(w.work, "rm services/x/y.service")
	on(t, "host1", "systemd-run -q --unit=stranger -p User=mover sleep 1000")
	before := on(t, "host1", "systemctl show -p MainPID -p ActiveEnterTimestampMonotonic x")
	if out := w.deploy("two, while someone is in", "refused"); !strings.Contains(out, "while this runs as it: sleep (process ") || !strings.Contains(out, " of stranger.service)") {
		t.Errorf("deploy does not name what runs:\n%s", out)
	}
	if now := on(t, "host1", "systemctl show -p MainPID -p ActiveEnterTimestampMonotonic x"); now != before {
		t.Errorf("the service was touched: %s, before %s", now, before)
	}
	on(t, "host1", "systemctl stop stranger")
	w.deploy("two", "current")
	if got := on(t, "host1", "getent passwd mover | cut -d: -f6; systemctl is-active x; stat -c '%U:%G %a' /srv/two"); got != "/srv/two\nactive\nmover:movers 750" {
		t.Errorf("after the move: %s", got)
	}
	w.sh(w.work, "git rm -rq services/x && mkdir -p services/x")
	w.write(map[string]string{"services/x/files/etc/x": "x\n"})
	if out := w.deploy("the user leaves", "current"); !strings.Contains(out, "stays on the host: user mover, home /srv/two") {
		t.Errorf("deploy does not say what stays:\n%s", out)
	}
}

// A disk that is full while bytes come is told in words, and leaves the host as it was.
func TestDiskFull(t *testing.T) {
	w := oneHost(t)
	w.write(map[string]string{"services/x/x.service": sleeper, "services/x/files/etc/x.conf": "one\n"})
	w.deploy("one", "current")
	on(t, "host1", "cp -a /var/lib/bellhop /root/kept && mount -t tmpfs -o size=4M,mode=0711 tmpfs /var/lib/bellhop && cp -a /root/kept/. /var/lib/bellhop/")
	t.Cleanup(func() { tryOn("host1", "umount -l /var/lib/bellhop") })
	big := make([]byte, 6<<20)
	for i := range big {
		big[i] = byte(rand.Uint32())
	}
	w.write(map[string]string{"services/x/files/etc/x.conf": "two\n", "services/x/files/etc/x.big": string(big)})
	if out := w.deploy("too much", "failed"); !strings.Contains(out, "no space left on device") {
		t.Errorf("deploy does not say why:\n%s", out)
	}
	if got := on(t, "host1", "cat /etc/x.conf; ls /var/lib/bellhop/staging; systemctl is-active x"); got != "one\nactive" {
		t.Errorf("the host holds %q", got)
	}
	w.write(map[string]string{"services/x/files/etc/x.big": "small\n"})
	w.deploy("that fits", "current")
}

// The helper is killed again and again while it works: each time, all is old or all is new.
func TestKilledHelper(t *testing.T) {
	w := oneHost(t)
	version := func(n int) map[string]string {
		files := map[string]string{"services/x/x.service": strings.Replace(sleeper, "[Service]\n", fmt.Sprintf("[Service]\nEnvironment=V=%d\n", n), 1)}
		for i := range 20 {
			files[fmt.Sprintf("services/x/files/etc/x/%d", i)] = fmt.Sprintf("version %d\n", n)
		}
		return files
	}
	stands := func() string {
		return on(t, "host1", "cat /etc/x/* /etc/systemd/system/x.service | grep -o 'V=.*\\|version .*' | tr -d 'a-zV= ' | sort | uniq -c;"+
			"tr '\\0' '\\n' </proc/$(systemctl show -P MainPID x)/environ | grep ^V=; systemctl show -P NeedDaemonReload x; ls /var/lib/bellhop/journal 2>/dev/null; true")
	}
	whole := func(n int) string { return fmt.Sprintf("     21 %d\nV=%d\nno", n, n) }
	w.write(version(0))
	w.deploy("0", "current")
	killed := 0
	for n, now := 1, 0; n <= 10 || killed < 2 && n <= 40; n++ { // a fast host is done before many a shot
		w.write(version(n))
		w.commit(fmt.Sprint(n))
		wait := rand.IntN(60) // it is done in little more
		gun := exec.Command("rig/rig", "ssh", "host1", fmt.Sprintf("for i in $(seq 500); do p=$(systemctl show -P MainPID bellhop-apply); [ $p != 0 ] && break; sleep 0.01; done; sleep 0.%03d; kill -9 $p", wait))
		if err := gun.Start(); err != nil {
			t.Fatal(err)
		}
		w.try("deploy", "--retry")
		if gun.Wait() == nil {
			killed++
		}
		eventually(t, 30*time.Second, "nothing is at work", func() bool { // a run that was cut off is tried once more by itself
			out, _ := tryOn("host1", "systemctl is-active bellhop-apply; ls /var/lib/bellhop/journal 2>/dev/null")
			st := w.status().state("chrysalis")
			return (out == "inactive" || out == "failed") && (st == "current" || st == "rolled-back")
		})
		state, got := w.status().state("chrysalis"), stands()
		switch {
		case got == whole(n) && state == "current":
			now = n
		case got == whole(now) && state == "rolled-back":
			w.try("deploy", "--retry")
			if got := stands(); got != whole(n) {
				t.Fatalf("version %d after %d was killed and tried again: %s", n, now, got)
			}
			now = n
		default:
			t.Fatalf("version %d over %d, killed %d ms after its start: %s, and\n%s", n, now, wait, state, got)
		}
	}
	if killed < 2 {
		t.Errorf("killed %d of 40: too few to say anything", killed)
	}
	t.Logf("killed %d", killed)
}

// A service that never says that it is ready is given up after its own time, and what ran
// before runs again.
func TestNeverReady(t *testing.T) {
	w := oneHost(t)
	w.write(map[string]string{"services/x/x.service": sleeper})
	w.deploy("ready", "current")
	w.write(map[string]string{"services/x/x.service": strings.Replace(sleeper, "[Service]\n", "[Service]\nType=notify\nTimeoutStartSec=3\n", 1)})
	w.deploy("never ready", "rolled-back")
	if out := w.bellhop("status"); !strings.Contains(out, "did not say READY=1 within its TimeoutStartSec=3") {
		t.Errorf("status does not tell what was waited for:\n%s", out)
	}
	if got := on(t, "host1", "systemctl show -P Type -P ActiveState x"); got != "simple\nactive" {
		t.Errorf("after rollback: %s", got)
	}
}

// A socket that waits for a key does not listen before it is there: a client that came too
// early would wear the service out.
func TestSocketWaitsForItsKey(t *testing.T) {
	w := oneHost(t)
	if out, code := w.tryIn(strings.NewReader("sesame"), "secret", "set", "door"); code != 0 {
		t.Fatal(out)
	}
	w.write(map[string]string{"services/x/service.yaml": "keys: [door]\n",
		"services/x/x.service": "[Service]\nExecStart=/bin/sh -c 'cat /run/keys/door; exec sleep inf'\n",
		"services/x/x.socket":  "[Socket]\nListenStream=9997\n[Install]\nWantedBy=sockets.target\n"})
	w.deploy("door", "current")
	w.stop()
	rig(t, "reboot", "host1")
	if out, err := tryOn("host1", "bash -c 'exec 3<>/dev/tcp/127.0.0.1/9997'"); err == nil {
		t.Errorf("it listens without its key: %s", out)
	}
	w.start()
	eventually(t, 60*time.Second, "the door answers", func() bool {
		_, err := tryOn("host1", "bash -c 'exec 3<>/dev/tcp/127.0.0.1/9997'")
		return err == nil
	})
	eventually(t, 5*time.Second, "the service runs", func() bool {
		out, _ := tryOn("host1", "systemctl is-active x.service")
		return out == "active"
	})
}
