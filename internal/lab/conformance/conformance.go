// Package conformance says what the engine may expect of a machine, as tests.
//
// Run is called with a way to open one: the lab's twin in every go test, a real host where a
// test binary is run there as root. What it finds alike on both, the engine's own tests need
// not try on real hosts again. It touches only units and accounts whose names begin with
// "bhconf", and takes them away when it ends; the place for keys stays.
package conformance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bellhop/internal/bundle"
	"bellhop/internal/host/machine"
)

// Run checks the machine that open gives.
func Run(t *testing.T, open func(t *testing.T) *machine.Machine) {
	for _, c := range []struct {
		name string
		test func(*bench)
	}{
		{"boot", boot},
		{"unknown unit", unknownUnit},
		{"life of a service", lifeOfService},
		{"oneshots", oneshots},
		{"enable", enable},
		{"no install", noInstall},
		{"template", template},
		{"failing", failing},
		{"dependency", dependency},
		{"assert and condition", assertCondition},
		{"masked", masked},
		{"bad unit", badUnit},
		{"reload verb", reloadVerb},
		{"needs daemon-reload", needsReload},
		{"restart takes along", restartTakesAlong},
		{"activators", activators},
		{"queue", queue},
		{"gate", gate},
		{"accounts", accounts},
		{"files", files},
		{"place for keys", placeForKeys},
		{"sealed copies", sealedCopies},
		{"apply unit", applyUnit},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := open(t)
			b := &bench{T: t, m: m}
			t.Cleanup(b.clean)
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			t.Cleanup(cancel)
			b.ctx = ctx
			c.test(b)
		})
	}
}

// A bench is one test's machine, and what must leave it.
type bench struct {
	*testing.T
	m     *machine.Machine
	ctx   context.Context
	units []string
	paths []string
	users []string
}

func (b *bench) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func (b *bench) path(p string) string { return filepath.Join(b.m.Root, p) }

// write puts a file on the machine for the length of the test.
func (b *bench) write(p, text string) {
	b.Helper()
	b.must(os.MkdirAll(filepath.Dir(b.path(p)), 0o755))
	b.must(os.WriteFile(b.path(p), []byte(text), 0o644))
	b.paths = append(b.paths, p)
}

// inKeys calls f with the place for keys as the helper writes to it: by its path it is read-only.
func (b *bench) inKeys(f func(dir string)) {
	b.Helper()
	dir, err := b.m.Mounts.Writable(b.ctx)
	b.must(err)
	defer dir.Close()
	f(fmt.Sprintf("/proc/self/fd/%d", dir.Fd()))
}

// writeKey puts a key there until the test ends.
func (b *bench) writeKey(name, value string) {
	b.Helper()
	b.inKeys(func(dir string) { b.must(os.WriteFile(dir+"/"+name, []byte(value), 0o600)) })
	b.Cleanup(func() {
		b.ctx = context.Background() // that of the test is over
		b.inKeys(func(dir string) { os.Remove(dir + "/" + name) })
	})
}

// removeKey takes a key away.
func (b *bench) removeKey(name string) {
	b.Helper()
	b.inKeys(func(dir string) { b.must(os.Remove(dir + "/" + name)) })
}

// unit installs a unit file; the name gets its prefix.
func (b *bench) unit(name, text string) string {
	b.Helper()
	name = "bhconf-" + name
	b.write(bundle.UnitDir+"/"+name, strings.ReplaceAll(text, "@@", "bhconf-"))
	b.units = append(b.units, name)
	return name
}

func (b *bench) reload() { b.Helper(); b.must(b.m.Systemd.Reload(b.ctx)) }

func (b *bench) job(verb string, names ...string) map[string]error {
	return b.m.Systemd.Job(b.ctx, verb, names)
}

func (b *bench) ok(verb string, names ...string) {
	b.Helper()
	for n, err := range b.job(verb, names...) {
		b.Fatalf("Job(%s) of %s: %v, want done", verb, n, err)
	}
}

func (b *bench) refused(verb, name string) {
	b.Helper()
	if err := b.job(verb, name)[name]; err == nil {
		b.Errorf("Job(%s) of %s is done, want an error", verb, name)
	} else if !strings.Contains(err.Error(), name) {
		b.Errorf("Job(%s) of %s: %q does not name the unit", verb, name, err)
	}
}

