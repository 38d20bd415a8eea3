//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// reader is a service whose program opens its key itself, as a user outside group keys.
const readerUnit = `[Unit]
Description=reads its key by itself
[Service]
User=reader
ExecStart=/bin/sh -c 'cat /run/keys/reader >/srv/reader/seen && exec sleep infinity'
[Install]
WantedBy=multi-user.target
`

// writableKeys makes the place for keys writable by its path, as only root on the host can: bellhop
// writes there by a way of its own, and makes it read-only at its next contact.
const writableKeys = "mount -o remount,rw /run/keys; "

const readerService = `user: { name: reader, home: /srv/reader }
keys: [reader]
`

// writeKeys is a repo with the bot on chrysalis and the reader on lufta.
func (w *world) writeKeys() {
	w.t.Helper()
	w.writeRepo()
	w.write(map[string]string{
		"services/reader/reader.service": readerUnit,
		"services/reader/service.yaml":   readerService,
	})
	w.enable("lufta", "idle: true", "reader: true")
	w.secret("reader", "first value")
}

// standing waits until host's withinbot has its key and runs, and returns how long that took
// since its sshd answered.
func standing(t *testing.T, host string) time.Duration {
	t.Helper()
	rig(t, "wait", host)
	up := time.Now()
	eventually(t, 30*time.Second, "the key stands and the bot runs", func() bool {
		out, _ := tryOn(host, "test -f /run/keys/withinbot && systemctl is-active withinbot.service withinbot-key.service")
		return out == "active\nactive"
	})
	return time.Since(up)
}

func TestKeysComeBack(t *testing.T) {
	w := newWorld(t)
	w.writeKeys()
	w.push("keys")
	cases := []struct {
		name   string
		reboot func()
	}{
		{"bellhop reboot", func() { w.bellhop("reboot", "chrysalis") }},
		{"by hand", func() { rig(t, "reboot", "host1") }},
		{"plug pulled", func() { rig(t, "plug", "host1"); rig(t, "power", "host1") }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			c.reboot()
			if took, most := standing(t, "host1"), ofThisMachine(t, "host1", 5*time.Second); took > most {
				t.Errorf("the keys came %s after sshd answered, want at most %s", took, most)
			}
			if got := on(t, "host1", "stat -f -c %T /run/keys; systemctl is-system-running"); got != "ramfs\nrunning" {
				t.Errorf("after the reboot: %q", got)
			}
		})
	}
	t.Run("the generation that stands", func(t *testing.T) {
		// a newer commit with another value is not deployed while the host is away
		w.secret("withinbot.env", "TOKEN=newer\n")
		w.write(map[string]string{"services/withinbot/withinbot.service": strings.Replace(withinbotUnit, "ExecStart=/opt", "ExecStart=/bad", 1)})
		c := w.commit("a bad newer one")
		w.deliver(c)
		w.waitState(c, "chrysalis", "rolled-back")
		rig(t, "reboot", "host1")
		standing(t, "host1")
		if got := on(t, "host1", "cat /run/keys/withinbot"); got != "TOKEN=hunter2" {
			t.Errorf("the key is not that of the generation that stands")
		}
	})
}

// The power fails everywhere: hosts and the deployer are cut, and when they are back something
// keeps bellhop from deploying. The keys come back all the same.
func TestKeysComeBackAfterAPowerCut(t *testing.T) {
	w := newWorld(t)
	w.writeKeys()
	w.push("keys")

	for _, c := range []struct {
		name        string
		wreck, mend func()
	}{
		{"the git remote is gone",
			func() { w.sh("", "mv "+w.bare+" "+w.bare+".gone") },
			func() { w.sh("", "mv "+w.bare+".gone "+w.bare) }},
		{"the head is refused",
			func() {
				w.write(map[string]string{"services/reader/junk": "nobody knows what this is"})
				w.commit("a problem in the config")
			},
			func() {}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.serve.Process.Kill()
			<-w.exited
			for _, h := range []string{"host1", "host2"} {
				rig(t, "plug", h)
			}
			c.wreck()
			defer c.mend()

			w.start()
			for _, h := range []string{"host1", "host2"} {
				rig(t, "power", h)
			}
			standing(t, "host1")
			rig(t, "wait", "host2")
			eventually(t, 30*time.Second, "the reader has its key and runs", func() bool {
				out, _ := tryOn("host2", "test -f /run/keys/reader && systemctl is-active reader.service")
				return out == "active"
			})
			if got := on(t, "host1", "cat /run/keys/withinbot"); got != "TOKEN=hunter2" {
				t.Error("the key is not that of the generation that was deployed")
			}
		})
	}
}

