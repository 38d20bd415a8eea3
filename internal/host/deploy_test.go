package host_test

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/bundle/wire"
	"bellhop/internal/host"
	"bellhop/internal/host/helper"
	"bellhop/internal/host/machine"
)

func bot(text string) *load {
	return newLoad().user("bot").service("bot.service", "[Service]\nExecStart=/bot\n[Install]\nWantedBy=multi-user.target\n", "file:/etc/bot/conf", "key:token").
		owned("/etc/bot/conf", text, "bot").key("token", "hunter2")
}

func TestFirstDeployThenChangeThenNothing(t *testing.T) {
	b := newBox(t)
	began := time.Now().UnixMilli()
	got := b.deploy(bot("one"), bundle.OutcomeDone)
	if at := got.hello.At; at < began || at > time.Now().UnixMilli() {
		t.Errorf("the hello names the time %d, want now", at)
	}
	if b.read("/etc/bot/conf") != "one" || b.read("/run/keys/token") != "hunter2" {
		t.Errorf("conf %q, key %q stand", b.read("/etc/bot/conf"), b.read("/run/keys/token"))
	}
	if !b.active["bot.service"] || !b.active["token-key.service"] || !b.enabled["bot.service"] {
		t.Errorf("active %v, enabled %v", b.active, b.enabled)
	}
	if got.res.Record == nil || got.res.Record.Generation != 1 {
		t.Fatalf("record %+v, want generation 1", got.res.Record)
	}
	if want := []string{"preflight", "begin", "stop", "keep", "accounts", "files", "tmpfiles", "keys", "reload", "start", "health", "applied", "done"}; !slices.Equal(got.events, want) {
		t.Errorf("events %q, want %q", got.events, want)
	}

	b.jobs, b.reloads = nil, 0
	got = b.deploy(bot("two"), bundle.OutcomeDone)
	wantList(t, "wanted files", got.want.Files, bundle.DigestBytes([]byte("two")))
	wantList(t, "changed", got.res.Changed, "/etc/bot/conf")
	wantList(t, "jobs", b.jobs, "restart bot.service")
	if b.reloads != 0 {
		t.Errorf("%d daemon-reloads for a file that is no unit", b.reloads)
	}
	if got.res.Fsyncs > 8 {
		t.Errorf("one changed file cost %d fsyncs", got.res.Fsyncs)
	}

	b.jobs = nil
	got = b.deploy(bot("two"), bundle.OutcomeNothing)
	if len(b.jobs) != 0 || len(got.events) != 0 || got.res.Record.Generation != 2 {
		t.Errorf("nothing to change, and jobs %q, events %q, generation %d", b.jobs, got.events, got.res.Record.Generation)
	}
}

func TestChangedKeyRestartsOnce(t *testing.T) {
	b := newBox(t)
	b.deploy(bot("one"), bundle.OutcomeDone)
	b.jobs = nil
	l := bot("one")
	l.keys["token"] = "rotated"
	got := b.deploy(l, bundle.OutcomeDone)
	wantList(t, "jobs", b.jobs, "restart bot.service")
	wantList(t, "changed", got.res.Changed, "token")
	if b.read("/run/keys/token") != "rotated" {
		t.Errorf("key = %q", b.read("/run/keys/token"))
	}
	if es, _ := os.ReadDir(b.path("/run/keys")); len(es) != 1 {
		t.Errorf("/run/keys holds %v, want the key alone", es)
	}
}

// A key that reloads its unit does so, though every other change restarts it.
func TestKeyThatReloads(t *testing.T) {
	b := newBox(t)
	l := func(conf, token string) *load {
		l := bot(conf)
		l.keys["token"] = token
		l.Units[0].On = map[string]string{"key:token": bundle.Reload}
		return l
	}
	b.deploy(l("one", "hunter2"), bundle.OutcomeDone)
	b.jobs = nil
	b.deploy(l("one", "rotated"), bundle.OutcomeDone)
	wantList(t, "jobs", b.jobs, "reload bot.service")
	b.jobs = nil
	b.deploy(l("two", "again"), bundle.OutcomeDone)
	wantList(t, "jobs", b.jobs, "restart bot.service")

	bad := l("two", "again")
	bad.Units[0].On["key:token"] = "explode"
	b.deploy(bad, bundle.OutcomeRefused)
}

