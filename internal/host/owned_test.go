package host_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bellhop/internal/bundle"
	"bellhop/internal/bundle/wire"
	"bellhop/internal/host"
	"bellhop/internal/host/helper"
	"bellhop/internal/host/machine"
	"bellhop/internal/lab"
)

func TestGiveBackLeavesNothing(t *testing.T) {
	b := newBox(t)
	b.write("/etc/bot/conf", "by hand")
	before := b.all()
	l := bot("one").pack("bot", archive(t, "tar.gz", entry{name: "bot-1/bin/bot", text: "#!/bin/sh", mode: 0o755}), "tar.gz")
	b.deploy(l, bundle.OutcomeDone)
	if got := b.read("/opt/bellhop/bot/bin/bot"); got != "#!/bin/sh" {
		t.Errorf("the package holds %q", got)
	}
	left := []string{"/var/lib/bellhop/left-down", "/var/lib/bellhop/stacks-owed"}
	for _, p := range left { // of runs that were undone
		b.write(p, "{}")
	}
	res := b.ask(bundle.Ask{Verb: bundle.AskUndo})
	if res.Outcome != bundle.OutcomeDone || res.Record != nil {
		t.Fatalf("undo = %+v", res)
	}
	b.compare(before, "after the host was given back")
	for _, p := range append(left, bundle.RecordPath, bundle.PackageDir, "/var/lib/bellhop/blobs/x") {
		if _, err := os.Stat(b.path(p)); err == nil {
			t.Errorf("%s stays", p)
		}
	}
	b.deploy(bot("one"), bundle.OutcomeDone) // and it may come again
}

// ask runs one session that asks, and returns the result that follows.
func (b *box) ask(a bundle.Ask) *bundle.Result {
	b.t.Helper()
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	go func() {
		err := helper.Serve(context.Background(), b.m, inR, outW)
		outW.CloseWithError(fmt.Errorf("serve ended: %v", err))
	}()
	r := wire.NewReader(outR)
	if _, err := r.SkipNoise(); err != nil {
		b.t.Fatal(err)
	}
	var h bundle.Hello
	if err := r.Expect(bundle.FrameHello, &h); err != nil {
		b.t.Fatal(err)
	}
	if err := wire.WriteFrame(inW, bundle.FrameAsk, a); err != nil {
		b.t.Fatal(err)
	}
	for {
		kind, p, err := r.Next()
		if err != nil {
			b.t.Fatal(err)
		}
		if kind == bundle.FrameResult {
			var res bundle.Result
			if err := bundle.Unmarshal(p, &res); err != nil {
				b.t.Fatal(err)
			}
			b.settled()
			return &res
		}
	}
}

func TestLostRecordIsAdopted(t *testing.T) {
	b := newBox(t)
	l := bot("one")
	b.deploy(l, bundle.OutcomeDone)
	if err := os.RemoveAll(b.path(bundle.StateDir)); err != nil {
		t.Fatal(err)
	}
	b.jobs = nil
	l = bot("one")
	o := l.offer()
	o.Last = &o.Manifest
	got := b.deployOffer(o, l, bundle.OutcomeNothing)
	if got.res.Record.Generation != 1 || len(b.jobs) != 0 {
		t.Errorf("generation %d, jobs %q; want 1 and none", got.res.Record.Generation, b.jobs)
	}
	b.deploy(newLoad().file("/etc/other/x", "y"), bundle.OutcomeDone)
	if _, err := os.Stat(b.path("/etc/bot/conf")); err == nil {
		t.Error("what was adopted did not leave")
	}
}