func (b *bench) state(name string) machine.UnitState {
	b.Helper()
	states, err := b.m.Systemd.Units(b.ctx, []string{name})
	b.must(err)
	st, ok := states[name]
	if !ok {
		b.Fatalf("Units(%s) has no entry for it", name)
	}
	return st
}

func (b *bench) want(name, active string) machine.UnitState {
	b.Helper()
	st := b.state(name)
	for end := time.Now().Add(3 * time.Second); st.Active != active && time.Now().Before(end); st = b.state(name) {
		time.Sleep(20 * time.Millisecond)
	}
	if st.Active != active {
		b.Errorf("%s is %s (%s, %s), want %s", name, st.Active, st.Sub, st.Result, active)
	}
	return st
}

func (b *bench) clean() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for _, u := range b.units {
		if !strings.Contains(u, "@.") {
			b.m.Systemd.Job(ctx, "stop", []string{u})
		}
	}
	b.m.Systemd.Disable(ctx, b.units)
	b.m.Systemd.ResetFailed(ctx, b.units)
	for _, p := range b.paths {
		os.RemoveAll(b.path(p))
		if strings.HasSuffix(filepath.Dir(p), ".service.d") {
			os.Remove(filepath.Dir(b.path(p)))
		}
	}
	b.m.Systemd.Reload(ctx)
	if b.m.Root == "/" {
		for _, u := range b.users {
			exec.Command("userdel", u).Run()
			exec.Command("groupdel", u).Run()
		}
	}
	b.m.Systemd.Close()
}

// sleeper is a program that stays. The twin runs none, and knows /bin/false alone.
const sleeper = "[Service]\nExecStart=/bin/sleep 1000\n"

func boot(b *bench) {
	v, err := b.m.Systemd.Version(b.ctx)
	b.must(err)
	if v < 245 {
		b.Errorf("Version() = %d, want 245 or newer", v)
	}
	one, err := b.m.BootID()
	b.must(err)
	two, _ := b.m.BootID()
	if len(one) != 36 || one != two {
		b.Errorf("BootID() = %q, then %q", one, two)
	}
	if !strings.HasPrefix(b.m.Helper, "/") {
		b.Errorf("Helper = %q, want an absolute path", b.m.Helper)
	}
	if !b.m.Accounts.Command("sh") {
		b.Error("Command(sh) = false")
	}
}

func unknownUnit(b *bench) {
	st := b.state("bhconf-none.service")
	if st.Load != "not-found" || st.Active != "inactive" || st.File != "" || st.RanThisBoot {
		b.Errorf("Units(unknown) = %+v", st)
	}
	b.refused("start", "bhconf-none.service")
	b.refused("stop", "bhconf-none.service")
	if err := b.m.Systemd.Enable(b.ctx, []string{"bhconf-none.service"}); err == nil || !strings.Contains(err.Error(), "bhconf-none") {
		b.Errorf("Enable(unknown) = %v, want an error that names it", err)
	}
	b.must(b.m.Systemd.Disable(b.ctx, []string{"bhconf-none.service"}))
	b.must(b.m.Systemd.ResetFailed(b.ctx, []string{"bhconf-none.service"}))
	if got, err := b.m.Systemd.Units(b.ctx, nil); err != nil || len(got) != 0 {
		b.Errorf("Units(nil) = %v, %v", got, err)
	}
	if errs := b.job("start"); len(errs) != 0 {
		b.Errorf("Job(start) of nothing = %v", errs)
	}
}

