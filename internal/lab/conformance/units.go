package conformance

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"bellhop/internal/bundle"
	"bellhop/internal/host/machine"
)

// Units: what is read of their files, and what becomes of them.

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
	isThere := st.Load != "not-found" || st.Active != "inactive" || st.File != ""
	if isThere || st.RanThisBoot {
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

// steady: what is told of a unit that runs is what Units tells of it, and of no other anything is told.
func steady(b *bench, up string, whole machine.UnitState) {
	down := b.unit("down.service", sleeper)
	template := b.unit("template@.service", sleeper)
	instance := strings.Replace(template, "@", "@one", 1)
	b.reload()
	b.ok("start", instance)

	states, err := b.m.Systemd.Steady(b.ctx, []string{up, down, instance, "bhconf-none.service"})
	b.must(err)
	delete(states, instance) // which a host may leave to Units
	want := machine.UnitState{Name: up, Load: "loaded", Active: "active", Sub: whole.Sub, Result: "success", File: "enabled", Invocation: whole.Invocation, RanThisBoot: true}
	if len(states) != 1 || !reflect.DeepEqual(states[up], want) {
		b.Errorf("Steady = %+v, want %+v alone", states, want)
	}

	b.must(b.m.Systemd.Disable(b.ctx, []string{up}))
	b.reload()
	if states, err = b.m.Systemd.Steady(b.ctx, []string{up}); err != nil || states[up].File != "disabled" {
		b.Errorf("Steady of what was disabled = %+v, %v", states, err)
	}
	b.must(b.m.Systemd.Enable(b.ctx, []string{up}))
	b.reload()
	b.ok("stop", instance)
}

func lifeOfService(b *bench) {
	u := b.unit("life.service", sleeper+"[Install]\nWantedBy=multi-user.target\n")
	b.must(b.m.Systemd.Enable(b.ctx, []string{u}))
	b.reload()
	st := b.state(u)
	isLoaded := st.Load == "loaded" && st.Active == "inactive" && st.Fragment == bundle.UnitDir+"/"+u
	isMore := st.RanThisBoot || st.Oneshot || st.CanReload
	if !isLoaded || isMore {
		b.Errorf("before its start: %+v", st)
	}

	b.ok("start", u)
	first := b.want(u, "active")
	isRunning := first.Sub == "running" && first.MainPID != 0 && first.RanThisBoot
	isAgain := first.Restarts != 0 || first.Job
	if !isRunning || isAgain || len(first.Invocation) != 32 {
		b.Errorf("running: %+v", first)
	}

	glance, err := b.m.Systemd.Glance(b.ctx, []string{u, "bhconf-none.service"})
	b.must(err)
	g, none := glance[u], glance["bhconf-none.service"]
	isUp := g.Load == "loaded" && g.Active == "active" && g.Sub == "running"
	isNone := none.Load == "not-found" && none.Active == "inactive"
	if !isUp || !isNone {
		b.Errorf("Glance = %+v", glance)
	}
	steady(b, u, first)

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
	st := b.state(once)
	isDone := st.Active == "inactive" && st.Result == "success" && st.RanThisBoot
	if !isDone || !st.Oneshot {
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
