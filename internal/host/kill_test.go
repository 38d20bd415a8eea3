package host_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"bellhop/internal/bundle"
	"bellhop/internal/host"
)

// killed is what a test panics with in place of kill -9.
type killed struct{ at string }

// dieAt makes the machine die at its nth step; it returns false when there was no nth.
func (b *box) dieAt(n int, f func()) (at string, died bool) {
	i := 0
	return b.dieIf(func(string) bool { i++; return i == n }, f)
}

// dieWhen makes the machine die at the step of that name.
func (b *box) dieWhen(step string, f func()) (at string, died bool) {
	return b.dieIf(func(s string) bool { return s == step }, f)
}

func (b *box) dieIf(dies func(step string) bool, f func()) (at string, died bool) {
	defer func() {
		b.m.Reached = b.atStep // of a process that is started again
		if p := recover(); p != nil {
			k, ok := p.(killed)
			if !ok {
				panic(p)
			}
			at, died = k.at, true
		}
	}()
	b.m.Reached = func(step string) {
		if dies(step) {
			panic(killed{step})
		}
		if b.atStep != nil {
			b.atStep(step)
		}
	}
	f()
	return "", false
}

// stageOnly brings l to the box without applying it, and returns the run.
func (b *box) stageOnly(l *load) string {
	b.t.Helper()
	return b.stageOffer(l.offer(), l)
}

func (b *box) stageOffer(o bundle.Offer, l *load) string {
	b.t.Helper()
	staged := make(chan string, 1)
	b.m.Systemd = stopper{b, staged}
	defer func() { b.m.Systemd = b }()
	go b.talk(o, l)
	return <-staged
}

// A stopper starts no apply: the session that asks for one is killed.
type stopper struct {
	*box
	staged chan string
}

func (s stopper) StartApply(ctx context.Context, run string) error {
	defer func() { s.staged <- run }()
	runtime.Goexit()
	return nil
}

// stories are pairs of bundles; the walk kills a run from the first to the second after
// every step.
var stories = map[string][2]func() *load{
	"first":   {nil, func() *load { return bot("one") }},
	"change":  {func() *load { return bot("one") }, func() *load { l := bot("two"); l.keys["token"] = "rotated"; return l }},
	"removal": {func() *load { return bot("one") }, func() *load { return newLoad().file("/etc/other/x", "y") }},
	"rename": {func() *load { return bot("one") }, func() *load {
		return newLoad().user("bot").service("robot.service", "[Service]\nExecStart=/bot\n[Install]\nWantedBy=multi-user.target\n").
			owned("/etc/robot/conf", "one", "bot").key("secret", "hunter3")
	}},
	"file to folder": {func() *load { return bot("one").file("/etc/x/d", "file") },
		func() *load {
			return bot("one").file("/etc/x/d/a", "in it").file("/etc/x/d/deep/b", "in it")
		}},
	"folder to file": {func() *load {
		return bot("one").file("/etc/x/d/a", "in it").file("/etc/x/d/deep/b", "in it")
	}, func() *load { return bot("one").file("/etc/x/d", "file") }},
	"link to folder": {func() *load { return bot("one").link("/etc/x/d", "/etc/y").file("/etc/y/other", "other") },
		func() *load { return bot("one").file("/etc/x/d/a", "in it").file("/etc/y/other", "other") }},
	"drop-in and package": {func() *load { return packed("one") },
		func() *load {
			l, p := packed("two"), bundle.UnitDir+"/theirs.service.d/bellhop.conf"
			l.file(p, "[Service]")
			l.Units = append(l.Units, bundle.Unit{Name: "theirs.service", Foreign: true, OnChange: bundle.Restart, Files: []string{p}})
			return l
		}},
}

// packed is the bot with a package of one program.
func packed(text string) *load {
	l := bot(text).pack("bot", []byte("program "+text), "file")
	l.Packages[0].File = "bot"
	return l
}

// newKillBox is a machine with a file and a unit of its own.
func newKillBox(t *testing.T) *box {
	b := newBox(t)
	b.write("/etc/bot/conf", "by hand")
	b.write(bundle.UnitDir+"/theirs.service", "theirs")
	b.look()
	b.active["theirs.service"], b.enabled["theirs.service"] = true, true
	return b
}

