//go:build e2e

package e2e

import (
	"strings"
	"testing"
	"time"
)

// What may die while a host waits to be confirmed, or before. Afterwards the host is old or new, and
// history says which.

// A waiter is one host whose service starts when it is told to, so that its run is at work, or
// waits to be confirmed, for as long as a story likes.
type waiter struct {
	*world
	n int
}

func newWaiter(t *testing.T, confirm string) *waiter {
	w := &waiter{world: oneHost(t)}
	w.write(map[string]string{"bellhop.yaml": w.read("bellhop.yaml") + "confirm: " + confirm + "\n",
		"services/x/x.service": sleeper, "services/x/files/etc/x.conf": "0\n"})
	w.deploy("first", "current")
	return w
}

// begin pushes a new version, and returns when its unit waits for the word to start.
func (w *waiter) begin() (old, new string) {
	w.t.Helper()
	old = on(w.t, "host1", "cat /etc/x.conf; rm -f /run/go")
	w.n++
	new = strings.Repeat("+", w.n)
	w.write(map[string]string{"services/x/files/etc/x.conf": new + "\n",
		"services/x/x.service": strings.Replace(sleeper, "[Service]\n", "[Service]\nEnvironment=V="+new+"\nExecStartPre=/bin/sh -c 'until [ -e /run/go ]; do sleep 0.1; done'\n", 1)})
	w.deliver(w.commit("version " + new))
	eventually(w.t, 20*time.Second, "the unit waits for its word", func() bool {
		out, _ := tryOn("host1", "systemctl is-active x.service")
		return out == "activating"
	})
	return old, new
}

// waits lets the unit start, and returns when the run waits to be confirmed.
func (w *waiter) waits() {
	w.t.Helper()
	on(w.t, "host1", "touch /run/go")
	eventually(w.t, 10*time.Second, "the host waits to be confirmed", func() bool {
		_, err := tryOn("host1", "ls /var/lib/bellhop/runs/*/waiting")
		return err == nil
	})
}

// ends waits until nothing is at work on the host, and says what it holds. All of it must be of one version.
func (w *waiter) ends(limit time.Duration) string {
	w.t.Helper()
	eventually(w.t, limit, "nothing is at work", func() bool {
		out, _ := tryOn("host1", "systemctl is-active bellhop-apply.service; ls /var/lib/bellhop/journal 2>/dev/null")
		return out == "inactive" || out == "failed"
	})
	holds := on(w.t, "host1", "touch /run/go; cat /etc/x.conf") // after a boot the word is gone, and what runs waits for it
	eventually(w.t, 10*time.Second, "the unit runs", func() bool {
		out, _ := tryOn("host1", "systemctl is-active x.service")
		return out == "active"
	})
	rest := on(w.t, "host1", "systemctl is-active x.service; tr '\\0' '\\n' </proc/$(systemctl show -P MainPID x)/environ | grep ^V=; systemctl show -P NeedDaemonReload x; true")
	want := "active\nV=" + holds + "\nno"
	if holds == "0" {
		want = "active\nno"
	}
	if rest != want {
		w.t.Errorf("the host holds %s of the file, and of the unit\n%s", holds, rest)
	}
	return holds
}

// lastOutcome is what history has of the last run that touched the host.
func (w *waiter) lastOutcome() string {
	w.t.Helper()
	for _, r := range w.history().Runs {
		for _, h := range r.Hosts {
			if r.Subject == "version "+strings.Repeat("+", w.n) && h.Outcome != "" {
				return h.Outcome
			}
		}
	}
	return ""
}

func TestDeathWhileTheHostWaits(t *testing.T) {
	w := newWaiter(t, "60s") // a deployer has to come back meanwhile, on a busy machine too

	t.Run("the deployer is killed and comes back in time", func(t *testing.T) {
		_, new := w.begin()
		w.kill()
		w.waits()
		w.start()
		w.waitState(w.head(), "chrysalis", "current")
		if got := w.ends(10 * time.Second); got != new || w.lastOutcome() != "done" {
			t.Errorf("the host holds %s, want %s; history says %s", got, new, w.lastOutcome())
		}
	})

	t.Run("the plug is pulled", func(t *testing.T) {
		old, new := w.begin()
		w.kill()
		w.waits()
		rig(t, "plug", "host1")
		rig(t, "power", "host1")
		rig(t, "wait", "host1")
		if got := w.ends(20 * time.Second); got != old {
			t.Errorf("after the boot the host holds %s, want %s", got, old)
		}
		w.start() // a run that a power cut ended is tried once more
		w.waitState(w.head(), "chrysalis", "current")
		if got := w.ends(10 * time.Second); got != new {
			t.Errorf("the host holds %s, want %s", got, new)
		}
	})

	t.Run("the host is rebooted", func(t *testing.T) {
		old, new := w.begin()
		w.kill()
		w.waits()
		rig(t, "reboot", "host1")
		if got := w.ends(20 * time.Second); got != old {
			t.Errorf("after the reboot the host holds %s, want %s", got, old)
		}
		w.start()
		w.waitState(w.head(), "chrysalis", "current")
		if got := w.ends(10 * time.Second); got != new {
			t.Errorf("the host holds %s, want %s", got, new)
		}
	})

	t.Run("the line is cut, and comes back in time", func(t *testing.T) {
		_, new := w.begin()
		on(t, "host1", "systemd-run -q sh -c 'sleep 1; touch /run/go'")
		rig(t, "cut", "host1")
		t.Cleanup(func() { rig(t, "mend", "host1") })
		time.Sleep(6 * time.Second) // while it waits
		rig(t, "mend", "host1")
		w.waitState(w.head(), "chrysalis", "current")
		if got := w.ends(10 * time.Second); got != new || w.lastOutcome() != "done" {
			t.Errorf("the host holds %s, want %s; history says %s", got, new, w.lastOutcome())
		}
	})

	t.Run("the deployer is killed and stays away", func(t *testing.T) {
		w.edit("bellhop.yaml", "confirm: 60s", "confirm: 10s")
		old, new := w.begin()
		w.kill()
		w.waits()
		if got := w.ends(40 * time.Second); got != old {
			t.Errorf("the host holds %s, want %s", got, old)
		}
		w.start()
		w.waitState(w.head(), "chrysalis", "unconfirmed")
		h := w.told("chrysalis")
		if h.Reason != "deployer-away" || !strings.Contains(h.Error, "tried once more, in two minutes") || w.lastOutcome() != "unconfirmed" {
			t.Errorf("reason %q, error %q, history says %s; want deployer-away, and that it is tried once more", h.Reason, h.Error, w.lastOutcome())
		}
		on(t, "host1", "touch /run/go")
		w.deploy("at once", "current") // --retry
		if got := w.ends(10 * time.Second); got != new {
			t.Errorf("the host holds %s, want %s", got, new)
		}
	})
}

// head is the commit that was pushed last.
func (w *world) head() string {
	w.t.Helper()
	return strings.TrimSpace(w.sh(w.work, "git rev-parse HEAD"))
}