func TestSealedKeys(t *testing.T) {
	w := newWorld(t)
	w.writeKeys()
	w.edit("services/withinbot/service.yaml", `permissions: "0640" }`, `permissions: "0640", persist: sealed }`)
	w.push("sealed")
	w.stop()
	rig(t, "plug", "host1")
	rig(t, "power", "host1")
	standing(t, "host1")
	if got := on(t, "host1", "cat /run/keys/withinbot; stat -c '%a %U:%G' /run/keys/withinbot; stat -c '%a' /var/lib/bellhop/sealed /var/lib/bellhop/sealed/*"); got !=
		"TOKEN=hunter2\n640 withinbot:within\n700\n600" {
		t.Errorf("a sealed key, its place and its copy:\n%s", got)
	}
	w.start()
	eventually(t, 20*time.Second, "key status says sealed", func() bool {
		out, _ := w.try("key", "status")
		return strings.Contains(out, "sealed")
	})
	w.bellhop("deploy", "--all") // looks at the host, and finds nothing to send
	if out := w.bellhop("key", "status", "chrysalis"); !strings.Contains(out, "sealed") {
		t.Errorf("after a look key status no longer says sealed:\n%s", out)
	}
}

func TestKeyChanges(t *testing.T) {
	w := newWorld(t)
	w.writeKeys()
	w.push("keys")
	seen := func() string { return on(t, "host2", "cat /srv/reader/seen") }
	if got := seen(); got != "first value" {
		t.Fatalf("the reader saw %q", got)
	}

	t.Run("same value, new ciphertext", func(t *testing.T) {
		before := [2]int{sessions(t, "host2"), starts(t, "host2", "reader.service")}
		w.secret("reader", "first value")
		w.push("sealed anew")
		if got := [2]int{sessions(t, "host2"), starts(t, "host2", "reader.service")}; got != before {
			t.Errorf("sessions and starts went from %v to %v for the same value", before, got)
		}
	})
	t.Run("new value restarts its user once", func(t *testing.T) {
		before := [2]int{starts(t, "host2", "reader.service"), starts(t, "host2", "idle.service")}
		keyUnit := starts(t, "host2", "reader-key.service")
		w.secret("reader", "second value")
		w.push("new value")
		if got := seen(); got != "second value" {
			t.Errorf("the reader saw %q", got)
		}
		if got := [2]int{starts(t, "host2", "reader.service") - before[0], starts(t, "host2", "idle.service") - before[1]}; got != [2]int{1, 0} {
			t.Errorf("starts of reader and idle: %v, want [1 0]", got)
		}
		if got := starts(t, "host2", "reader-key.service"); got != keyUnit {
			t.Errorf("the key unit was started %d times more", got-keyUnit)
		}
	})
	t.Run("planted link", func(t *testing.T) {
		on(t, "host2", writableKeys+"cp /etc/hostname /root/target; rm /run/keys/reader; ln -s /root/target /run/keys/reader")
		w.secret("reader", "third value")
		w.push("over a link")
		if got := on(t, "host2", "cat /root/target; stat -c '%F %a %U' /run/keys/reader; cat /srv/reader/seen"); got != "host2\nregular file 400 reader\nthird value" {
			t.Errorf("after a planted link:\n%s", got)
		}
	})
	t.Run("key push heals", func(t *testing.T) {
		on(t, "host2", writableKeys+"rm /run/keys/reader")
		w.bellhop("key", "push", "lufta")
		if got := on(t, "host2", "cat /run/keys/reader"); got != "third value" {
			t.Errorf("after key push the key is %q", got)
		}
		if out := w.bellhop("key", "status"); !strings.Contains(out, "lufta") || !strings.Contains(out, "pushed") {
			t.Errorf("key status:\n%s", out)
		}
	})
	t.Run("renamed and removed", func(t *testing.T) {
		w.sh(w.work, "git mv secrets/reader.age secrets/book.age")
		w.write(map[string]string{
			"services/reader/service.yaml":   strings.Replace(readerService, "[reader]", "[book]", 1),
			"services/reader/reader.service": strings.Replace(readerUnit, "/run/keys/reader", "/run/keys/book", 1),
		})
		w.push("renamed")
		if got := on(t, "host2", "ls /run/keys; systemctl is-active book-key reader-key reader; true"); got != "book\nactive\ninactive\nactive" {
			t.Errorf("after a rename:\n%s", got)
		}
		w.write(map[string]string{
			"services/reader/service.yaml":   "user: { name: reader, home: /srv/reader }\n",
			"services/reader/reader.service": strings.Replace(readerUnit, "cat /run/keys/reader >/srv/reader/seen && ", "", 1),
		})
		w.push("removed")
		if got := on(t, "host2", "ls /run/keys; systemctl is-active book-key reader; ls /etc/systemd/system/book-key.service 2>&1; true"); !strings.HasPrefix(got, "inactive\nactive\nls: cannot access") {
			t.Errorf("after a removal:\n%s", got)
		}
	})
	t.Run("unknown owner", func(t *testing.T) {
		w.write(map[string]string{"services/reader/service.yaml": "user: { name: reader, home: /srv/reader }\nkeys: { book: { user: nobody-knows } }\n",
			"services/idle/files/etc/motd": "others go on\n"})
		c := w.commit("unknown owner")
		w.deliver(c)
		w.waitState(c, "lufta", "held-back")
		if got := on(t, "host2", "cat /etc/motd"); got != "others go on" {
			t.Errorf("of the other service lufta has %q", got)
		}
		w.waitState(c, "chrysalis", "current")
		if out := w.bellhop("status"); !strings.Contains(out, "nobody-knows") {
			t.Errorf("status does not name the owner:\n%s", out)
		}
	})
}