// Who deletes the journal under a run at work gets the old state back all the same.
func TestJournalVanishes(t *testing.T) {
	for _, at := range []string{"stop", "files", "reload", "start"} {
		b := newBox(t)
		b.deploy(bot("one"), bundle.OutcomeDone)
		old := b.all()
		l := bot("two").service("new.service", "[Service]\n[Install]\n")
		b.m.Reached = func(step string) {
			if step == at {
				os.Remove(b.path("/var/lib/bellhop/journal"))
			}
		}
		got := b.deploy(l, bundle.OutcomeRolledBack)
		b.m.Reached = nil
		if !strings.Contains(got.res.Error, "journal") {
			t.Errorf("gone after %s: error %q does not name the journal", at, got.res.Error)
		}
		b.compare(old, "gone after "+at)
		b.deploy(l, bundle.OutcomeDone)
	}
}

// A window says how long a run of a walk waits to be confirmed, and whether it is.
type window struct {
	name   string
	millis int64
	yes    bool
}

func TestKillAfterEveryStep(t *testing.T) {
	windows := []window{{name: "no window"}, {"confirmed", longWindow, true}, {"unconfirmed", shortWindow, false}}
	for name, s := range stories {
		for _, w := range windows {
			if w.millis > 0 && !slices.Contains([]string{"first", "change", "rename"}, name) {
				continue // the other stories are about paths, and end the same way
			}
			for _, how := range []string{"kill", "boot"} {
				t.Run(name+"/"+w.name+"/"+how, func(t *testing.T) { walk(t, s[0], s[1], w, how == "boot") })
			}
		}
	}
}

func walk(t *testing.T, from, to func() *load, w window, boot bool) {
	fresh := newKillBox(t)
	if from != nil {
		fresh.deploy(from(), bundle.OutcomeDone)
	}
	fresh.deploy(to(), bundle.OutcomeDone)
	new := fresh.all()
	for n := 1; ; n++ {
		b := newKillBox(t)
		if from != nil {
			b.deploy(from(), bundle.OutcomeDone)
		}
		old := b.all()
		l := to()
		run := b.stageOffer(l.confirming(w.millis), l)
		b.atStep = func(step string) {
			if step == "waiting" && w.yes {
				b.confirm(run)
			}
		}
		at, died := b.dieAt(n, func() { host.Apply(context.Background(), b.m, run) })
		if !died {
			if n < 10 {
				t.Fatalf("only %d steps to die at", n)
			}
			b.checkEnd(run, w)
			return
		}
		var again string
		if n%2 == 0 { // the way back may be killed too
			again, _ = b.dieAt(2, func() { b.comeBack(run, boot) })
		}
		b.comeBack(run, boot)
		b.checkWhole(fmt.Sprintf("killed after %s (and %q)", at, again), run, old, new, to, boot)
		if t.Failed() {
			return
		}
	}
}

// checkEnd says what a run came to that was not killed.
func (b *box) checkEnd(run string, w window) {
	b.t.Helper()
	want := bundle.OutcomeDone
	if w.millis > 0 && !w.yes {
		want = bundle.OutcomeUnconfirmed
	}
	if res := b.result(run); res.Outcome != want {
		b.t.Errorf("nobody killed it: result %s (%s), want %s", res.Outcome, res.Error, want)
	}
}

// comeBack is what follows: systemd starts the unit again, or settle at the next boot.
func (b *box) comeBack(run string, boot bool) {
	b.t.Helper()
	if !boot {
		if err := host.Apply(context.Background(), b.m, run); err != nil {
			b.t.Fatalf("apply again: %v", err)
		}
		return
	}
	b.reboot()
	if err := host.Settle(context.Background(), b.m); err != nil {
		b.t.Fatalf("settle: %v", err)
	}
	b.bootUp()
}

