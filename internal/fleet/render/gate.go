package render

import (
	"fmt"
	"slices"
	"strings"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet/service"
	"bellhop/internal/fleet/syntax"
)

// Key units and gates are the one arrangement that held on real hosts: a boot without keys is
// not held up, the app waits without a retry, and starts by itself, once, when its last key
// has come. Each line has its reason:
//
//   - DefaultDependencies=no in the key unit: a gated socket would else make an ordering cycle,
//     and systemd breaks it by deleting sockets.target.
//   - Wants= and Before= name only what bellhop enables: a key that comes must not run a
//     timer's job, nor start what an activator is there for.
//   - StartLimitIntervalSec=0: five failed starts would make the sixth, good one fail.
//   - AssertPathExists= in the app beside Requires=: with the file gone behind systemd's back
//     the key unit is still active, and the app would run without its key.
//   - no ExecStop: a restart of the key unit by hand would destroy the key.

// keyUnitText renders NAME-key.service. wants are the units that start when the key has come.
func keyUnitText(k bundle.Key, wants []string) string {
	before := "shutdown.target"
	want := ""
	if len(wants) > 0 {
		before += " " + strings.Join(wants, " ")
		want = "Wants=" + strings.Join(wants, " ") + "\n"
	}

	return `[Unit]
Description=Key ` + k.Name + `
DefaultDependencies=no
RequiresMountsFor=/run/keys /var/lib/bellhop
After=local-fs.target systemd-sysusers.service
Before=` + before + `
Conflicts=shutdown.target
` + want + `StartLimitIntervalSec=0
[Service]
Type=oneshot
RemainAfterExit=yes
UMask=0077
ExecStart=/bin/sh -c 'chown root:keys /run/keys; test -e ` + k.Path + ` && exit 0; ` + unseal(k) + `echo "key ` + k.Name + ` has not come since this boot" >&2; exit 1'
`
}

// unseal opens the sealed copy when nothing was pushed since boot. A credential of systemd's
// own would leave a second plaintext copy, and fail even when the key was pushed.
func unseal(k bundle.Key) string {
	if !k.Seal {
		return ""
	}

	beside := bundle.KeyDir + "/." + k.Name + ".new"
	return fmt.Sprintf("systemd-creds decrypt --name=%s %s/%s %s && chown %s:%s %s && chmod %04o %s && mv -T %s %s && exit 0; ",
		k.Name, bundle.SealedDir, k.Name, beside, k.User, k.Group, beside, k.Mode, beside, beside, k.Path)
}

// A gate is what holds one unit back until its keys are there, and what joins it to groups.
type gate struct {
	service bool // it has a [Service] section: not a socket
	keys    []bundle.Key
	groups  []string
	starts  []string // what of it bellhop starts: the unit, or its instances
}

// text renders UNIT.d/50-bellhop.conf; "" when there is nothing to say.
func (g *gate) text() string {
	var b strings.Builder
	var groups []string
	if len(g.keys) > 0 {
		slices.SortFunc(g.keys, func(a, b bundle.Key) int { return strings.Compare(a.Name, b.Name) })
		g.keys = slices.CompactFunc(g.keys, func(a, b bundle.Key) bool { return a.Name == b.Name })
		units := make([]string, len(g.keys))
		for i, k := range g.keys {
			units[i] = syntax.KeyUnitName(k.Name)
		}
		fmt.Fprintf(&b, "[Unit]\nRequires=%[1]s\nAfter=%[1]s\n", strings.Join(units, " "))
		for _, k := range g.keys {
			fmt.Fprintf(&b, "AssertPathExists=%s\n", k.Path)
		}
		groups = append(groups, bundle.KeyGroup)
	}

	for _, name := range g.groups {
		if !slices.Contains(groups, name) {
			groups = append(groups, name)
		}
	}

	if g.service && len(groups) > 0 {
		fmt.Fprintf(&b, "[Service]\nSupplementaryGroups=%s\n", strings.Join(groups, " "))
	}

	return b.String()
}

// sysusersText renders the snippet that makes a user and its group.
func sysusersText(u bundle.User) string {
	uid, gid := "-", "-"
	if u.UID != 0 {
		uid = service.IDText(u.UID)
	}
	if u.GID != 0 {
		gid = service.IDText(u.GID)
	}
	return fmt.Sprintf("g %s %s\nu %s %s:%s - %s -\n", u.Group, gid, u.Name, uid, u.Group, u.Home)
}

// tmpfilesText renders the snippet that makes a home; "" when there is none.
func tmpfilesText(u bundle.User) string {
	if u.Home == "/" {
		return ""
	}
	return fmt.Sprintf("d %s 0750 %s %s - -\n", u.Home, u.Name, u.Group)
}

// quadletFolders are the lines of the snippet that make the folder of a user's own quadlets: root writes
// there, and what root would make on the way would be root's.
func quadletFolders(s *service.Service) string {
	if s.LingersAs() == "" {
		return ""
	}

	var b strings.Builder
	dir, u := s.User.Home, s.User
	for _, name := range strings.Split(strings.TrimPrefix(bundle.UserQuadletDir(dir), dir+"/"), "/") {
		dir += "/" + name
		fmt.Fprintf(&b, "d %s 0755 %s %s - -\n", dir, u.Name, u.Group)
	}
	return b.String()
}
