//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// What happens to a NixOS host while a system comes to it, on a real machine.

// deployMeanwhile deploys, and has the host do something meanwhile. It returns what deploy said.
func (w *world) deployMeanwhile(msg string, meanwhile func()) string {
	w.t.Helper()
	w.write(map[string]string{"services/x/x.service": sleeper + "# " + msg + "\n"})
	w.commit(msg)
	said := make(chan string, 1)
	go func() {
		out, _ := w.try("deploy")
		said <- out
	}()
	meanwhile()
	select {
	case out := <-said:
		return out
	case <-time.After(5 * time.Minute):
		w.t.Fatal(msg + ": deploy does not end")
	}
	return ""
}

// waitFile waits until a file is on the disk of host3, which is seen without its network.
func waitFile(t testing.TB, name string) {
	t.Helper()
	eventually(t, 2*time.Minute, name+" is on host3", func() bool {
		_, err := os.Stat(onDisk(name))
		return err == nil
	})
}

// heldSystem is a system whose switch waits, before it does anything, until something is on the disk of the host.
func heldSystem(services map[string]string) map[string]string {
	return flakeOf(systemThat("nixos-system-chrysalis", "./nixos/system.nix", "bot", services, "echo >$out/holds"))
}

// onDisk is a file of host3, which is reached without its network.
func onDisk(name string) string { return filepath.Join(rigDir(), "host3/root", name) }

// letSwitch ends the wait of a held system.
func letSwitch(t testing.TB) {
	t.Helper()
	if err := os.WriteFile(onDisk("srv/goes"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
}

// nixosLosesItsPlug pulls the plug between --set and the switch. The host boots what it ran, the next contact puts the
// profile back, and then the push is tried again.
func (w *world) nixosLosesItsPlug() {
	t := w.t
	t.Helper()
	before := systemLinks(t)
	former, _, _ := strings.Cut(before, "\n")
	number, err := strconv.Atoi(regexp.MustCompile(`system system-([0-9]+)-link`).FindStringSubmatch(before)[1])
	if err != nil {
		t.Fatal(err)
	}
	on(t, "host3", "rm -f /srv/held /srv/goes")
	w.write(heldSystem(map[string]string{"web": "exec sleep 1013"}))
	out := w.deployMeanwhile("plug pulled", func() {
		waitFile(t, "srv/held")
		rig(t, "plug", "host3")
		if err := os.Remove(onDisk("srv/held")); err != nil {
			t.Error(err)
		}
		rig(t, "power", "host3")
		rig(t, "wait", "host3")
	})

	waitFile(t, "srv/held")
	got := on(t, "host3", "readlink -f /run/booted-system /run/current-system; journalctl -q --no-pager -u bellhop-nixos")
	if !strings.HasPrefix(got, former+"\n"+former+"\n") || !strings.Contains(got, fmt.Sprintf(" %d to %d", number+1, number)) {
		t.Errorf("after a plug that was pulled, which had run\n%s\nthis runs:\n%s\n%s", before, got, out)
	}
	letSwitch(t)
	eventually(t, 2*time.Minute, "chrysalis is current", func() bool { return w.status().state("chrysalis") == "current" })

	links := systemLinks(t)
	w.bellhop("reboot", "chrysalis")
	if now := systemLinks(t); now != links {
		t.Errorf("after a reboot:\n%s\nbefore:\n%s", now, links)
	}
	if got := on(t, "host3", "systemctl is-active web; stat -c '%U %a' /run/keys/token"); got != "active\nbot 440" {
		t.Errorf("after a reboot: %s", got)
	}
}

// nixosIsCutOff drops the network while a host switches: the host goes on, and is confirmed once the network is back.
func (w *world) nixosIsCutOff() {
	t := w.t
	t.Helper()
	on(t, "host3", "rm -f /srv/held /srv/goes /srv/switched")
	w.write(heldSystem(map[string]string{"web": "touch /srv/switched; exec sleep 1012"}))
	out := w.deployMeanwhile("cut during the switch", func() {
		waitFile(t, "srv/held")
		rig(t, "cut", "host3")
		letSwitch(t)
		waitFile(t, "srv/switched")
		rig(t, "mend", "host3")
	})
	if got := on(t, "host3", "systemctl show -P ExecStart web"); w.status().state("chrysalis") != "current" || !strings.Contains(got, "1012") {
		t.Errorf("cut off during the switch, chrysalis is %s and runs %s\n%s", w.status().state("chrysalis"), got, out)
	}
}

// nixosCopyIsCut ends the connections of the host while a closure comes over one. What came stays, and the rest follows.
func (w *world) nixosCopyIsCut() {
	t := w.t
	t.Helper()
	on(t, "host3", `cat >/usr/local/bin/nix-store <<'EOF'
#!/bin/sh
# The first copy goes nowhere after the first bytes, until its connection ends.
if [ "$1" = --serve ] && ! [ -e /srv/cut ]; then
	(dd bs=65536 count=400 2>/dev/null; touch /srv/cut; exec cat >/dev/null) | /usr/bin/nix-store "$@"
	exit
fi
exec /usr/bin/nix-store "$@"
EOF
chmod 755 /usr/local/bin/nix-store; rm -f /srv/cut`)
	const large = `${toString (builtins.genList (i: derivation { name = "large-${toString i}"; system = builtins.currentSystem or "x86_64-linux"; builder = "/bin/sh"; PATH = "/usr/bin:/bin"; args = [ "-c" "head -c 1500000 /dev/urandom >$out" ]; }) 20)}`
	w.write(flakeOf(systemThat("nixos-system-chrysalis", "./nixos/system.nix", "bot", map[string]string{"web": "exec sleep 1014"}, "echo "+large+" >$out/large")))
	out := w.deployMeanwhile("cut during the copy", func() {
		waitFile(t, "srv/cut")
		_, _ = tryOn("host3", "pkill -KILL -f 'root@notty'") // its own connection is one of them
	})
	got := on(t, "host3", "rm /usr/local/bin/nix-store; systemctl show -P ExecStart web; for f in $(cat /run/current-system/large); do stat -c %s $f; done")
	if w.status().state("chrysalis") != "current" || !strings.Contains(got, "1014") || strings.Count(got, "1500000") != 20 {
		t.Errorf("cut off during the copy, chrysalis is %s and has %s\n%s", w.status().state("chrysalis"), got, out)
	}

	var sent []int
	for _, m := range regexp.MustCompile(`"system copied","host":"chrysalis".*"bytes":([0-9]+)`).FindAllStringSubmatch(w.log.String(), -1) {
		n, _ := strconv.Atoi(m[1])
		sent = append(sent, n)
	}
	if len(sent) == 0 || sent[len(sent)-1] > 29_000_000 {
		t.Errorf("%d bytes were sent, the last ones after the cut: want less than the 30 million of all", sent)
	}
}
