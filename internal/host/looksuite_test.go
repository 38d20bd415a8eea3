package host_test

import (
	"fmt"
	"strings"
	"testing"

	"bellhop/internal/bundle"
)

// What people do to a host by hand, and what a look says of it: on the twin and on a real host.

// A lookedAt is a host that a person works on between two looks.
type lookedAt interface {
	look(ask bundle.Look) bundle.Seen
	deployed(l *load)                 // deploys l, and wants it done or nothing to do
	hand(verb string, args ...string) // write FILE TEXT, remove FILE, chmod MODE FILE, chown USER FILE, mkdir DIR, link TARGET FILE, shell USER FILE, join USER GROUP, leave USER GROUP, uid USER UID, gid USER GID, group USER GROUP, home USER DIR, userdel USER, start, stop, enable, disable, mask, unmask, fail UNIT
}

// A lookCase is one thing that is done, and what differs then.
type lookCase struct {
	name   string
	hand   [][]string
	drift  []string // "kind name what"
	failed string   // unit
	keys   string   // names of those that are missing
	check  func(t *testing.T, s bundle.Seen)
	after  [][]string // done then, since a run to which nothing is new does not put it right
}

// foreignUnit is one of the distribution's, for which the bundle has a drop-in.
const foreignUnit = "/usr/lib/systemd/system/rigforeign.service"

func lookLoad() *load {
	l := rigBot("one", "first").link("/etc/riglink", "/etc/rigbot/conf").file("/etc/rigdir/deep/file", "deep")
	drop := bundle.UnitDir + "/rigforeign.service.d/x.conf"
	l.file(drop, "[Service]\nEnvironment=X=1\n")
	l.file("/etc/sysusers.d/bellhop-rigid.conf", "g rigid 4990\nu rigid 4990:rigid \"rig\" /srv/rigbot/id\n")
	l.Users = append(l.Users, bundle.User{Name: "rigid", Group: "rigid", Home: "/srv/rigbot/id", UID: 4990, GID: 4990, Service: "rigbot"})
	l.Units = append(l.Units, bundle.Unit{Name: "rigforeign.service", Service: "rigbot", Foreign: true, OnChange: bundle.None, Files: []string{drop}})
	return l
}

// accountCase is one field of an account that somebody changes, from what the repo wants to another value.
func accountCase(field, is, want string) lookCase {
	return lookCase{
		name: "another " + field, hand: [][]string{{field, "rigid", is}}, drift: []string{"account rigid " + field}, after: [][]string{{field, "rigid", want}},
		check: func(t *testing.T, s bundle.Seen) {
			if d := s.Drift[0]; d.Want != want || d.Is != is {
				t.Errorf("drift = %+v, want %s and %s", d, want, is)
			}
		},
	}
}