func TestLeavingGivesBackWhatStood(t *testing.T) {
	b := newBox(t)
	b.write("/etc/bot/conf", "by hand")
	b.deploy(bot("one"), bundle.OutcomeDone)
	l := newLoad().file("/etc/other/x", "stays")
	got := b.deploy(l, bundle.OutcomeDone)
	if b.read("/etc/bot/conf") != "by hand" {
		t.Errorf("conf = %q, want what stood before bellhop", b.read("/etc/bot/conf"))
	}
	wantList(t, "stopped", got.res.Stopped, "bot.service", "token-key.service")
	wantList(t, "kept", got.res.Kept, "user bot", "home /srv/bot")
	for _, p := range []string{bundle.UnitDir + "/bot.service", "/run/keys/token", "/etc/sysusers.d"} {
		if _, err := os.Lstat(b.path(p)); err == nil {
			t.Errorf("%s still stands", p)
		}
	}
	if b.enabled["bot.service"] || b.active["bot.service"] {
		t.Errorf("bot.service is enabled or active")
	}
}

// A link that stood there comes back as its owner's.
func TestLinkKeepsItsOwner(t *testing.T) {
	b := newBox(t)
	b.write("/etc/bot/keep", "")
	b.users["cadey"] = machine.Account{Name: "cadey", Group: "cadey"}
	if err := os.Symlink("/srv/conf", b.path("/etc/bot/conf")); err != nil {
		t.Fatal(err)
	}
	b.give("/etc/bot/conf", "cadey", "cadey")
	b.deploy(bot("one"), bundle.OutcomeDone)
	b.deploy(newLoad().file("/etc/other/x", "stays"), bundle.OutcomeDone)
	if target, err := os.Readlink(b.path("/etc/bot/conf")); target != "/srv/conf" {
		t.Fatalf("conf leads to %q, %v", target, err)
	}
	if got := b.ownerOf("/etc/bot/conf"); got != [2]string{"cadey", "cadey"} {
		t.Errorf("conf belongs to %v, want cadey", got)
	}
}

func TestHandEditsArePutBackAndNamed(t *testing.T) {
	b := newBox(t)
	b.deploy(bot("one"), bundle.OutcomeDone)
	b.write("/etc/bot/conf", "edited")
	got := b.deploy(bot("one"), bundle.OutcomeDone)
	wantList(t, "restored", got.res.Restored, "/etc/bot/conf")
	kept := bundle.StateDir + "/blobs/" + bundle.DigestBytes([]byte("edited"))
	wantList(t, "edits", got.res.Edits, kept)
	if b.read("/etc/bot/conf") != "one" {
		t.Errorf("conf = %q", b.read("/etc/bot/conf"))
	}
	if b.read(kept) != "edited" {
		t.Errorf("the edited version was not kept")
	}
}

func TestFailedStartRollsBack(t *testing.T) {
	b := newBox(t)
	b.deploy(bot("one"), bundle.OutcomeDone)
	before := b.all()
	l := bot("two").service("new.service", "[Service]")
	l.keys["token"] = "rotated"
	b.fail["new.service"] = true
	got := b.deploy(l, bundle.OutcomeRolledBack)
	if !strings.Contains(got.res.Error, "unit new.service: ") || !strings.HasSuffix(got.res.Error, "\nwhat it said: bellhop logs chrysalis new.service") || got.res.Record.Generation != 1 {
		t.Errorf("result %+v", got.res)
	}
	b.compare(before, "after the rollback")
	if !b.active["bot.service"] || b.active["new.service"] || b.enabled["new.service"] {
		t.Errorf("active %v, enabled %v", b.active, b.enabled)
	}
}