// A service that carries our own connection is restarted by its key: the apply outlives it.
func TestKeyOfOurOwnConnection(t *testing.T) {
	w := newWorld(t)
	w.write(map[string]string{
		"services/tunnel/tunnel.service": `[Unit]
Description=carries the connection
[Service]
ExecStart=/bin/sleep infinity
ExecStop=/bin/sh -c 'ip link set eth0 down; sleep 3'
ExecStopPost=/bin/sh -c 'ip link set eth0 up'
[Install]
WantedBy=multi-user.target
`,
		"services/tunnel/service.yaml": "keys: [tunnel]\n",
	})
	w.enable("chrysalis", "tunnel: true")
	w.secret("tunnel", "one")
	w.push("a tunnel")
	w.secret("tunnel", "two")
	w.push("its key changes")
	if got := on(t, "host1", "cat /run/keys/tunnel; systemctl is-active tunnel"); got != "twoactive" {
		t.Errorf("after its key changed: %q", got)
	}
	if got := starts(t, "host1", "tunnel.service"); got != 2 {
		t.Errorf("the tunnel was started %d times, want 2", got)
	}
}

// A full /run fails the push by name and leaves the old value; once there is room it goes.
func TestRunFull(t *testing.T) {
	w := newWorld(t)
	w.writeKeys()
	w.push("keys")
	t.Cleanup(func() { tryOn("host2", "rm -f /run/filler; mount -o remount,size=50% /run") })
	if got := on(t, "host2", "mount -o remount,size=32m /run && dd if=/dev/zero of=/run/filler bs=64k 2>/dev/null; df --output=avail /run | tail -n 1 | tr -d ' '"); got != "0" {
		t.Fatalf("/run has %s KiB left", got)
	}
	w.secret("reader", "second value")
	c := w.commit("no room")
	w.deliver(c)
	eventually(t, 60*time.Second, "the push is told as failed, or it came through", func() bool {
		s := w.status()
		st := s.state("lufta")
		return s.Commit == c && st != "deploying" && st != "behind"
	})
	if got := on(t, "host2", "systemctl is-active reader; cat /run/keys/reader"); got != "active\nfirst value" && got != "active\nsecond value" {
		t.Errorf("with a full /run: %q", got)
	}
	on(t, "host2", "rm /run/filler")
	if out, code := w.try("deploy", "--retry"); code != 0 {
		t.Fatalf("deploy --retry: exit %d\n%s", code, out)
	}
	if got := on(t, "host2", "cat /srv/reader/seen"); got != "second value" {
		t.Errorf("once there is room the reader saw %q", got)
	}
}