// checkWhole says that all stands as before, or all as after, and that record and result agree.
func (b *box) checkWhole(when, run string, old, new map[string]string, to func() *load, boot bool) {
	b.t.Helper()
	if _, err := os.Stat(b.path("/var/lib/bellhop/journal")); err == nil {
		b.t.Errorf("%s: the journal is still open", when)
	}
	var rec bundle.Record
	p, _ := os.ReadFile(b.path(bundle.RecordPath))
	json.Unmarshal(p, &rec)
	is := b.all()
	want, which := old, "old"
	if done := rec.Digest == to().digest(); done {
		want, which = new, "new"
	}
	if _, err := os.Stat(b.path("/var/lib/bellhop/runs/" + run + "/confirmed")); err == nil && which != "new" {
		b.t.Errorf("%s: the run was confirmed, and what stands is %s", when, which)
	}
	ignore := func(m map[string]string) map[string]string {
		out := map[string]string{}
		for k, v := range m {
			// Keys are gone after a boot, and what waits for them with them.
			if boot && (strings.HasPrefix(k, "/run/") || strings.HasPrefix(k, "active ")) {
				continue
			}
			out[k] = v
		}
		return out
	}
	if d := diff(ignore(want), ignore(is)); len(d) > 0 {
		b.t.Errorf("%s: it should all be %s, but\n%s", when, which, strings.Join(d, "\n"))
	}
	if boot {
		for n := range b.enabled {
			if !b.active[n] {
				b.t.Errorf("%s: %s is enabled and did not start", when, n)
			}
		}
	}
	p, err := os.ReadFile(b.path("/var/lib/bellhop/runs/" + run + "/result"))
	if err != nil {
		// Killed before begin: nothing was touched, and systemd starts the unit again.
		if _, err := os.Stat(filepath.Join(b.dir, "/var/lib/bellhop/staging", run, "order")); err != nil {
			b.t.Errorf("%s: neither a result nor what to start again with", when)
		}
		return
	}
	var res bundle.Result
	json.Unmarshal(p, &res)
	told := map[string][]string{"old": {bundle.OutcomeRolledBack, bundle.OutcomeUnconfirmed}, "new": {bundle.OutcomeDone}}
	if !slices.Contains(told[which], res.Outcome) {
		b.t.Errorf("%s: result %s (%s), and what stands is %s", when, res.Outcome, res.Error, which)
	}
}

// result is what came of run.
func (b *box) result(run string) (res bundle.Result) {
	b.t.Helper()
	p, err := os.ReadFile(b.path("/var/lib/bellhop/runs/" + run + "/result"))
	if err == nil {
		err = json.Unmarshal(p, &res)
	}
	if err != nil {
		b.t.Fatal(err)
	}
	return res
}

// editJournal changes the first line of the open journal.
func (b *box) editJournal(edit func(j map[string]any)) {
	b.t.Helper()
	first, rest, _ := strings.Cut(b.read("/var/lib/bellhop/journal"), "\n")
	j := map[string]any{}
	if err := json.Unmarshal([]byte(first), &j); err != nil {
		b.t.Fatal(err)
	}
	edit(j)
	p, err := json.Marshal(j)
	if err == nil {
		err = os.WriteFile(b.path("/var/lib/bellhop/journal"), []byte(string(p)+"\n"+rest), 0o600)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// digest is what the deployer calls l.
func (l *load) digest() string {
	o := l.offer()
	return o.Digest
}

// A unit that is started again after it was killed settles, and does not try a second time.
func TestKilledUnitComesBackAndUndoes(t *testing.T) {
	b := newBox(t)
	b.deploy(bot("one"), bundle.OutcomeDone)
	old := b.all()
	run := b.stageOnly(bot("two"))
	if _, died := b.dieAt(8, func() { host.Apply(context.Background(), b.m, run) }); !died {
		t.Fatal("it did not die")
	}
	if err := host.Apply(context.Background(), b.m, run); err != nil {
		t.Fatal(err)
	}
	b.compare(old, "after the unit came back")
}

// What can't be undone whole stays open: no other run begins, and each contact tries again.
func TestUndoThatFailsIsTriedAgain(t *testing.T) {
	b := newBox(t)
	b.deploy(bot("one"), bundle.OutcomeDone)
	old := b.all()
	run := b.stageOnly(bot("two"))
	at, _ := b.dieAt(6, func() { host.Apply(context.Background(), b.m, run) })
	if b.read("/etc/bot/conf") != "two" {
		t.Fatalf("after %s conf is %q; the test must die later", at, b.read("/etc/bot/conf"))
	}
	blob := b.path("/var/lib/bellhop/blobs/" + bundle.DigestBytes([]byte("one")))
	if err := os.Rename(blob, blob+".away"); err != nil {
		t.Fatal(err)
	}
	got := b.deploy(bot("three"), bundle.OutcomeFailed)
	if !strings.Contains(got.res.Error, "/etc/bot/conf") || got.hello.Open != run {
		t.Errorf("error %q, open %q", got.res.Error, got.hello.Open)
	}
	if err := os.Rename(blob+".away", blob); err != nil {
		t.Fatal(err)
	}
	if err := host.Settle(context.Background(), b.m); err != nil {
		t.Fatal(err)
	}
	b.compare(old, "after the second try")
	b.deploy(bot("three"), bundle.OutcomeDone)
}