// masks has systemd take a unit for masked once it was told of it.
type masks struct {
	*box
	unit string
}

func (m masks) Glance(ctx context.Context, names []string) (map[string]machine.UnitState, error) {
	states, err := m.box.Glance(ctx, names)
	if st, ok := states[m.unit]; ok && st.Load == "loaded" {
		st.Load = "masked"
		states[m.unit] = st
	}
	return states, err
}

func TestUnitThatIsMaskedAfterTheReload(t *testing.T) {
	b := newBox(t)
	before := b.all()
	b.m.Systemd = masks{b, "bot.service"}
	if got := b.deploy(bot("one"), bundle.OutcomeRolledBack); !strings.Contains(got.res.Error, "unit bot.service: systemd takes it for masked") {
		t.Errorf("result %+v, want a word on the mask", got.res)
	}
	b.compare(before, "after the rollback")
}

func TestFirstDeployThatFailsLeavesNothing(t *testing.T) {
	b := newBox(t)
	before := b.all()
	b.fail["bot.service"] = true
	b.deploy(bot("one"), bundle.OutcomeRolledBack)
	b.compare(before, "after the rollback")
}

func TestRefusals(t *testing.T) {
	type change = func(b *box, o *bundle.Offer)
	for name, c := range map[string]struct {
		do  change
		why string
	}{
		"base":     {func(b *box, o *bundle.Offer) { o.Base = 7 }, bundle.RefusedBase},
		"deployer": {func(b *box, o *bundle.Offer) { o.Deployer = "SHA256:other" }, bundle.RefusedDeployer},
		"network":  {func(b *box, o *bundle.Offer) { o.Manifest.Network = "else" }, bundle.RefusedNetwork},
		"host":     {func(b *box, o *bundle.Offer) { o.Manifest.Host = "lufta" }, bundle.RefusedNetwork},
		"owner":    {func(b *box, o *bundle.Offer) { o.Manifest.Files[0].User = "nobodyhere" }, bundle.RefusedBundle},
		"mask": {func(b *box, o *bundle.Offer) {
			os.Remove(b.path(bundle.UnitDir + "/bot.service"))
			os.Symlink("/dev/null", b.path(bundle.UnitDir+"/bot.service"))
		}, bundle.RefusedBundle},
		"need": {func(b *box, o *bundle.Offer) {
			o.Manifest.Needs = []bundle.Need{{Command: "no-such-command", Service: "bot"}}
			o.Manifest.Files[0].Mode = 0o600
		}, bundle.RefusedBundle},
		"folder": {func(b *box, o *bundle.Offer) {
			os.Remove(b.path("/etc/bot/conf"))
			os.Mkdir(b.path("/etc/bot/conf"), 0o755)
		}, bundle.RefusedBundle},
		"escape": {func(b *box, o *bundle.Offer) { o.Manifest.Files[0].Path = "/etc/../var/lib/bellhop/record" }, bundle.RefusedBundle},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			b.deploy(bot("one"), bundle.OutcomeDone)
			l := bot("two")
			o := l.offer()
			c.do(b, &o)
			before := b.all()
			got := b.deployOffer(o, l, bundle.OutcomeRefused)
			if got.res.Refused != c.why {
				t.Errorf("refused = %q (%s), want %q", got.res.Refused, got.res.Error, c.why)
			}
			b.compare(before, "after a refusal")
		})
	}
}

func TestRename(t *testing.T) {
	b := newBox(t)
	b.deploy(bot("one"), bundle.OutcomeDone)
	l := bot("one")
	l.Host = "lufta"
	o := l.offer()
	o.Formerly = "chrysalis"
	b.jobs = nil
	got := b.deployOffer(o, l, bundle.OutcomeNothing)
	if got.res.Record.Host != "lufta" || len(b.jobs) != 0 {
		t.Errorf("record %+v, jobs %q", got.res.Record, b.jobs)
	}
}