var lookCases = []lookCase{
	{name: "nothing"},
	{name: "edit of other size", hand: [][]string{{"write", "/etc/rigbot/conf", "edited by hand"}}, drift: []string{"file /etc/rigbot/conf changed"},
		check: func(t *testing.T, s bundle.Seen) {
			if c := s.Contents[0]; string(c.Bytes) != "edited by hand" || c.Why != "" {
				t.Errorf("contents = %q, %q", c.Bytes, c.Why)
			}
		}},
	{name: "edit of the same size", hand: [][]string{{"write", "/etc/rigbot/conf", "two"}}, drift: []string{"file /etc/rigbot/conf changed"}},
	{name: "delete", hand: [][]string{{"remove", "/etc/rigbot/conf"}}, drift: []string{"file /etc/rigbot/conf missing"},
		check: func(t *testing.T, s bundle.Seen) {
			if c := s.Contents[0]; c.Why != bundle.WhyMissing {
				t.Errorf("contents = %q, %q", c.Bytes, c.Why)
			}
		}},
	{name: "delete a folder", hand: [][]string{{"remove", "/etc/rigdir"}},
		drift: []string{"dir /etc/rigdir missing", "dir /etc/rigdir/deep missing", "file /etc/rigdir/deep/file missing"}},
	{name: "delete a unit file", hand: [][]string{{"remove", bundle.UnitDir + "/rigtoken-key.service"}},
		drift: []string{"file " + bundle.UnitDir + "/rigtoken-key.service missing"}},
	{name: "a folder in its place", hand: [][]string{{"remove", "/etc/rigbot/conf"}, {"mkdir", "/etc/rigbot/conf"}}, drift: []string{"file /etc/rigbot/conf replaced"},
		after: [][]string{{"remove", "/etc/rigbot/conf"}}},
	{name: "a link in its place", hand: [][]string{{"remove", "/etc/rigbot/conf"}, {"link", "/run/keys/rigtoken", "/etc/rigbot/conf"}}, drift: []string{"file /etc/rigbot/conf replaced"},
		check: func(t *testing.T, s bundle.Seen) {
			if c := s.Contents[0]; c.Why != bundle.WhyNotRegular || len(c.Bytes) > 0 {
				t.Errorf("contents = %q, %q", c.Bytes, c.Why)
			}
		}},
	{name: "another target", hand: [][]string{{"remove", "/etc/riglink"}, {"link", "/etc/hostname", "/etc/riglink"}}, drift: []string{"link /etc/riglink changed"}},
	{name: "mode", hand: [][]string{{"chmod", "0666", "/etc/rigbot/conf"}}, drift: []string{"file /etc/rigbot/conf mode"},
		check: func(t *testing.T, s bundle.Seen) {
			if d := s.Drift[0]; d.Want != "0640" || d.Is != "0666" {
				t.Errorf("drift = %+v, want 0640 and 0666", d)
			}
		}},
	{name: "owner", hand: [][]string{{"chown", "nobody", "/etc/rigbot/conf"}}, drift: []string{"file /etc/rigbot/conf owner"}},
	{name: "a shell", hand: [][]string{{"shell", "rigbot", "/bin/sh"}}, drift: []string{"account rigbot shell"},
		check: func(t *testing.T, s bundle.Seen) {
			if d := s.Drift[0]; d.Want != "nologin" || d.Is != "/bin/sh" {
				t.Errorf("drift = %+v, want nologin and /bin/sh", d)
			}
		}, after: [][]string{{"shell", "rigbot", "/usr/sbin/nologin"}}},
	{name: "a group joined", hand: [][]string{{"join", "rigbot", "daemon"}}, drift: []string{"account rigbot groups"},
		check: func(t *testing.T, s bundle.Seen) {
			if d := s.Drift[0]; d.Is != "daemon" {
				t.Errorf("drift = %+v, want daemon", d)
			}
		}, after: [][]string{{"leave", "rigbot", "daemon"}}},
	accountCase("uid", "4991", "4990"),
	accountCase("gid", "4991", "4990"),
	accountCase("group", "daemon", "rigid"),
	accountCase("home", "/srv/rigbot/other", "/srv/rigbot/id"),
	{name: "an account deleted", hand: [][]string{{"userdel", "rigid"}}, drift: []string{"account rigid missing"}},
	{name: "a key's value pasted", hand: [][]string{{"write", "/etc/rigbot/conf", "it was TOKEN=first-of-all, I think"}}, drift: []string{"file /etc/rigbot/conf changed"},
		check: func(t *testing.T, s bundle.Seen) {
			if c := s.Contents[0]; c.Why != bundle.WhyKey || len(c.Bytes) > 0 {
				t.Errorf("contents = %q, %q", c.Bytes, c.Why)
			}
		}},
	{name: "key deleted", hand: [][]string{{"remove", "/run/keys/rigtoken"}}, keys: "rigtoken"},
	{name: "key with another mode", hand: [][]string{{"chmod", "0644", "/run/keys/rigtoken"}}, keys: "rigtoken"},
	{name: "disabled", hand: [][]string{{"disable", "rigbot.service"}}, drift: []string{"unit rigbot.service disabled"},
		after: [][]string{{"enable", "rigbot.service"}}},
	{name: "a drop-in", hand: [][]string{{"write", bundle.UnitDir + "/rigbot.service.d/override.conf", "[Service]\nNice=1\n"}}, drift: []string{"unit rigbot.service drop-in"},
		check: func(t *testing.T, s bundle.Seen) {
			if is := s.Drift[0].Is; is != bundle.UnitDir+"/rigbot.service.d/override.conf" {
				t.Errorf("the drop-in is %q", is)
			}
		}, after: [][]string{{"remove", bundle.UnitDir + "/rigbot.service.d/override.conf"}}},
	{name: "masked", hand: [][]string{{"mask", "rigforeign.service"}}, drift: []string{"unit rigforeign.service masked"},
		after: [][]string{{"unmask", "rigforeign.service"}}},
	{name: "reboot required", hand: [][]string{{"write", "/run/reboot-required", ""}, {"write", "/run/reboot-required.pkgs", "linux-image\nlibc6\n"}},
		check: func(t *testing.T, s bundle.Seen) {
			if !s.RebootRequired || s.RebootReason != "/run/reboot-required: linux-image, libc6" {
				t.Errorf("reboot required %v, %q", s.RebootRequired, s.RebootReason)
			}
		}, after: [][]string{{"remove", "/run/reboot-required"}, {"remove", "/run/reboot-required.pkgs"}}},
	{name: "stopped", hand: [][]string{{"stop", "rigbot.service"}}, drift: []string{"unit rigbot.service stopped"},
		check: func(t *testing.T, s bundle.Seen) {
			if s.Running != 0 {
				t.Errorf("%d units run, want none", s.Running)
			}
		}, after: [][]string{{"start", "rigbot.service"}}},
	{name: "failed", hand: [][]string{{"fail", "rigbot.service"}}, failed: "rigbot.service", after: [][]string{{"start", "rigbot.service"}}},
}