func TestLostRecordKeepsWhatDiffers(t *testing.T) {
	b := newBox(t)
	b.deploy(bot("one"), bundle.OutcomeDone)
	os.RemoveAll(b.path(bundle.StateDir))
	b.write("/etc/bot/conf", "by hand since")
	l := bot("two")
	o := l.offer()
	last := bot("one")
	last.Sort()
	o.Last = &last.Manifest
	b.deployOffer(o, l, bundle.OutcomeDone)
	b.deploy(newLoad().file("/etc/other/x", "y"), bundle.OutcomeDone)
	if got := b.read("/etc/bot/conf"); got != "by hand since" {
		t.Errorf("conf = %q, want what was no more bellhop's", got)
	}
}

func TestStoppedByHandStaysStopped(t *testing.T) {
	b := newBox(t)
	b.deploy(bot("one"), bundle.OutcomeDone)
	delete(b.active, "bot.service")
	got := b.deploy(bot("two"), bundle.OutcomeDone)
	wantList(t, "drifted", got.res.Drifted, "bot.service")
	if b.active["bot.service"] {
		t.Error("it was started")
	}
	b.failed["bot.service"] = true
	b.deploy(bot("three"), bundle.OutcomeDone)
	if !b.active["bot.service"] {
		t.Error("a failed unit was not started")
	}
}

func TestKeysComeBackAfterReboot(t *testing.T) {
	b := newBox(t)
	b.needs["token-key.service"] = "/run/keys/token"
	l := bot("one")
	b.deploy(l, bundle.OutcomeDone)
	b.reboot()
	b.bootUp()
	o := l.offer()
	o.Mode = bundle.ModeKeys
	got := b.deployOffer(o, l, bundle.OutcomeNothing)
	if len(got.hello.Keys) != 1 || got.hello.Keys[0].Present {
		t.Errorf("hello told of keys %+v", got.hello.Keys)
	}
	if b.read("/run/keys/token") != "hunter2" || !b.active["token-key.service"] {
		t.Errorf("key %q, unit active %v", b.read("/run/keys/token"), b.active["token-key.service"])
	}
	if got.res.Record.Generation != 1 || got.res.Record.BootID != "boot-2" {
		t.Errorf("record %+v", got.res.Record)
	}
}

func TestSealedKeyFollowsItsRun(t *testing.T) {
	b := newBox(t)
	seal := func(value string) *load {
		l := bot("one")
		l.keys["token"] = value
		l.Keys[0].Seal = true
		return l
	}
	b.deploy(seal("first"), bundle.OutcomeDone)
	if !b.Opens(context.Background(), "token", []byte("first")) {
		t.Fatal("no sealed copy")
	}
	b.fail["bot.service"] = true
	b.deploy(seal("second"), bundle.OutcomeFailed) // it can't start before, either
	if !b.Opens(context.Background(), "token", []byte("first")) {
		t.Error("the rollback left another sealed copy")
	}
	b.fail["bot.service"] = false
	os.Remove(b.path(bundle.SealedDir + "/token"))
	b.deploy(seal("first"), bundle.OutcomeDone)
	if !b.Opens(context.Background(), "token", []byte("first")) {
		t.Error("a lost sealed copy did not come back")
	}
}

func TestUserThatChangesAndComesBack(t *testing.T) {
	b := newBox(t)
	b.deploy(bot("one"), bundle.OutcomeDone)
	moved := func() *load {
		l := bot("one")
		l.Users[0].Home = "/home/bot"
		return l
	}
	b.fail["new.service"] = true
	b.deploy(moved().service("new.service", "[Service]"), bundle.OutcomeRolledBack)
	if got := b.users["bot"].Home; got != "/srv/bot" {
		t.Errorf("home after rollback = %s", got)
	}
	b.deploy(moved(), bundle.OutcomeDone)
	if got := b.users["bot"].Home; got != "/home/bot" {
		t.Errorf("home = %s", got)
	}
	other := newBox(t)
	other.users["bot"] = machine.Account{Name: "bot", Group: "bot", Home: "/elsewhere"}
	got := other.deploy(bot("one"), bundle.OutcomeRefused)
	if !strings.Contains(got.res.Error, "/elsewhere") {
		t.Errorf("error = %s", got.res.Error)
	}
}