func TestChangedInstallIsTakenBack(t *testing.T) {
	b := newBox(t)
	unit := func(target string) *load {
		return newLoad().service("x.service", "[Service]\nExecStart=/x\n[Install]\nWantedBy="+target+"\n")
	}
	b.deploy(unit("multi-user.target"), bundle.OutcomeDone)
	b.enables = nil
	b.deploy(unit("other.target"), bundle.OutcomeDone)
	wantList(t, "enablements", b.enables, "disable x.service", "enable x.service")
	b.enables = nil
	b.fail["x.service"] = true
	b.deploy(unit("third.target"), bundle.OutcomeFailed)
	if want := []string{"disable x.service", "enable x.service", "disable x.service", "enable x.service"}; !slices.Equal(b.enables, want) {
		t.Errorf("enablements %q, want %q", b.enables, want)
	}
}

func TestForeignUnitGoesBackToHowItWas(t *testing.T) {
	b := newBox(t)
	b.write(bundle.UnitDir+"/nginx.service", "theirs")
	b.look()
	drop := func(start bool) *load {
		p := bundle.UnitDir + "/nginx.service.d/bellhop.conf"
		l := newLoad().file(p, "[Service]")
		l.Units = append(l.Units, bundle.Unit{Name: "nginx.service", Foreign: true, Enable: start, Start: start, OnChange: bundle.Restart, Files: []string{p}})
		return l
	}
	other := newLoad().file("/etc/other", "x")
	b.deploy(drop(true), bundle.OutcomeDone)
	if !b.active["nginx.service"] || !b.enabled["nginx.service"] {
		t.Errorf("active %v, enabled %v", b.active, b.enabled)
	}
	b.deploy(other, bundle.OutcomeDone)
	if b.active["nginx.service"] || b.enabled["nginx.service"] {
		t.Errorf("left: active %v, enabled %v; want as before", b.active, b.enabled)
	}
	b.active["nginx.service"], b.enabled["nginx.service"] = true, true
	b.deploy(drop(false), bundle.OutcomeDone)
	b.jobs = nil
	b.deploy(other, bundle.OutcomeDone)
	wantList(t, "jobs", b.jobs, "restart nginx.service")
	if !b.enabled["nginx.service"] {
		t.Error("a unit that people enabled was disabled")
	}
}

// A unit that was enabled and ran before bellhop stays so when the fleet names it no more and only
// has a drop-in for it: that it may be sshd is why this matters.
func TestForeignUnitThatIsNamedNoMore(t *testing.T) {
	for _, before := range []bool{true, false} {
		b := newBox(t)
		b.write(bundle.UnitDir+"/ssh.service", "theirs")
		b.look()
		b.active["ssh.service"], b.enabled["ssh.service"] = before, before
		drop := func(named bool) *load {
			p := bundle.UnitDir + "/ssh.service.d/bellhop.conf"
			l := newLoad().file(p, "[Service]")
			l.Units = append(l.Units, bundle.Unit{Name: "ssh.service", Foreign: true, Enable: named, Start: named, OnChange: bundle.Restart, Files: []string{p}})
			return l
		}
		b.deploy(drop(true), bundle.OutcomeDone)
		b.deploy(drop(false), bundle.OutcomeDone)
		if b.active["ssh.service"] != before || b.enabled["ssh.service"] != before {
			t.Errorf("it was %v before, and is active %v, enabled %v", before, b.active["ssh.service"], b.enabled["ssh.service"])
		}
	}
}

