package conformance

import (
	"bellhop/internal/bundle"
)

// Jobs: what one verb does to several units.

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