func TestPruneGuard(t *testing.T) {
	b := newBox(t)
	l := bot("one").file("/etc/b/1", "1").file("/etc/b/2", "2")
	l.Files[len(l.Files)-1].Service, l.Files[len(l.Files)-2].Service = "b", "b"
	b.deploy(l, bundle.OutcomeDone)
	few := newLoad().file("/etc/other", "x")
	few.Files[0].Service = "other"
	b.deploy(few, bundle.OutcomeRefused)
	o := few.offer()
	o.AllowPrune = true
	b.deployOffer(o, few, bundle.OutcomeDone)
}

func TestGenerationsAreCapped(t *testing.T) {
	b := newBox(t)
	for i := range 9 {
		b.deploy(newLoad().file("/etc/x", fmt.Sprint(i)), bundle.OutcomeDone)
	}
	gens, _ := os.ReadDir(b.path("/var/lib/bellhop/generations"))
	if len(gens) != 5 {
		t.Errorf("%d generations kept beside the one that stands, want 5", len(gens))
	}
	blobs, _ := os.ReadDir(b.path("/var/lib/bellhop/blobs"))
	if len(blobs) != 7 { // six versions, and the settle unit
		t.Errorf("%d blobs, want 7", len(blobs))
	}
}

func TestManyFilesAreSyncedAtOnce(t *testing.T) {
	b := newBox(t)
	l := newLoad()
	for i := range 100 {
		l.file(fmt.Sprintf("/etc/many/%d", i), fmt.Sprint(i))
	}
	got := b.deploy(l, bundle.OutcomeDone)
	if got.res.Fsyncs > 12 {
		t.Errorf("100 files cost %d fsyncs", got.res.Fsyncs)
	}
}

// A user's home can't change while he has processes, so what runs as him stops first: on the
// way there, and on the way back when the run fails with the new version at work.
func TestUserChangesUnderARunningUnit(t *testing.T) {
	for _, service := range []string{"bot", "other"} { // also a unit of another service that names him
		t.Run(service, func(t *testing.T) {
			b := newBox(t)
			b.runsAs = map[string]string{"bot": "guest.service"}
			with := func(home string) *load {
				l := bot("one").service("guest.service", "[Service]\nUser = bot\n")
				l.Units[len(l.Units)-1].Service = service
				l.Users[0].Home = home
				return l
			}
			b.deploy(with("/srv/bot"), bundle.OutcomeDone)
			b.fail["new.service"] = true
			b.deploy(with("/home/bot").service("new.service", "[Service]"), bundle.OutcomeRolledBack)
			if got := b.users["bot"].Home; got != "/srv/bot" || !b.active["guest.service"] {
				t.Errorf("after rollback: home %s, guest runs %v", got, b.active["guest.service"])
			}
			b.deploy(with("/home/bot"), bundle.OutcomeDone)
			if got := b.users["bot"].Home; got != "/home/bot" || !b.active["guest.service"] {
				t.Errorf("home %s, guest runs %v", got, b.active["guest.service"])
			}
		})
	}
}

// A run that was cut off before it changed a user stops nothing for him when it is undone, though his shell is
// another than its journal has: one of a former release has none.
func TestUndoLeavesAShell(t *testing.T) {
	b := newBox(t)
	b.runsAs = map[string]string{"bot": "guest.service"}
	l := bot("one").service("guest.service", "[Service]\nUser = bot\n")
	b.deploy(l, bundle.OutcomeDone)
	l.Users[0].Home = "/home/bot"
	run := b.stageOnly(l)
	if _, died := b.dieWhen("begin", func() { host.Apply(t.Context(), b.m, run) }); !died {
		t.Fatal("the run did not begin")
	}

	user := b.users["bot"]
	user.Shell = "/usr/sbin/nologin"
	b.users["bot"] = user
	b.jobs = nil
	if err := host.Settle(t.Context(), b.m); err != nil {
		t.Fatal(err)
	}
	if len(b.jobs) > 0 || b.users["bot"] != user {
		t.Errorf("jobs %q, user %+v; want none, and %+v", b.jobs, b.users["bot"], user)
	}
}

