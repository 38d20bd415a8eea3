//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// Ways to cut oneself off from a host by a push. Each time the host goes back to what it held
// before, by itself, since nobody could reach it any more to say that all is well.

// How long hosts wait to be confirmed here. Where the line of the run itself is cut, the deployer takes ten
// seconds to notice, and some more to find out that it can't have another.
const (
	shortWindow = "5s"
	longWindow  = "30s"
)

// A cutOff is one commit that takes the host away from its deployer.
type cutOff struct {
	name  string
	files map[string]string // of services/x
	state string            // of the host afterwards; "": unconfirmed
	says  string            // in its error
	cable bool              // the line of the run is cut too
}

// sshdConf is a service with a file of sshd's settings; sshd is restarted when it changes.
func sshdConf(lines string) map[string]string {
	return map[string]string{
		"service.yaml":                          "units: { ssh.service: {} }\n",
		"files/etc/ssh/sshd_config.d/10-x.conf": lines,
	}
}

// networkUnit is a service with one unit, which does something to the network until it is stopped.
func networkUnit(start, stop string) map[string]string {
	return map[string]string{"x.service": "[Service]\nType=oneshot\nRemainAfterExit=yes\n" +
		"ExecStart=/bin/sh -ec '" + start + "'\nExecStop=/bin/sh -c '" + stop + "'\n[Install]\nWantedBy=multi-user.target\n"}
}

// dropNew drops what opens a connection to port 22, as a firewall does; one that is open goes on. The
// packet filter is written as `tcpdump -ddd` prints it: Ethernet type, protocol, port, and SYN without ACK.
const dropNew = `tc qdisc add dev eth0 clsact; tc filter add dev eth0 ingress bpf da bytecode "11,40 0 0 12,21 0 8 2048,48 0 0 23,21 0 6 6,` +
	`40 0 0 36,21 0 4 22,48 0 0 47,84 0 0 18,21 0 1 2,6 0 0 2,6 0 0 4294967295"`

// cutOffs are all but the VPN's wrong key, for which the host has to be reached through a VPN.
var cutOffs = []cutOff{
	{name: "sshd does not start", files: sshdConf("ThisIsNoWord yes\n"), state: "rolled-back", says: "ssh.service"},
	{name: "sshd speaks another language", files: sshdConf("Ciphers 3des-cbc\n"), says: "no common algorithm"},
	{name: "no root login", files: sshdConf("PermitRootLogin no\n"), says: "login refused"},
	{name: "the line of the deployer is gone", files: map[string]string{
		"service.yaml":                          "units: { ssh.service: {} }\n",
		"files/etc/ssh/sshd_config.d/10-x.conf": "AuthorizedKeysFile /etc/ssh/keys/%u\n",
		"files/etc/ssh/keys/root":               "# nobody\n",
	}, says: "login refused"},
	{name: "no network", files: networkUnit("ip link set eth0 down", "ip link set eth0 up"), cable: true},
	{name: "the port of sshd moved", files: sshdConf("Port 2222\n"), says: "connection refused"},
	{name: "new connections dropped", files: networkUnit(dropNew, "tc qdisc del dev eth0 clsact")},
}

// Promise 5, on real hosts: seven ways to lose a host by a push, and all of it is back.
func TestCutOffByAPush(t *testing.T) {
	rig(t, "wipe", "host1")
	onEachSuite(t, func(t *testing.T) {
		t.Cleanup(mendNetwork)
		w := newDeployer(t)
		w.bellhop("init")
		w.bellhop("host", "add", "chrysalis", "root@"+addr("host3"))
		w.bellhop("host", "add", "lufta", "root@"+addr("host1")) // tells that it is not the deployer's own network
		w.write(map[string]string{"bellhop.yaml": w.read("bellhop.yaml") + "confirm: " + shortWindow + "\n",
			"services/app/app.service": sleeper, "services/app/files/etc/app.conf": "0\n",
			"services/idle/idle.service":  sleeper,
			"services/x/files/etc/x.conf": "0\n"})
		w.enable("chrysalis", "app: true", "idle: true", "x: true")
		w.deployAt("good", "current")

		for i, c := range cutOffs {
			t.Run(c.name, func(t *testing.T) {
				w := w.in(t)
				w.cutOff(c)
				w.recover(i)
			})
		}
		t.Run("the key of the VPN is wrong", func(t *testing.T) { w.in(t).vpn() })
	})
}