// checkLooks does each case on h, and brings h in order after it.
func checkLooks(t *testing.T, h lookedAt) {
	h.hand("write", foreignUnit, "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n")
	h.hand("daemon-reload")
	l := lookLoad()
	l.keys["rigtoken"] = "TOKEN=first-of-all\n"
	h.deployed(l)

	for _, c := range lookCases {
		t.Run(c.name, func(t *testing.T) {
			for _, args := range c.hand {
				h.hand(args[0], args[1:]...)
			}

			s := h.look(bundle.Look{Contents: []string{"/etc/rigbot/conf", "/run/keys/rigtoken", "/etc/hostname"}})
			checkSeen(t, s, c)
			if c.check != nil {
				c.check(t, s)
			}
			if again := h.look(bundle.Look{Verify: true}); fmt.Sprint(again.Drift, again.KeysMissing) != fmt.Sprint(s.Drift, s.KeysMissing) {
				t.Errorf("with verify = %v, %v; without %v, %v", again.Drift, again.KeysMissing, s.Drift, s.KeysMissing)
			}
			for _, args := range c.after {
				h.hand(args[0], args[1:]...)
			}
			h.deployed(l)
			if s := h.look(bundle.Look{}); s.DriftCount()+len(s.KeysMissing)+len(s.FailedUnits) > 0 || s.RebootRequired {
				t.Errorf("after the next run: %+v", s)
			}
		})
	}
}

func checkSeen(t *testing.T, s bundle.Seen, c lookCase) {
	t.Helper()
	var drift []string
	for _, d := range s.Drift {
		drift = append(drift, d.Kind+" "+d.Name+" "+d.What)
	}
	if got, want := strings.Join(drift, "\n"), strings.Join(c.drift, "\n"); got != want || s.DriftMore != 0 {
		t.Errorf("drift = %q (and %d more), want %q", got, s.DriftMore, want)
	}
	if got := strings.Join(s.KeysMissing, " "); got != c.keys {
		t.Errorf("keys missing = %q, want %q", got, c.keys)
	}

	failed := ""
	for _, f := range s.FailedUnits {
		failed += f.Name
		if f.Result != "exit-code" && f.Result != "signal" || f.Since == 0 {
			t.Errorf("failed unit = %+v, want its result and since when", f)
		}
	}
	if failed != c.failed {
		t.Errorf("failed = %v, want %q", s.FailedUnits, c.failed)
	}
	if s.Working || s.Generation == 0 || s.BootID == "" || len(s.Contents) != 3 {
		t.Fatalf("seen = %+v", s)
	}
	if s.RebootRequired != strings.HasPrefix(c.name, "reboot required") {
		t.Errorf("reboot required %v: %s", s.RebootRequired, s.RebootReason)
	}
	if key, other := s.Contents[1].Why, s.Contents[2].Why; key != bundle.WhyKey || other != bundle.WhyNotOwned {
		t.Errorf("contents of a key: %q, of what is not owned: %q", key, other)
	}
}