// A user as whom something runs that bellhop does not stop keeps his home: nothing is touched, and
// the refusal says what runs.
func TestTwinUserOfAStrangersProcess(t *testing.T) {
	m := lab.NewMachine(t.TempDir())
	at := func(home, text string) *load {
		l := newLoad().service("bot.service", "[Service]\nUser=bot\nExecStart=/bin/bot\n[Install]\nWantedBy=multi-user.target\n").file("/etc/bot.conf", text)
		l.file("/etc/sysusers.d/bellhop-bot.conf", "g bot -\nu bot -:bot \"bot\" "+home+" /usr/sbin/nologin\n")
		l.Users = append(l.Users, bundle.User{Name: "bot", Group: "bot", Home: home, Service: "bot"})
		return l
	}
	l := at("/srv/one", "one")
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	m.Run("bot", machine.Process{PID: 4711, Name: "bash", Unit: "session-3.scope"})
	m.ClearLog()
	l = at("/srv/two", "two")
	got := twinDeploy(t, m, l.offer(), l, bundle.OutcomeRefused)
	if want := "while this runs as it: bash (process 4711 of session-3.scope); end that"; !strings.Contains(got.res.Error, want) {
		t.Errorf("refused by %q, want %q in it", got.res.Error, want)
	}
	if len(m.Log()) != 0 || !m.Active("bot.service") {
		t.Errorf("units were touched: %v", m.Log())
	}
	l = at("/srv/one", "two") // nothing about the user changes
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	m.End("bot")
	l = at("/srv/two", "two") // its own service is stopped for it
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	if a, _, err := m.Host().Accounts.User("bot"); err != nil || a.Home != "/srv/two" || !m.Active("bot.service") {
		t.Errorf("home is %s (%v), the service runs: %v; want /srv/two, and that it does", a.Home, err, m.Active("bot.service"))
	}
}

// Where the host can't keep what comes, it says why, though whoever sends is still sending.
func TestNoRoomForWhatComes(t *testing.T) {
	b := newBox(t)
	b.deploy(bot("one"), bundle.OutcomeDone)
	before := b.all()
	l := bot("two").file("/etc/bot/big", strings.Repeat("x", 3<<20)).file("/etc/bot/big2", strings.Repeat("y", 3<<20))
	l.keys["token"] = "another"
	l.meanwhile = func() {
		stages, _ := filepath.Glob(b.path("/var/lib/bellhop/staging/*"))
		for _, dir := range stages {
			os.RemoveAll(dir)
		}
	}
	got := b.deploy(l, bundle.OutcomeFailed)
	if !strings.Contains(got.res.Error, "keep what was sent") {
		t.Errorf("error = %q, want why", got.res.Error)
	}
	b.compare(before, "after what came could not be kept")
	l.meanwhile = nil
	b.deploy(l, bundle.OutcomeDone)
}

// A host that is given back keeps what people wrote into bellhop's files, and says where.
func TestEditsOutliveBellhop(t *testing.T) {
	b := newBox(t)
	b.deploy(bot("one"), bundle.OutcomeDone)
	b.write("/etc/bot/conf", "by hand")
	res := b.ask(bundle.Ask{Verb: bundle.AskUndo})
	if len(res.Edits) != 1 || b.read(res.Edits[0]) != "by hand" {
		t.Errorf("restored %q, edits %q; want one that can be read", res.Restored, res.Edits)
	}
	if left, _ := os.ReadDir(b.path(bundle.StateDir + "/blobs")); len(left) != 1 {
		t.Errorf("%d blobs stay, want one", len(left))
	}
}