// An undo whose result can't be written is ended later, without taking the units through it again,
// and still says why the run failed.
func TestUndoThatCanNotTell(t *testing.T) {
	b := newBox(t)
	b.deploy(bot("one"), bundle.OutcomeDone)
	run := b.stageOnly(bot("two"))
	in := b.path(bundle.StateDir + "/runs/" + run + "/result.new") // a folder in its place stands for a full disk
	b.m.Reached = func(step string) {
		if step == "keys" {
			b.fail["bot.service"] = true
			if err := os.MkdirAll(in, 0o700); err != nil {
				t.Error(err)
			}
		}
		if step == "undo paths" {
			b.fail["bot.service"] = false
		}
	}
	if err := host.Apply(t.Context(), b.m, run); err == nil {
		t.Fatal("a result that can't be written is no error")
	}
	b.m.Reached = nil
	b.jobs = nil
	if err := host.Apply(t.Context(), b.m, run); err == nil || len(b.jobs) > 0 {
		t.Errorf("again: %v, with the jobs %q; want an error and none", err, b.jobs)
	}
	if err := os.Remove(in); err != nil {
		t.Fatal(err)
	}
	if err := host.Apply(t.Context(), b.m, run); err != nil || len(b.jobs) > 0 {
		t.Errorf("at last: %v, with the jobs %q", err, b.jobs)
	}
	var res bundle.Result
	p, err := os.ReadFile(b.path(bundle.StateDir + "/runs/" + run + "/result"))
	if err != nil || json.Unmarshal(p, &res) != nil {
		t.Fatal(err)
	}
	if res.Outcome != bundle.OutcomeRolledBack || res.CutOff || !strings.Contains(res.Error, "bot.service") {
		t.Errorf("result %+v, want why it failed", res)
	}
	if b.read("/etc/bot/conf") != "one" || !b.active["bot.service"] {
		t.Errorf("conf %q, active %v", b.read("/etc/bot/conf"), b.active["bot.service"])
	}
}

// What stood in a place before bellhop came has to return there when bellhop's file leaves, so
// there can't be a folder: that is told, and nothing is touched.
func TestFolderWhereAnOriginalReturns(t *testing.T) {
	b := newBox(t)
	b.write("/etc/fe/x", "theirs")
	b.deploy(newLoad().file("/etc/fe/x", "ours"), bundle.OutcomeDone)
	got := b.deploy(newLoad().file("/etc/fe/x/y", "below"), bundle.OutcomeRefused)
	if !strings.Contains(got.res.Error, "what stood at /etc/fe/x before bellhop came has to return there") || b.read("/etc/fe/x") != "ours" {
		t.Errorf("error %q, and %q stands", got.res.Error, b.read("/etc/fe/x"))
	}
}

// systemd would start a unit with such a group only to see it fail.
func TestUnknownExtraGroupIsRefused(t *testing.T) {
	b := newBox(t)
	l := bot("one")
	l.Groups = []string{"bot", "root", "nogrp"}
	got := b.deploy(l, bundle.OutcomeRefused)
	if !strings.Contains(got.res.Error, "no group nogrp") || len(b.users) != 1 {
		t.Errorf("error %q, users %v", got.res.Error, b.users)
	}
}

func TestChangedHomeAndGroupStay(t *testing.T) {
	b := newBox(t)
	b.deploy(bot("one"), bundle.OutcomeDone)
	l := bot("one")
	l.Users[0].Home, l.Users[0].Group = "/home/bot", "root"
	got := b.deploy(l, bundle.OutcomeDone)
	wantList(t, "kept", got.res.Kept, "home /srv/bot", "group bot")
}

func TestRolledBackAccountIsStillBellhops(t *testing.T) {
	b := newBox(t)
	b.fail["bot.service"] = true
	got := b.deploy(bot("one"), bundle.OutcomeRolledBack)
	wantList(t, "kept", got.res.Kept, "user bot")
	b.fail["bot.service"] = false
	l := bot("one")
	l.Users[0].Home = "/home/bot"
	b.deploy(l, bundle.OutcomeDone)
	if b.users["bot"].Home != "/home/bot" {
		t.Errorf("home = %s", b.users["bot"].Home)
	}
}