func lifeOfService(b *bench) {
	u := b.unit("life.service", sleeper+"[Install]\nWantedBy=multi-user.target\n")
	b.must(b.m.Systemd.Enable(b.ctx, []string{u}))
	b.reload()
	st := b.state(u)
	if st.Load != "loaded" || st.Active != "inactive" || st.RanThisBoot || st.Fragment != bundle.UnitDir+"/"+u || st.Oneshot || st.CanReload {
		b.Errorf("before its start: %+v", st)
	}
	b.ok("start", u)
	first := b.want(u, "active")
	if len(first.Invocation) != 32 || !first.RanThisBoot || first.MainPID == 0 || first.Sub != "running" || first.Restarts != 0 || first.Job {
		b.Errorf("running: %+v", first)
	}
	glance, err := b.m.Systemd.Glance(b.ctx, []string{u, "bhconf-none.service"})
	b.must(err)
	if g, none := glance[u], glance["bhconf-none.service"]; g.Load != "loaded" || g.Active != "active" || g.Sub != "running" || none.Load != "not-found" || none.Active != "inactive" {
		b.Errorf("Glance = %+v", glance)
	}
	b.ok("start", u)
	if again := b.state(u); again.Invocation != first.Invocation {
		b.Error("start of an active unit started it anew")
	}
	b.ok("restart", u)
	second := b.want(u, "active")
	if second.Invocation == first.Invocation {
		b.Error("restart kept the invocation")
	}
	b.ok("try-restart", u)
	if third := b.want(u, "active"); third.Invocation == second.Invocation {
		b.Error("try-restart of an active unit kept the invocation")
	}
	b.ok("stop", u)
	if st := b.want(u, "inactive"); !st.RanThisBoot || st.Result != "success" || st.MainPID != 0 {
		b.Errorf("stopped by hand: %+v", st)
	}
	b.reload()
	if st := b.state(u); !st.RanThisBoot {
		b.Error("a daemon-reload made systemd forget that the unit has run")
	}
	b.ok("stop", u)
	b.ok("try-restart", u)
	b.want(u, "inactive")
	b.ok("restart", u)
	b.want(u, "active")
}

func oneshots(b *bench) {
	once := b.unit("once.service", "[Service]\nType=oneshot\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n")
	stays := b.unit("stays.service", "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n")
	b.must(b.m.Systemd.Enable(b.ctx, []string{once}))
	b.reload()
	b.ok("start", once, stays)
	if st := b.state(once); st.Active != "inactive" || st.Result != "success" || !st.RanThisBoot || !st.Oneshot {
		b.Errorf("oneshot after its run: %+v", st)
	}
	if st := b.state(stays); st.Active != "active" || st.Sub != "exited" || st.Oneshot {
		b.Errorf("oneshot that remains: %+v", st)
	}
}

func enable(b *bench) {
	u := b.unit("en.service", sleeper+"[Install]\nWantedBy=multi-user.target\nRequiredBy=bhconf-other.target\nAlias=bhconf-alias.service\n")
	b.reload()
	if st := b.state(u); st.File != "disabled" {
		b.Errorf("File = %q, want disabled", st.File)
	}
	links := []string{"multi-user.target.wants/" + u, "bhconf-other.target.requires/" + u, "bhconf-alias.service"}
	b.must(b.m.Systemd.Enable(b.ctx, []string{u}))
	b.must(b.m.Systemd.Enable(b.ctx, []string{u})) // again is fine
	b.reload()
	if st := b.state(u); st.File != "enabled" {
		b.Errorf("File = %q, want enabled", st.File)
	}
	for _, l := range links {
		if to, err := os.Readlink(b.path(bundle.UnitDir + "/" + l)); err != nil || filepath.Base(to) != u {
			b.Errorf("link %s leads to %q, %v", l, to, err)
		}
	}
	b.must(b.m.Systemd.Disable(b.ctx, []string{u}))
	b.must(b.m.Systemd.Disable(b.ctx, []string{u}))
	b.reload()
	for _, l := range links {
		if _, err := os.Lstat(b.path(bundle.UnitDir + "/" + l)); err == nil {
			b.Errorf("link %s stays after Disable", l)
		}
	}
}

func noInstall(b *bench) {
	u := b.unit("static.service", sleeper)
	b.reload()
	b.must(b.m.Systemd.Enable(b.ctx, []string{u}))
	b.reload()
	if st := b.state(u); st.File != "static" {
		b.Errorf("File = %q, want static", st.File)
	}
	b.must(b.m.Systemd.Disable(b.ctx, []string{u}))
}