// The box burned down: a new server with the same identity and SSH key finds every host
// current and changes nothing.
func TestBoxBurnedDown(t *testing.T) {
	w := newWorld(t)
	w.writeKeys()
	c := w.push("keys")
	before := [3]int{starts(t, "host1", "withinbot.service"), starts(t, "host2", "reader.service"), starts(t, "host3", "idle.service")}
	gens := on(t, "host1", "cat /var/lib/bellhop/record") + on(t, "host2", "cat /var/lib/bellhop/record")
	w.stop()
	w.sh("", fmt.Sprintf("mkdir -m 700 %[1]s.new && cp -p %[1]s/identity.age %[1]s/ssh_ed25519 %[1]s.new/ && rm -rf %[1]s && mv %[1]s.new %[1]s", w.state))
	w.start()
	w.waitCurrent(c)
	if got := [3]int{starts(t, "host1", "withinbot.service"), starts(t, "host2", "reader.service"), starts(t, "host3", "idle.service")}; got != before {
		t.Errorf("starts went from %v to %v", before, got)
	}
	generation := func(s string) string {
		var gs []string
		for _, part := range strings.Split(s, `"generation":`)[1:] {
			gs = append(gs, strings.TrimLeft(part[:strings.IndexAny(part, ",}")], " "))
		}
		return strings.Join(gs, " ")
	}
	if now := on(t, "host1", "cat /var/lib/bellhop/record") + on(t, "host2", "cat /var/lib/bellhop/record"); generation(now) != generation(gens) {
		t.Errorf("generations went from %s to %s", generation(gens), generation(now))
	}
}

// Files from Debian's age are opened, and age opens ours.
func TestAgeInterop(t *testing.T) {
	if _, err := exec.LookPath("age"); err != nil {
		t.Fatal("age is not installed")
	}
	w := newDeployer(t)
	w.bellhop("init")
	w.secret("x", "from bellhop")
	out := w.sh(w.work, "age -d -i "+w.state+"/identity.age secrets/x.age")
	if out != "from bellhop" {
		t.Errorf("age -d says %q", out)
	}
	reader := strings.TrimSpace(w.sh("", "age-keygen -y "+w.state+"/identity.age"))
	w.sh(w.work, "printf 'from age' | age -a -r "+reader+" -o secrets/y.age")
	if out := w.bellhop("secret", "show", "y", "-o", "-", "--identity", w.state+"/identity.age"); out != "from age" {
		t.Errorf("secret show says %q", out)
	}
	if _, err := os.Stat(w.work + "/secrets/y.age"); err != nil {
		t.Error(err)
	}
}
