package conformance

import (
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// Accounts, and whose files are.

func accounts(b *bench) {
	b.users = append(b.users, "bhconfuser", "bhconfgrp")
	a := b.m.Accounts
	for _, n := range []string{"bhconfuser", "bhconf user", "-x", "", "4711"} {
		if _, ok, err := a.User(n); ok || err != nil {
			b.Errorf("User(%q) = %v, %v before it is made", n, ok, err)
		}
	}

	b.write("/etc/sysusers.d/bhconf.conf", "g bhconfgrp -\nu bhconfuser -:bhconfgrp \"conformance\" /srv/bhconf/home /usr/sbin/nologin\n")
	b.must(a.Sysusers(b.ctx, []string{"/etc/sysusers.d/bhconf.conf"}))
	b.must(a.Sysusers(b.ctx, []string{"/etc/sysusers.d/bhconf.conf"}))
	u, ok, err := a.User("bhconfuser")
	isAsWritten := u.Group == "bhconfgrp" && u.Home == "/srv/bhconf/home" && u.UID != 0
	if err != nil || !ok || !isAsWritten {
		b.Errorf("User(bhconfuser) = %+v, %v, %v", u, ok, err)
	}
	if gid, ok, err := a.Group("bhconfgrp"); err != nil || !ok || gid != u.GID {
		b.Errorf("Group(bhconfgrp) = %d, %v, %v, want %d", gid, ok, err, u.GID)
	}

	b.write("/etc/tmpfiles.d/bhconf.conf", "d /srv/bhconf/home 0750 bhconfuser bhconfgrp -\n")
	b.paths = append(b.paths, "/srv/bhconf")
	b.must(a.Tmpfiles(b.ctx, []string{"/etc/tmpfiles.d/bhconf.conf"}))
	fi, err := os.Stat(b.path("/srv/bhconf/home"))
	b.must(err)
	if fi.Mode().Perm() != 0o750 {
		b.Errorf("home has mode %o, want 750", fi.Mode().Perm())
	}

	b.owned("/srv/bhconf/home", "bhconfuser", "bhconfgrp")
	b.owned("/srv/bhconf", "root", "root")
	busy := b.unit("busy.service", "[Service]\nType=exec\nUser=bhconfuser\nExecStart=/bin/sleep 1000\n") // a simple one is started before it is its user's
	b.reload()
	b.ok("start", busy)
	p, err := a.Busy("bhconfuser")
	isTheSleep := len(p) == 1 && p[0].Name == "sleep" && p[0].Unit == busy
	if err != nil || !isTheSleep || p[0].PID == 0 {
		b.Errorf("Busy = %v, %v, want the one process of %s", p, err, busy)
	}

	u.Home, u.Group = "/srv/bhconf/new", "daemon"
	if err := a.Usermod(b.ctx, u); err == nil {
		b.Error("Usermod moved the home of a user who is busy")
	}

	b.ok("stop", busy)
	if p, err := a.Busy("bhconfuser"); err != nil || len(p) != 0 {
		b.Errorf("Busy = %v, %v after the stop", p, err)
	}

	b.must(a.Usermod(b.ctx, u))
	now, _, err := a.User("bhconfuser")
	isMoved := now.Home == u.Home && now.Group == "daemon" && now.UID == u.UID
	if err != nil || !isMoved {
		b.Errorf("after Usermod: %+v, %v", now, err)
	}

	if now, _, err := a.User("bhconfuser"); err != nil || path.Base(now.Shell) != "nologin" {
		b.Errorf("the shell of a user that sysusers made is %q, %v", now.Shell, err)
	}
	if joined, err := a.Joined("bhconfuser"); err != nil || len(joined) != 0 {
		b.Errorf("a user that joined no group is in %q, %v", joined, err)
	}

	b.write("/etc/sysusers.d/bhconf-bad.conf", "u 9bhconf -\n")
	if err := a.Sysusers(b.ctx, []string{"/etc/sysusers.d/bhconf-bad.conf"}); err == nil {
		b.Error("Sysusers took a name that begins with a digit")
	}
	if err := a.Sysusers(b.ctx, nil); err != nil {
		b.Errorf("Sysusers(nothing) = %v", err)
	}
}

// open opens a path as the engine does: a link itself, and nothing that it leads to.
func (b *bench) open(path string) (*os.File, *unix.Stat_t) {
	b.Helper()
	fd, err := unix.Open(b.path(path), unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	b.must(err)
	f := os.NewFile(uintptr(fd), path)
	b.Cleanup(func() { f.Close() })
	var st unix.Stat_t
	b.must(unix.Fstat(fd, &st))
	return f, &st
}

func (b *bench) owned(path, user, group string) {
	b.Helper()
	u, g, err := b.m.Accounts.Owner(b.open(path))
	if err != nil || u != user || g != group {
		b.Errorf("Owner(%s) = %s:%s, %v, want %s:%s", path, u, g, err, user, group)
	}
}

func files(b *bench) {
	a := b.m.Accounts
	b.write("/srv/bhconf-file", "x")
	f, err := os.Open(b.path("/srv/bhconf-file"))
	b.must(err)
	defer f.Close()
	b.owned("/srv/bhconf-file", "root", "root")
	b.must(a.Chown(f, "/srv/bhconf-file", "daemon", "root"))
	b.owned("/srv/bhconf-file", "daemon", "root")
	b.must(os.Rename(b.path("/srv/bhconf-file"), b.path("/srv/bhconf-moved")))
	b.paths = append(b.paths, "/srv/bhconf-moved", "/srv/bhconf-link")
	b.owned("/srv/bhconf-moved", "daemon", "root") // an owner goes with the file
	for _, who := range [][2]string{{"bhconf-nobody", "root"}, {"root", "bhconf-nobody"}} {
		if err := a.Chown(f, "/srv/bhconf-moved", who[0], who[1]); err == nil {
			b.Errorf("Chown to %s:%s is no error", who[0], who[1])
		}
	}

	b.must(os.Symlink("bhconf-moved", b.path("/srv/bhconf-link")))
	link, st := b.open("/srv/bhconf-link")
	b.must(a.Chown(link, "/srv/bhconf-link", "root", "daemon"))
	b.owned("/srv/bhconf-link", "root", "daemon")
	b.owned("/srv/bhconf-moved", "daemon", "root")

	// Whose a file is goes by what is open, whatever its name means by now.
	b.must(os.Rename(b.path("/srv/bhconf-moved"), b.path("/srv/bhconf-link")))
	if u, g, err := a.Owner(link, st); u != "root" || err != nil {
		b.Errorf("Owner of what was opened = %s:%s, %v, want root", u, g, err)
	}
}