func template(b *bench) {
	b.unit("tpl@.service", "[Service]\nExecStart=/bin/sleep 1000\n[Install]\nWantedBy=multi-user.target\n")
	b.units = append(b.units, "bhconf-tpl@a.service")
	u := "bhconf-tpl@a.service"
	b.must(b.m.Systemd.Enable(b.ctx, []string{u}))
	b.reload()
	b.ok("start", u)
	if st := b.want(u, "active"); st.File != "enabled" || st.Fragment != bundle.UnitDir+"/bhconf-tpl@.service" {
		b.Errorf("instance: %+v", st)
	}
	b.must(b.m.Systemd.Disable(b.ctx, []string{u}))
	if _, err := os.Lstat(b.path(bundle.UnitDir + "/multi-user.target.wants/" + u)); err == nil {
		b.Error("the instance's link stays after Disable")
	}
}

func failing(b *bench) {
	simple := b.unit("fail-simple.service", "[Service]\nExecStart=/bin/false\n")
	missing := b.unit("fail-missing.service", "[Service]\nExecStart=/nonexistent/bhconf\n")
	pre := b.unit("fail-pre.service", "[Service]\nExecStartPre=/bin/false\nExecStart=/bin/sleep 1000\n")
	once := b.unit("fail-once.service", "[Service]\nType=oneshot\nExecStart=/bin/false\n")
	b.reload()
	b.ok("start", simple) // "done" is not health
	if st := b.want(simple, "failed"); st.Result != "exit-code" || !st.RanThisBoot || st.Exit != (machine.Exit{Status: 1}) {
		b.Errorf("failed service: %+v", st)
	}
	b.job("start", missing)
	if st := b.want(missing, "failed"); st.Result != "exit-code" || st.Exit != (machine.Exit{Status: 203}) {
		b.Errorf("service without its program: %+v", st)
	}
	b.refused("start", pre)
	if st := b.want(pre, "failed"); st.Result != "exit-code" || st.Exit != (machine.Exit{Status: 1, Line: "ExecStartPre"}) {
		b.Errorf("service whose ExecStartPre fails: %+v", st)
	}
	b.refused("start", once)
	b.want(once, "failed")
	b.job("stop", once)
	b.want(once, "failed") // a stop does not clear it
	b.must(b.m.Systemd.ResetFailed(b.ctx, []string{simple, once}))
	b.want(once, "inactive")
	b.want(simple, "inactive")
}

func dependency(b *bench) {
	bad := b.unit("dep.service", "[Service]\nType=oneshot\nExecStart=/bin/false\n")
	app := b.unit("dep-app.service", "[Unit]\nRequires=@@dep.service\nAfter=@@dep.service\n"+sleeper)
	weak := b.unit("dep-weak.service", "[Unit]\nWants=@@dep.service @@nowhere.service\nAfter=@@dep.service\n"+sleeper)
	b.reload()
	b.refused("start", app)
	if st := b.want(app, "inactive"); st.RanThisBoot {
		b.Errorf("a unit whose dependency failed has run: %+v", st)
	}
	b.want(bad, "failed")
	b.ok("start", weak)
	b.want(weak, "active")
}

func assertCondition(b *bench) {
	a := b.unit("assert.service", "[Unit]\nAssertPathExists=/bhconf-none\n"+sleeper+"[Install]\nWantedBy=multi-user.target\n")
	c := b.unit("cond.service", "[Unit]\nConditionPathExists=/bhconf-none\n"+sleeper+"[Install]\nWantedBy=multi-user.target\n")
	n := b.unit("cond-not.service", "[Unit]\nConditionPathExists=!/bhconf-none\n"+sleeper)
	needs := b.unit("needs-cond.service", "[Unit]\nRequires=@@cond.service\nAfter=@@cond.service\n"+sleeper)
	b.must(b.m.Systemd.Enable(b.ctx, []string{a, c}))
	b.reload()
	b.refused("start", a)
	if st := b.want(a, "inactive"); st.RanThisBoot || st.Skipped {
		b.Errorf("failed assert: %+v", st)
	}
	b.ok("start", c)
	if st := b.want(c, "inactive"); st.RanThisBoot || !st.Skipped {
		b.Errorf("skipped by its condition: %+v", st)
	}
	b.ok("start", n, needs) // what is skipped satisfies Requires=
	if st := b.want(n, "active"); st.Skipped {
		b.Errorf("its condition holds: %+v", st)
	}
	b.want(needs, "active")
}

