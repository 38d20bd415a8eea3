package rootless

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"bellhop/internal/bundle"
	"bellhop/internal/host/owned"
)

// fewest is how many ids a user needs beside the own one: images have files of any of them.
const fewest = 65536

// lacks says what the host is missing for containers of a user, and what to type.
func (r *Run) lacks(ctx context.Context, h *home) (lacks []string) {
	for _, c := range []struct{ command, debian string }{{"podman", "podman"}, {"newuidmap", "uidmap"}, {"newgidmap", "uidmap"}, {"setpriv", "util-linux"}, {"systemd-run", "systemd"}} {
		if !r.M.Accounts.Command(c.command) {
			lacks = append(lacks, fmt.Sprintf("%s is missing (on Debian: apt install %s)", c.command, c.debian))
		}
	}

	for _, f := range []struct{ path, text string }{
		{userGenerator, "podman's generator for users is missing: podman 4.4 or newer has it"},
		{"/usr/lib/systemd/user/dbus.socket", "users have no bus (on Debian: apt install dbus-user-session)"},
		{"/sys/fs/cgroup/cgroup.controllers", "cgroups are not of version 2, which podman needs for limits and for the units of a user (boot with systemd.unified_cgroup_hierarchy=1)"},
	} {
		if _, err := os.Stat(r.M.At(f.path)); errors.Is(err, fs.ErrNotExist) {
			lacks = append(lacks, fmt.Sprintf("%s; %s is not there", f.text, f.path))
		}
	}

	lacks = append(lacks, r.lacksLogind(ctx)...)
	lacks = append(lacks, r.lacksIDs(h.user)...)
	if why := r.readOnly(strings.TrimSuffix(h.dir, bundle.UserQuadletDir(""))); why != "" {
		lacks = append(lacks, why)
	}

	return lacks
}

// lacksLogind: it starts the systemds of users who linger, at boot.
func (r *Run) lacksLogind(ctx context.Context) []string {
	const logind = "systemd-logind.service"
	states, err := r.M.Glance(ctx, []string{logind})
	if st := states[logind]; err == nil && st.Active != "active" {
		return []string{fmt.Sprintf("%s is %s, and nothing else starts the user's own systemd at boot (systemctl unmask %[1]s; systemctl start %[1]s; on Debian libpam-systemd belongs to it)", logind, st.Active)}
	}
	return nil
}

// lacksIDs says which file gives the user no ids for containers. Where a directory service has them, it is
// asked by podman alone.
func (r *Run) lacksIDs(user string) (lacks []string) {
	uid := ""
	if a, there, err := r.M.Accounts.User(user); err == nil && there {
		uid = strconv.Itoa(a.UID)
	}
	if text, _ := os.ReadFile(r.M.At("/etc/nsswitch.conf")); hasSubid(string(text)) {
		return nil
	}

	next := 100000
	texts := map[string]string{}
	for _, name := range []string{"/etc/subuid", "/etc/subgid"} {
		p, _ := os.ReadFile(r.M.At(name))
		texts[name] = string(p)
		next = max(next, afterAll(string(p)))
	}

	var files []string
	for _, name := range []string{"/etc/subuid", "/etc/subgid"} {
		if given(texts[name], user, uid) < fewest {
			files = append(files, name)
		}
	}

	if len(files) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("no %d ids are set aside for containers of user %s (echo %s:%d:%d | tee -a %s)", fewest, user, user, next, fewest, strings.Join(files, " "))}
}

// hasSubid says that /etc/nsswitch.conf sends those who ask for ids elsewhere.
func hasSubid(conf string) bool {
	for line := range strings.Lines(conf) {
		if strings.HasPrefix(strings.TrimSpace(line), "subid:") {
			return true
		}
	}
	return false
}

// ranges are the lines of a file such as /etc/subuid: whose, from where, how many.
func ranges(text string, do func(who string, from, count int)) {
	for line := range strings.Lines(text) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) != 3 {
			continue
		}

		from, err := strconv.ParseUint(f[1], 10, 32)
		count, err2 := strconv.ParseUint(f[2], 10, 32)
		if err == nil && err2 == nil {
			do(f[0], int(from), int(count))
		}
	}
}

// given is how many ids a file gives a user.
func given(text, user, uid string) (n int) {
	ranges(text, func(who string, _, count int) {
		if who == user || who == uid {
			n += count
		}
	})
	return n
}

// afterAll is the first id behind all that a file gives to anybody.
func afterAll(text string) (next int) {
	ranges(text, func(_ string, from, count int) { next = max(next, from+count) })
	return next
}

// readOnly says why nothing can be written to a home, or to what is there of the way to it.
func (r *Run) readOnly(dir string) string {
	for at := dir; ; at = owned.ParentOf(at) {
		f, err := r.M.Tree().Folder(at, false)
		if err != nil && at != "/" {
			continue
		}
		if err != nil {
			return ""
		}
		defer f.Close()

		var st unix.Statfs_t
		if err := unix.Fstatfs(f.FD(), &st); err == nil && st.Flags&unix.ST_RDONLY != 0 {
			return fmt.Sprintf("the home %s is on a file system that is read-only: name another one", dir)
		}
		return ""
	}
}