func TestKeysThatDoNotOpenKeepNoneAway(t *testing.T) {
	b := newBox(t)
	l := bot("one").key("other", "x")
	b.deploy(l, bundle.OutcomeDone)
	b.reboot()
	o := l.offer()
	o.Mode = bundle.ModeKeys
	l.lost = "other"
	got := b.deployOffer(o, l, bundle.OutcomeNothing)
	if b.read("/run/keys/token") != "hunter2" || len(got.res.Warnings) == 0 {
		t.Errorf("key %q, warnings %q", b.read("/run/keys/token"), got.res.Warnings)
	}
	l.lost = ""
	b.deployOffer(keysOffer(l), l, bundle.OutcomeNothing)
	if b.read("/run/keys/other") != "x" {
		t.Errorf("key other = %q", b.read("/run/keys/other"))
	}
	b.jobs = nil
	got = b.deployOffer(keysOffer(l), l, bundle.OutcomeNothing)
	if len(got.events) != 0 || len(b.jobs) != 0 {
		t.Errorf("nothing to put back, and events %q, jobs %q", got.events, b.jobs)
	}
}

func keysOffer(l *load) bundle.Offer {
	o := l.offer()
	o.Mode = bundle.ModeKeys
	return o
}

// A deployer whose line was cut while it sent comes back with the same run; its former
// session still hangs on the host.
func TestSameRunAgainBesideAHangingSession(t *testing.T) {
	b := newBox(t)
	l := bot("one")
	o := l.offer()
	o.Base = 0
	in, hang := io.Pipe()
	outR, outW := io.Pipe()
	go helper.Serve(context.Background(), b.m, in, outW)
	r := wire.NewReader(outR)
	r.SkipNoise()
	r.Next()
	wire.WriteFrame(hang, bundle.FrameOffer, o)
	if kind, _, err := r.Next(); kind != bundle.FrameWant || err != nil {
		t.Fatalf("frame %q, %v; want Want", kind, err)
	}
	b.deployOffer(o, l, bundle.OutcomeDone)
	hang.Close()
	outR.Close()
}

func TestRefusedRunMayTryAgain(t *testing.T) {
	b := newBox(t)
	l := bot("one")
	o := l.offer()
	o.Manifest.Needs = []bundle.Need{{Command: "no-such-command", Service: "bot"}}
	b.deployOffer(o, l, bundle.OutcomeRefused)
	o.Manifest.Needs = nil
	b.deployOffer(o, l, bundle.OutcomeDone)
}

// A unit that a run only reloaded is reloaded with what it had before when the run is undone,
// whoever is to blame: a restart would cut its connections.
func TestUndoReloadsWhatWasReloaded(t *testing.T) {
	for name, killed := range map[string]bool{"undone": false, "killed and settled": true} {
		b := newBox(t)
		conf := func(text string) *load {
			l := bot(text)
			l.Units[0].OnChange = bundle.Reload
			return l
		}
		b.deploy(conf("one"), bundle.OutcomeDone)
		b.jobs = nil
		l := conf("two").service("new.service", "[Service]")
		if killed {
			run := b.stageOnly(l)
			func() {
				defer func() { recover() }()
				b.m.Reached = func(at string) {
					if at == "start" {
						panic("killed")
					}
				}
				host.Apply(context.Background(), b.m, run)
			}()
			b.m.Reached = nil
			if err := host.Settle(context.Background(), b.m); err != nil {
				t.Fatal(err)
			}
		} else {
			b.fail["new.service"] = true
			b.deploy(l, bundle.OutcomeRolledBack)
		}
		if b.read("/etc/bot/conf") != "one" {
			t.Errorf("%s: conf = %q", name, b.read("/etc/bot/conf"))
		}
		var jobs []string
		for _, j := range b.jobs {
			if strings.HasSuffix(j, " bot.service") {
				jobs = append(jobs, j)
			}
		}
		if want := []string{"reload bot.service", "reload bot.service"}; !slices.Equal(jobs, want) {
			t.Errorf("%s: jobs %q, want %q", name, jobs, want)
		}
	}
}