func masked(b *bench) {
	u := "bhconf-masked.service"
	b.units, b.paths = append(b.units, u), append(b.paths, bundle.UnitDir+"/"+u)
	b.must(os.Symlink("/dev/null", b.path(bundle.UnitDir+"/"+u)))
	b.reload()
	if st := b.state(u); st.Load != "masked" || st.File != "masked" {
		b.Errorf("masked unit: %+v", st)
	}
	b.refused("start", u)
	if err := b.m.Systemd.Enable(b.ctx, []string{u}); err == nil {
		b.Error("Enable of a masked unit is no error")
	}
}

func badUnit(b *bench) {
	u := b.unit("bad.service", "[Service]\nType=simple\n")
	b.reload()
	if st := b.state(u); st.Load != "bad-setting" {
		b.Errorf("Load = %q, want bad-setting", st.Load)
	}
	b.refused("start", u)
}

func reloadVerb(b *bench) {
	u := b.unit("rel.service", "[Service]\nExecStart=/bin/sleep 1000\nExecReload=/bin/true\n")
	no := b.unit("norel.service", sleeper)
	b.reload()
	b.refused("reload", u) // it does not run
	b.ok("start", u, no)
	before := b.want(u, "active")
	if !before.CanReload || b.state(no).CanReload {
		b.Error("CanReload is not what the files say")
	}
	b.ok("reload", u)
	if after := b.want(u, "active"); after.Invocation != before.Invocation {
		b.Error("reload changed the invocation")
	}
	b.refused("reload", no)
}

func needsReload(b *bench) {
	u := b.unit("dropin.service", sleeper)
	b.reload()
	b.ok("start", u)
	b.write(bundle.UnitDir+"/"+u+".d/50-bellhop.conf", "[Unit]\nAssertPathExists=/bhconf-none\n")
	b.ok("restart", u) // as it was read
	b.want(u, "active")
	b.reload()
	b.want(u, "active")
	b.refused("restart", u)
	b.want(u, "inactive")
}

func restartTakesAlong(b *bench) {
	base := b.unit("base.service", sleeper)
	top := b.unit("top.service", "[Unit]\nRequires=@@base.service\nAfter=@@base.service\n"+sleeper)
	b.reload()
	b.ok("start", top)
	was := b.want(top, "active")
	b.want(base, "active")
	b.ok("restart", base)
	if now := b.want(top, "active"); now.Invocation == was.Invocation {
		b.Error("a restart did not take along what requires the unit")
	}
	b.ok("stop", base)
	b.want(top, "inactive")
}

func activators(b *bench) {
	svc := b.unit("act.service", sleeper)
	timer := b.unit("act.timer", "[Timer]\nOnCalendar=2099-01-01\n[Install]\nWantedBy=timers.target\n")
	sock := b.unit("sock.socket", "[Socket]\nListenStream=/run/bhconf.sock\n[Install]\nWantedBy=sockets.target\n")
	behind := b.unit("sock.service", sleeper)
	b.must(b.m.Systemd.Enable(b.ctx, []string{timer, sock}))
	b.reload()
	b.ok("start", timer)
	if st := b.want(timer, "active"); st.Sub != "waiting" {
		b.Errorf("timer: %+v", st)
	}
	if st := b.state(svc); st.Active != "inactive" || len(st.TriggeredBy) != 1 || st.TriggeredBy[0] != timer {
		b.Errorf("service of a timer: %+v", st)
	}
	b.ok("start", behind)
	b.refused("start", sock) // its service runs already
	b.ok("stop", behind)
	b.ok("start", sock)
	if st := b.want(sock, "active"); st.Sub != "listening" {
		b.Errorf("socket: %+v", st)
	}
}

func queue(b *bench) {
	u := b.unit("queue.service", sleeper)
	b.reload()
	b.must(b.m.Systemd.Queue(b.ctx, "start", u))
	b.want(u, "active")
	b.must(b.m.Systemd.Queue(b.ctx, "stop", u))
	b.want(u, "inactive")
}

