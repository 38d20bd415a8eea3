//go:build e2e

package e2e

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// everything lists all that a host has: kinds, modes, owners, digests, what is mounted, which units are enabled, and which
// of those that a person has set up run.
func everything(t *testing.T, host string) string {
	t.Helper()
	return on(t, host, `cd /; sed 's/^/user /' etc/passwd; sed 's/^/group /' etc/group
		find etc opt usr/local srv root var/lib/bellhop run/keys run/bellhop -printf '%p %y %m %u:%g %l\n' -type f \
			! -name 'passwd*' ! -name 'shadow*' ! -name 'group*' ! -name 'gshadow*' -exec sha256sum {} \; 2>/dev/null | sort
		sed 's/^/mount /' /proc/self/mountinfo | awk '{print $1, $6, $9, $10}' | grep -v user@ | sort
		systemctl list-unit-files --no-legend --no-pager | grep -v ' transient' | awk '{print "unit file", $1, $2}'
		systemctl list-units --all --no-legend --no-pager --plain --type=service,mount,timer,socket | grep -E 'bellhop|within|idle|own|keys|cron|journald.service' | awk '{print "unit", $1, $2, $3}'`)
}

// A host that bellhop gives back is as it was before bellhop came: files that it replaced, with mode, owner and content, units that
// it enabled or whose drop-ins it had, the place of keys, and bellhop's own. Accounts stay, since they may own things.
func TestHostGivenBack(t *testing.T) {
	w := oneHost(t)
	on(t, "host1", `echo welcome >/etc/motd && chmod 0604 /etc/motd && chown games:games /etc/motd
		mkdir -p -m 0711 /etc/within && echo mine >/etc/within/other && ln -s other /etc/within/a.conf && chown -h games /etc/within/a.conf
		printf '[Unit]\nDescription=theirs\n[Service]\nExecStart=/bin/sleep 1234\n[Install]\nWantedBy=multi-user.target\n' >/etc/systemd/system/own.service
		cp /etc/systemd/system/own.service /etc/systemd/system/idle.service
		systemctl daemon-reload && systemctl enable -q --now own idle`)
	ran := on(t, "host1", "systemctl show -P InvocationID ssh systemd-journald")
	w.writeServices()
	w.enable("chrysalis", "withinbot: true", "idle: true", "drop: true")
	w.write(map[string]string{"services/drop/own.service.d/bellhop.conf": "[Service]\nEnvironment=A=1\n",
		"services/drop/files/etc/new/deep/file": "new\n", "services/drop/service.yaml": "settle: 0s\n", "bellhop.yaml": w.read("bellhop.yaml") + "confirm: 0s\n"})
	before := everything(t, "host1")
	w.deploy("all of it", "current")
	w.write(map[string]string{"services/drop/files/etc/new/deep/file": "newer\n"})
	w.deploy("more of it", "current")
	on(t, "host1", "echo edited >>/etc/motd")

	w.bellhop("host", "remove", "chrysalis")
	w.commit("chrysalis leaves")
	if out, code := w.try("deploy"); code != 0 {
		t.Fatalf("deploy without the host: exit %d\n%s\n%s", code, out, w.read("bellhop.yaml"))
	}
	if out := w.bellhop("host", "remove", "chrysalis", "--undo"); !strings.Contains(out, "user withinbot stays") || !strings.Contains(out, "edited by hand since, and replaced: /etc/motd (the edit is /var/lib/bellhop/blobs/") {
		t.Errorf("host remove --undo says:\n%s", out)
	}

	left := slices.DeleteFunc(differing(before, everything(t, "host1")), func(l string) bool { return leftAfterUndo.MatchString(l) })
	if len(left) > 0 {
		t.Errorf("the host differs from what it was before bellhop:\n%s", strings.Join(left, "\n"))
	}
	if is := on(t, "host1", "systemctl show -P InvocationID ssh systemd-journald"); is != ran {
		t.Errorf("a service that is not bellhop's was restarted")
	}
	if got := on(t, "host1", "ls -A /run/keys /var/lib/bellhop; find /run/keys /opt/bellhop -type f 2>/dev/null; systemctl is-active own idle withinbot; true"); !strings.HasSuffix(got, "active\nactive\ninactive") || strings.Contains(got, "record") {
		t.Errorf("left of keys and of bellhop's state, and what runs: %q", got)
	}
}

// leftAfterUndo is what the undo itself needs, and what is said to stay: the helper, the results of runs and the edit that was
// kept, the account with its home, and the empty place of keys, which is gone with the next boot.
var leftAfterUndo = regexp.MustCompile(`^\+ (user withinbot:|group (withinbot|within|keys):|srv/within(/withinbot)? d |run/keys d 750 root:keys $|mount /run/keys |unit run-keys.mount loaded active$|` +
	`([0-9a-f]{64}  )?(usr/local/libexec( d|/bellhop[ /])|var/lib/bellhop( d|/(generations d|(accounts|blobs|lock|runs|staging|turn)( |/|$)))))`)
