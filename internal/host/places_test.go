package host_test

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"bellhop/internal/bundle"
	"bellhop/internal/host/machine"
)

// A place where nothing of a bundle may be is the same place by any other name.
func TestForbiddenPlacesByAnyName(t *testing.T) {
	b := newBox(t)
	for _, d := range []string{"/run/keys", "/run/systemd/system", "/usr/lib/systemd/system", "/etc/sysusers.d", "/var/lib/bellhop/blobs", "/srv/units"} {
		os.MkdirAll(b.path(d), 0o755)
	}
	os.Symlink("/run", b.path("/var/run"))
	os.Symlink("usr/lib", b.path("/lib"))
	os.Symlink("/etc", b.path("/conf"))
	os.Symlink("/var/lib/bellhop", b.path("/srv/state"))
	paths := []string{
		"/var/run/keys/x", "/var/run/keys/files/x", "/srv/state/record", "/srv/state/blobs/x", "/srv/state",
		"/run/systemd/system/x.service", "/var/run/systemd/system/x.service", "/run/systemd/system/x.service.d/y.conf",
		"/usr/lib/systemd/system/x.service", "/lib/systemd/system/x.service", "/usr/local/lib/systemd/system/x.service",
		"/etc/systemd/system.control/x.service", "/run/systemd/transient/x.service", "/conf/systemd/system/x.service",
		"/conf/containers/systemd/x.container", "/run/containers/systemd/x.container",
		"/conf/sysusers.d/bellhop-x.conf", "/conf/passwd", "/etc/shadow", "/conf/shadow-",
	}
	if unix.Mount(b.path("/etc/systemd/system"), b.path("/srv/units"), "", unix.MS_BIND, "") == nil {
		t.Cleanup(func() { unix.Unmount(b.path("/srv/units"), unix.MNT_DETACH) })
		paths = append(paths, "/srv/units/x.service")
	}
	before := b.all()
	for _, p := range paths {
		if p == "/srv/state" {
			continue // a link that stands there is replaced, as any file
		}
		l := newLoad().file(p, "x")
		got, err := b.talk(l.offer(), l)
		if err != nil {
			t.Fatal(err)
		}
		if got.res.Outcome != bundle.OutcomeRefused || !strings.Contains(got.res.Error, p) {
			t.Errorf("%s: %s (%s), want it refused by name", p, got.res.Outcome, got.res.Error)
		}
		b.compare(before, "after "+p+" was refused")
	}
	for _, p := range []string{"/conf/x", "/lib/x", "/etc/systemd/system/x.service.d/y.conf", "/etc/sysusers.d/other.conf", "/etc/systemd/network/x.network"} {
		b.deploy(newLoad().file(p, "u root /\n"), bundle.OutcomeDone)
	}
	got := b.deploy(newLoad().file("/etc/x", "x").file("/conf/x", "y"), bundle.OutcomeRefused)
	if !strings.Contains(got.res.Error, "are one path") {
		t.Errorf("two names of one path: %q", got.res.Error)
	}
}

func TestHomesThatAreNotItsOwn(t *testing.T) {
	for home, why := range map[string]string{
		"/usr/sbin":            "folder of the system",
		"/usr/share/new":       "folder of the system",
		"/etc/sudoers.d":       "folder of the system",
		"/conf/new":            "folder of the system",
		"/boot/efi":            "folder of the system",
		"/var/lib/dpkg":        "folder of the system",
		"/var/run/keys/x":      "folder of the system",
		"/var/lib/bellhop/x":   "folder of the system",
		"/home/alice":          "belongs to alice",
		"/srv":                 "belongs to root",
		"/srv/file":            "is no folder",
		"/srv/link":            "is no folder",
		"/srv/new":             "",
		"/srv/deep/down/there": "",
		"/srv/his":             "", // it belongs to him
	} {
		b := newBox(t)
		for _, d := range []string{"/usr/sbin", "/etc/sudoers.d", "/home/alice", "/srv/his", "/run/keys"} {
			os.MkdirAll(b.path(d), 0o755)
		}
		os.Symlink("/etc", b.path("/conf"))
		os.Symlink("/run", b.path("/var/run"))
		b.write("/srv/file", "")
		os.Symlink("/home/alice", b.path("/srv/link"))
		b.users["alice"] = machine.Account{Name: "alice", Group: "alice", Home: "/home/alice"}
		b.give("/home/alice", "alice", "alice")
		b.give("/srv/his", "bot", "bot")
		l := newLoad().user("bot").service("bot.service", "[Service]\n")
		l.Users[0].Home = home
		before := b.all()
		got, err := b.talk(l.offer(), l)
		if err != nil {
			t.Fatal(err)
		}
		if why == "" {
			if got.res.Outcome != bundle.OutcomeDone {
				t.Errorf("home %s: %s (%s), want done", home, got.res.Outcome, got.res.Error)
			}
			continue
		}
		if got.res.Outcome != bundle.OutcomeRefused || !strings.Contains(got.res.Error, why) || !strings.Contains(got.res.Error, home) {
			t.Errorf("home %s: %s (%s), want refused: %s", home, got.res.Outcome, got.res.Error, why)
		}
		b.compare(before, "after home "+home+" was refused")
	}
}

// A home that bellhop made is its own, also where it belongs to somebody else by now.
func TestHomeThatBellhopMade(t *testing.T) {
	b := newBox(t)
	b.deploy(bot("one"), bundle.OutcomeDone)
	os.MkdirAll(b.path("/srv/bot"), 0o750)
	b.deploy(bot("two"), bundle.OutcomeDone)
}

func TestHomeWithDataDoesNotChange(t *testing.T) {
	b := newBox(t)
	b.deploy(bot("one").file("/srv/bot/conf/x", "x"), bundle.OutcomeDone)
	b.write("/srv/bot/data", "precious")
	moved := bot("two").file("/srv/bot/conf/x", "x")
	moved.Users[0].Home = "/srv/other"
	before := b.all()
	got := b.deploy(moved, bundle.OutcomeRefused)
	if !strings.Contains(got.res.Error, "mv /srv/bot /srv/other") {
		t.Errorf("error %q does not say what to do", got.res.Error)
	}
	b.compare(before, "after a move was refused")
	os.Remove(b.path("/srv/bot/data"))
	b.deploy(moved, bundle.OutcomeDone) // what bellhop put there is no data
	if b.users["bot"].Home != "/srv/other" {
		t.Errorf("home = %s", b.users["bot"].Home)
	}
}