// in is the same world for a subtest.
func (w *world) in(t *testing.T) *world {
	sub := *w
	sub.t = t
	return &sub
}

// deployAt commits all and deploys it; chrysalis must end in state, with the exit code that tells so.
func (w *world) deployAt(msg, state string) string {
	w.t.Helper()
	c := w.commit(msg)
	out, code := w.try("deploy")
	if want := map[bool]int{true: 0, false: 3}[state == "current"]; code != want {
		w.t.Errorf("%s: deploy exits with %d, want %d\n%s", msg, code, want, out)
	}
	if got := w.status(); got.state("chrysalis") != state || got.Commit != c {
		w.t.Fatalf("%s: chrysalis is %s, want %s\n%s", msg, got.state("chrysalis"), state, out)
	}
	return out
}

// stood is all that bellhop may have changed on chrysalis: files, links, accounts, keys, units, what
// runs, what starts at boot, and how the network is reached.
func stood(t testing.TB) string {
	t.Helper()
	const units = `systemctl list-units --all --plain --no-legend --type=service,socket,timer,path | awk '!/session|user@|user-runtime|bellhop-(apply|before)|netavark-dhcp/ {print $1, $2, $3, $4}'
		systemctl list-unit-files --no-legend | grep -v '^session-' | sort
		systemctl show -P NeedDaemonReload ssh app; systemctl show -P MainPID -P ActiveEnterTimestampMonotonic idle
		ip -o addr show dev eth0; tc qdisc show dev eth0; ip -o link | sed -E 's/^[0-9]+: ([^:@]*)[^<]*<([^>]*)>.*/\1 \2/'
		ls /var/lib/bellhop/journal /run/keys/.before 2>/dev/null; cat /run/keys/* 2>/dev/null; true`
	return holdings(t, "host3") + "\n" + on(t, "host3", units)
}

// cutOff pushes a commit that cuts the host off, and says what must be true once it is over.
func (w *world) cutOff(c cutOff) {
	w.t.Helper()
	before := stood(w.t)
	w.sh(w.work, "rm -rf services/x")
	for name, content := range c.files {
		w.write(map[string]string{"services/x/" + name: content})
	}
	if c.state == "" { // else the service alone would be held back, and the others brought
		w.write(map[string]string{"services/app/files/etc/app.conf": "with " + c.name + "\n"})
	}
	if c.cable {
		w.edit("bellhop.yaml", "confirm: "+shortWindow, "confirm: "+longWindow)
		defer w.edit("bellhop.yaml", "confirm: "+longWindow, "confirm: "+shortWindow)
	}
	w.lost(c, before)
}

// lost deploys what was written.
func (w *world) lost(c cutOff, before string) {
	w.t.Helper()
	if c.state == "" {
		c.state = "unconfirmed"
	}
	began := time.Now()
	out := w.deployAt(c.name, c.state)
	took := time.Since(began)

	eventually(w.t, 15*time.Second, "host3 is back as it was", func() bool {
		out, err := tryOn("host3", "test ! -e /var/lib/bellhop/journal && systemctl is-active bellhop-apply.service")
		return err != nil && out == "inactive" || out == "failed"
	})
	if lines := differing(before, stood(w.t)); len(lines) > 0 {
		w.t.Errorf("%s: the host is not as it was:\n%s", c.name, strings.Join(lines, "\n"))
	}

	h := w.told("chrysalis")
	isRight := c.state == "rolled-back" || h.Reason == "cut-off" && strings.Contains(h.Error, "could be reached") && strings.Contains(h.Error, "bellhop deploy --retry")
	if !isRight || !strings.Contains(h.Error, c.says) {
		w.t.Errorf("%s: reason %q, error %q; want cut-off, %q, and what to type", c.name, h.Reason, h.Error, c.says)
	}
	status, _ := w.try("status")
	w.t.Logf("%s, after %v\n%s\n%s", c.name, took.Round(100*time.Millisecond), out, status)

	w.notAgain(c)
}