// gate is the arrangement of keys: an app waits for two, and comes up once with the last.
func gate(b *bench) {
	_, err := b.m.Mounts.Keys(b.ctx)
	b.must(err)
	key := func(n string) string {
		return b.unit(n+"-key.service", "[Unit]\nDefaultDependencies=no\nRequiresMountsFor=/run/keys\nBefore=@@gated.service\nWants=@@gated.service\nStartLimitIntervalSec=0\n"+
			"[Service]\nType=oneshot\nRemainAfterExit=yes\nUMask=0077\n"+
			"ExecStart=/bin/sh -c 'chown root:keys /run/keys; test -e /run/keys/bhconf-"+n+" && exit 0; echo \"key "+n+" has not come since this boot\" >&2; exit 1'\n")
	}
	ka, kb := key("ka"), key("kb")
	app := b.unit("gated.service", sleeper)
	b.write(bundle.UnitDir+"/"+app+".d/50-bellhop.conf", "[Unit]\nRequires="+ka+" "+kb+"\nAfter="+ka+" "+kb+"\n"+
		"AssertPathExists=/run/keys/bhconf-ka\nAssertPathExists=/run/keys/bhconf-kb\n[Service]\nSupplementaryGroups=keys\n")
	b.reload()
	b.refused("start", app)
	b.want(app, "inactive")
	b.want(ka, "failed")
	b.writeKey("bhconf-ka", "a")
	b.ok("start", ka)
	b.want(app, "inactive")
	b.writeKey("bhconf-kb", "b")
	b.ok("start", ka, kb)
	was := b.want(app, "active")
	b.ok("start", ka, kb)
	b.reload()
	if now := b.want(app, "active"); now.Invocation != was.Invocation {
		b.Error("starting active key units started the app anew")
	}
	b.removeKey("bhconf-ka")
	b.refused("restart", app) // gone behind systemd's back
	b.want(app, "inactive")
	b.writeKey("bhconf-ka", "a")
	b.ok("start", ka) // does nothing itself, and still pulls in the app
	b.want(app, "active")
	b.ok("stop", kb)
	b.want(app, "inactive")
	b.ok("start-alone", kb)
	b.want(kb, "active")
	b.want(app, "inactive") // nobody asked for it
}

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
	if err != nil || !ok || u.Group != "bhconfgrp" || u.Home != "/srv/bhconf/home" || u.UID == 0 {
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
	if p, err := a.Busy("bhconfuser"); err != nil || len(p) != 1 || p[0].PID == 0 || p[0].Name != "sleep" || p[0].Unit != busy {
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
	if now, _, err := a.User("bhconfuser"); err != nil || now.Home != u.Home || now.Group != "daemon" || now.UID != u.UID {
		b.Errorf("after Usermod: %+v, %v", now, err)
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

// writable tries the helper's own way into the place for keys: what is made there is seen by its
// path, and where the place is closed nothing can be made by that path.
func (b *bench) writable() {
	b.Helper()
	f, err := b.m.Mounts.Writable(b.ctx)
	b.must(err)
	defer f.Close()
	at := fmt.Sprintf("/proc/self/fd/%d/bhconf-key", f.Fd())
	defer os.Remove(at)
	b.must(os.WriteFile(at, []byte("value"), 0o600))
	if got, err := os.ReadFile(b.path(bundle.KeyDir + "/bhconf-key")); string(got) != "value" {
		b.Errorf("what was made is seen as %q, %v", got, err)
	}
	err = os.WriteFile(b.path(bundle.KeyDir+"/bhconf-other"), nil, 0o600)
	os.Remove(b.path(bundle.KeyDir + "/bhconf-other"))
	if real := b.m.Root == "/"; real && b.m.Mounts.Open() == nil && !errors.Is(err, unix.EROFS) {
		b.Errorf("write by path: %v, want it read-only", err)
	}
}

func placeForKeys(b *bench) {
	for range 2 {
		kind, err := b.m.Mounts.Keys(b.ctx)
		if err != nil || kind != "ramfs" && kind != "tmpfs" {
			b.Fatalf("Keys() = %q, %v", kind, err)
		}
	}
	fi, err := os.Stat(b.path(bundle.KeyDir))
	b.must(err)
	if !fi.IsDir() || fi.Mode().Perm() != 0o750 {
		b.Errorf("%s has mode %v, want 0750", bundle.KeyDir, fi.Mode())
	}
	b.owned(bundle.KeyDir, "root", bundle.KeyGroup)
	b.writable()
	b.writeKey("bhconf-stays", "x")
	if _, err := b.m.Mounts.Keys(b.ctx); err != nil {
		b.Error(err)
	}
	if _, err := os.Stat(b.path(bundle.KeyDir + "/bhconf-stays")); err != nil {
		b.Errorf("Keys() lost a key: %v", err)
	}
}

func sealedCopies(b *bench) {
	p := b.path(bundle.SealedDir)
	b.paths = append(b.paths, bundle.SealedDir+"/bhconf-one", bundle.SealedDir+"/bhconf-two")
	m := b.m.Mounts
	for _, value := range []string{"first\x00value\n", "", strings.Repeat("x", 100_000)} {
		b.must(m.Seal(b.ctx, "bhconf-one", []byte(value)))
		if !m.Opens(b.ctx, "bhconf-one", []byte(value)) {
			b.Errorf("the copy of %d bytes does not open", len(value))
		}
		if m.Opens(b.ctx, "bhconf-one", []byte(value+"x")) {
			b.Error("the copy opens as another value")
		}
	}
	fi, err := os.Stat(p + "/bhconf-one")
	b.must(err)
	if fi.Mode().Perm() != 0o600 {
		b.Errorf("sealed copy has mode %o, want 600", fi.Mode().Perm())
	}
	if es, _ := filepath.Glob(p + "/.new*"); len(es) > 0 {
		b.Errorf("left behind: %v", es)
	}
	b.must(m.Seal(b.ctx, "bhconf-one", []byte("v")))
	text, err := os.ReadFile(p + "/bhconf-one")
	b.must(err)
	b.must(os.WriteFile(p+"/bhconf-two", text, 0o600))
	if m.Opens(b.ctx, "bhconf-two", []byte("v")) {
		b.Error("a copy opens under another name")
	}
	text[len(text)-5] ^= 1
	b.must(os.WriteFile(p+"/bhconf-one", text, 0o600))
	if m.Opens(b.ctx, "bhconf-one", []byte("v")) || m.Opens(b.ctx, "bhconf-none", []byte("v")) {
		b.Error("a broken or missing copy opens")
	}
}

// applyUnit asks for a run that nobody staged, with the host's lock held by another, so that
// it waits. As long as the unit is there its name is the lock; after that the name is free.
func applyUnit(b *bench) {
	release := b.holdLock()
	b.must(b.m.Systemd.StartApply(b.ctx, "bhconf-1"))
	if err := b.m.Systemd.StartApply(b.ctx, "bhconf-2"); !errors.Is(err, machine.ErrBusy) {
		b.Errorf("a second StartApply = %v, want ErrBusy", err)
	}
	if st := b.state(bundle.ApplyUnit); st.Load != "loaded" {
		b.Errorf("the unit while it is there: %+v", st)
	}
	release()
	b.applyLeaves()
	b.must(b.m.Systemd.StartApply(b.ctx, "bhconf-3"))
	b.applyLeaves()
	if err := b.m.Systemd.StartApply(b.ctx, "run; rm"); err == nil {
		b.Error("StartApply took a run id that systemd would parse")
	}
	b.paths = append(b.paths, bundle.StateDir+"/runs/bhconf-1", bundle.StateDir+"/runs/bhconf-3")
}

func (b *bench) holdLock() (release func()) {
	b.must(os.MkdirAll(b.path(bundle.StateDir), 0o711))
	f, err := os.OpenFile(b.path(bundle.StateDir+"/lock"), os.O_RDWR|os.O_CREATE, 0o600)
	b.must(err)
	b.must(unix.Flock(int(f.Fd()), unix.LOCK_EX))
	return func() { f.Close() }
}

func (b *bench) applyLeaves() {
	b.Helper()
	for end := time.Now().Add(10 * time.Second); b.state(bundle.ApplyUnit).Load == "loaded"; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			b.Fatal("the apply unit does not leave")
		}
	}
}