// notAgain pushes a commit that leaves the host's bundle as it is: it is not tried again.
func (w *world) notAgain(c cutOff) {
	w.t.Helper()
	before := starts(w.t, "host3", "bellhop-apply.service")
	w.write(map[string]string{"README.md": "after " + c.name + "\n"})
	commit := w.commit("leaves it alone")
	w.deliver(commit)
	w.waitState(commit, "chrysalis", c.state)
	if n := starts(w.t, "host3", "bellhop-apply.service") - before; n != 0 {
		w.t.Errorf("%s was tried again: %d times", c.name, n)
	}
}

// recover pushes a commit without what cut the host off.
func (w *world) recover(n int) {
	w.t.Helper()
	w.sh(w.work, "rm -rf services/x")
	text := fmt.Sprintf("%d\n", n+1)
	w.write(map[string]string{"services/x/files/etc/x.conf": text, "services/app/files/etc/app.conf": text})
	w.deployAt("mended", "current")
	if got := on(w.t, "host3", "cat /etc/app.conf /etc/x.conf; systemctl is-active app"); got != text+text+"active" {
		w.t.Errorf("after the next good commit the host holds %q", got)
	}
}

// vpn has chrysalis reached through a tunnel whose number both ends must know; the host has it from a
// key. (This stands for WireGuard, which not every kernel has.)
func (w *world) vpn() {
	w.t.Helper()
	const here, there = "10.79.0.1", "10.79.0.13"
	link := func(id, remote, own string) string {
		return "ip link add vpn type vxlan id " + id + " remote " + remote + " dstport 4789; ip addr add " + own + "/24 dev vpn; ip link set vpn up"
	}
	w.sh("", link("4711", addr("host3"), here))
	w.t.Cleanup(func() { sh("", "ip link del vpn") })

	w.secret("vpn", "4711")
	w.sh(w.work, "rm -rf services/x")
	for name, content := range networkUnit(link("$$(cat /run/keys/vpn)", machine, there), "ip link del vpn") {
		w.write(map[string]string{"services/x/" + name: content})
	}
	w.write(map[string]string{"services/x/service.yaml": "keys: [vpn]\n"})
	w.deployAt("a VPN", "current")
	w.edit("bellhop.yaml", "address: "+addr("host3"), "address: "+there)
	w.write(map[string]string{"services/app/files/etc/app.conf": "through the VPN\n"})
	w.deployAt("through the VPN", "current")

	before := stood(w.t)
	w.edit("bellhop.yaml", "confirm: "+shortWindow, "confirm: "+longWindow)
	w.secret("vpn", "4712")
	w.lost(cutOff{name: "the key of the VPN is wrong"}, before)

	w.secret("vpn", "4711")
	w.write(map[string]string{"services/app/files/etc/app.conf": "mended\n"})
	w.deployAt("the key of the VPN is right again", "current")
}

// mendNetwork takes away what these stories leave of host3's network when they fail: it outlives its disk.
func mendNetwork() {
	host3 := "bh" + lane + "-host3" // its network namespace
	for _, line := range []string{"tc -n " + host3 + " qdisc del dev eth0 clsact", "ip -n " + host3 + " link set eth0 up", "ip -n " + host3 + " link del vpn", "ip link del vpn"} {
		exec.Command("bash", "-c", line).Run()
	}
}

// A hostTold is what `bellhop status --json` says of a host that is not well.
type hostTold struct{ Name, State, Reason, Error string }

func (w *world) told(host string) hostTold {
	w.t.Helper()
	var s struct{ Hosts []hostTold }
	if err := json.Unmarshal([]byte(w.bellhop("status", "--json")), &s); err != nil {
		w.t.Fatal(err)
	}
	for _, h := range s.Hosts {
		if h.Name == host {
			return h
		}
	}
	return hostTold{}
}
