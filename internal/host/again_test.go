package host_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bellhop/internal/bundle"
	"bellhop/internal/bundle/wire"
	"bellhop/internal/host"
	"bellhop/internal/host/helper"
	"bellhop/internal/host/machine"
	"bellhop/internal/lab"
)

// What happens when something goes wrong twice: an undo that can't be ended, a line that is cut
// short, an edit between two looks.

func (l *load) on(base int64) bundle.Offer {
	o := l.offer()
	o.Base = base
	return o
}

// stuck leaves an undo that can't be ended: what stood in a place is away. It returns the run, and
// where it has to come back to.
func stuck(b *box) (run, blob string) {
	run = b.stageOnly(bot("two"))
	blob = b.path("/var/lib/bellhop/blobs/" + bundle.DigestBytes([]byte("one")))
	b.m.Reached = func(step string) {
		switch step {
		case "keys":
			b.fail["bot.service"] = true
			os.Rename(blob, blob+".away")
		case "undo paths":
			b.fail["bot.service"] = false
		}
	}
	if err := host.Apply(b.t.Context(), b.m, run); err == nil {
		b.t.Fatal("the undo ended")
	}
	b.m.Reached = nil
	return run, blob
}

func TestUndoThatCanNotEndLeavesUnitsInPeace(t *testing.T) {
	b := newBox(t)
	b.deploy(bot("one"), bundle.OutcomeDone)
	run, blob := stuck(b)
	b.jobs = nil
	for range 3 {
		if err := host.Apply(t.Context(), b.m, run); err == nil {
			t.Error("the undo ended without what it needs")
		}
	}
	if len(b.jobs) > 0 {
		t.Errorf("three tries that changed nothing took the units through %q", b.jobs)
	}
	got, err := b.talk(bot("three").on(1), bot("three"))
	if err != nil || got.res.Refused == bundle.RefusedBusy || !strings.Contains(got.res.Error, "is lost") {
		t.Errorf("a deployer hears %+v, %v; want why", got.res, err)
	}
	os.Rename(blob+".away", blob)
	if err := host.Apply(t.Context(), b.m, run); err != nil || b.read("/etc/bot/conf") != "one" {
		t.Errorf("at last: %v, and conf is %q", err, b.read("/etc/bot/conf"))
	}

	var res bundle.Result
	if err := json.Unmarshal([]byte(b.read(bundle.StateDir+"/runs/"+run+"/result")), &res); err != nil {
		t.Fatal(err)
	}
	if res.Outcome != bundle.OutcomeRolledBack || res.CutOff || !strings.Contains(res.Error, "bot.service") || strings.Contains(res.Error, "is lost") {
		t.Errorf("undone at last: %+v; want rolled back, with why the run failed and no more", res)
	}
}

func TestReserveIsReleased(t *testing.T) {
	b := newBox(t)
	b.deploy(bot("one"), bundle.OutcomeDone)
	if err := os.MkdirAll(b.path(bundle.StateDir+"/journal.new"), 0o700); err != nil { // the journal can't be opened
		t.Fatal(err)
	}
	got, err := b.talk(bot("two").on(1), bot("two"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(b.path(bundle.StateDir + "/runs/" + got.res.Run + "/reserve")); err == nil {
		t.Error("the room that was held stays")
	}
}

// A note that a full disk cut short takes none of the later ones along.
func TestTornNote(t *testing.T) {
	b := newBox(t)
	b.deploy(bot("one"), bundle.OutcomeDone)
	run := b.stageOnly(bot("two"))
	in := b.path(bundle.StateDir + "/runs/" + run + "/result.new")
	b.m.Reached = func(step string) {
		switch step {
		case "start":
			delete(b.active, "bot.service")
			b.fail["bot.service"], b.failed["bot.service"] = true, true
			os.MkdirAll(in, 0o700)
			f, err := os.OpenFile(b.path(bundle.StateDir+"/journal"), os.O_WRONLY|os.O_APPEND, 0)
			if err != nil {
				t.Error(err)
				return
			}
			f.WriteString(`{"step":"he`)
			f.Close()
		case "undo paths":
			b.fail["bot.service"] = false
		}
	}
	if err := host.Apply(t.Context(), b.m, run); err == nil {
		t.Fatal("a result that can't be written is no error")
	}
	b.m.Reached, b.jobs = nil, nil
	os.Remove(in)
	if err := host.Apply(t.Context(), b.m, run); err != nil {
		t.Fatal(err)
	}
	p, _ := os.ReadFile(b.path(bundle.StateDir + "/runs/" + run + "/result"))
	var res bundle.Result
	if err := json.Unmarshal(p, &res); err != nil || len(b.jobs) > 0 || res.CutOff {
		t.Errorf("jobs %q, cut off %v (%s), %v", b.jobs, res.CutOff, res.Error, err)
	}
}

func TestGroupOfASysusersFile(t *testing.T) {
	b := newBox(t)
	l := bot("one").file("/etc/sysusers.d/media.conf", "u media /srv\n")
	l.Groups = []string{"bot", "media"}
	b.deploy(l, bundle.OutcomeDone)
}

// A person enabled and started a foreign unit while the fleet only had a drop-in for it. That is
// how it was before the fleet named it.
func TestForeignUnitThatAPersonStarted(t *testing.T) {
	b := newBox(t)
	b.write(bundle.UnitDir+"/ssh.service", "theirs")
	b.look()
	drop := func(named bool) *load {
		p := bundle.UnitDir + "/ssh.service.d/bellhop.conf"
		l := newLoad().file(p, "[Service]")
		l.Units = append(l.Units, bundle.Unit{Name: "ssh.service", Foreign: true, Enable: named, Start: named, OnChange: bundle.Restart, Files: []string{p}})
		return l
	}
	b.deploy(drop(false), bundle.OutcomeDone)
	b.active["ssh.service"], b.enabled["ssh.service"] = true, true
	b.deploy(drop(true), bundle.OutcomeDone)
	b.deploy(drop(false), bundle.OutcomeDone)
	if !b.active["ssh.service"] || !b.enabled["ssh.service"] {
		t.Errorf("active %v, enabled %v", b.active["ssh.service"], b.enabled["ssh.service"])
	}
}

// What is edited between two looks is kept, and told, as what was edited before.
func TestEditsMeanwhile(t *testing.T) {
	for _, before := range []string{"one", "edited"} {
		b := newBox(t)
		b.deploy(bot("one"), bundle.OutcomeDone)
		b.write("/etc/bot/conf", before)
		b.m.Reached = func(step string) {
			if step == "begin" {
				b.write("/etc/bot/conf", "edited more")
			}
		}
		got := b.deploy(bot("two"), bundle.OutcomeDone)
		if len(got.res.Restored) != 1 || len(got.res.Edits) != 1 || b.read(got.res.Edits[0]) != "edited more" {
			t.Errorf("restored %q, edits %q", got.res.Restored, got.res.Edits)
		}
	}
}

// What an earlier push put back, and said is kept, outlives bellhop too.
func TestEditsOfEarlierRunsOutliveBellhop(t *testing.T) {
	b := newBox(t)
	b.deploy(bot("one"), bundle.OutcomeDone)
	b.write("/etc/bot/conf", "edited")
	kept := b.deploy(bot("one"), bundle.OutcomeDone).res.Edits[0]
	b.ask(bundle.Ask{Verb: bundle.AskUndo})
	if b.read(kept) != "edited" {
		t.Errorf("the edit is gone: %s", b.read(kept))
	}
}

// A session that was void does not even say that nothing was to be done.
func TestVoidAndNothingToDo(t *testing.T) {
	m := lab.NewMachine(t.TempDir())
	one := page("one")
	twinDeploy(t, m, one.offer(), one, bundle.OutcomeDone)
	o := page("one").on(1)
	o.Digest = strings.Repeat("ab", 32)
	inR, inW := io.Pipe()
	var said bytes.Buffer
	ended := make(chan error)
	go func() { ended <- helper.Serve(context.Background(), m.Host(), inR, &said) }()
	wire.WriteFrame(inW, bundle.FrameOffer, o)
	time.Sleep(100 * time.Millisecond) // it staged, and waits for the end
	void(t, m.Host(), o.Run)
	wire.WriteFrame(inW, bundle.FrameEnd, struct{}{})
	inW.Close()
	<-ended
	if p, _ := os.ReadFile(m.Path(bundle.RecordPath)); bytes.Contains(p, []byte(o.Digest)) {
		t.Error("the digest of a void session stands in the record")
	}
}

// What can't be read is named with the way out, and left as it is; once it is away, the host is
// put in order.
func TestDamagedStateIsNamed(t *testing.T) {
	for _, file := range []string{bundle.RecordPath, bundle.StateDir + "/journal"} {
		b := newBox(t)
		b.deploy(bot("one"), bundle.OutcomeDone)
		b.write(file, "{torn")
		o := bot("two").on(1)
		got, err := talk(b.m, o, bot("two"))
		said := fmt.Sprint(err)
		if got.res != nil {
			said = got.res.Error
		}
		if !strings.Contains(said, file+" is damaged (") || !strings.Contains(said, "move it away on the host") || b.read(file) != "{torn" {
			t.Errorf("with a torn %s: %s; want the way out, and the file left", file, said)
		}
		if b.read("/etc/bot/conf") != "one" {
			t.Errorf("with a torn %s something was touched", file)
		}
		if err := os.Remove(b.path(file)); err != nil {
			t.Fatal(err)
		}
		o = bot("two").offer()
		last := bot("one").offer().Manifest
		o.Last = &last
		if got, err = talk(b.m, o, bot("two")); err != nil || got.res.Outcome != bundle.OutcomeDone || b.read("/etc/bot/conf") != "two" {
			t.Errorf("once %s is away: %+v, %v", file, got.res, err)
		}
	}
}

// A machine that has no clock of its own boots with an older time than it had. The run that ended
// last is told all the same, and not swept as the oldest.
func TestLastResultAfterTheClockWentBack(t *testing.T) {
	b := newBox(t)
	later := time.Now().Add(time.Hour)
	for i := range 25 {
		got := b.deploy(bot(fmt.Sprint("before ", i)), bundle.OutcomeDone)
		if err := os.Chtimes(b.path("/var/lib/bellhop/runs/"+got.res.Run+"/result"), later, later); err != nil {
			t.Fatal(err)
		}
	}
	var last string
	for i := range 3 {
		got := b.deploy(bot(fmt.Sprint("after ", i)), bundle.OutcomeDone)
		if i > 0 && (got.hello.Last == nil || got.hello.Last.Run != last) {
			t.Errorf("hello tells of %+v as the last run, want %s", got.hello.Last, last)
		}
		last = got.res.Run
	}
}

// lateSystemd has not collected the unit of the run before when it is first asked to start one, while
// another session looks, under the lock, whether there is anything to settle.
type lateSystemd struct {
	*box
	asked int
}

func (s *lateSystemd) StartApply(ctx context.Context, run string) error {
	if s.asked++; s.asked > 1 {
		return s.box.StartApply(ctx, run)
	}
	f, err := os.OpenFile(s.path("/var/lib/bellhop/lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return err
	}
	time.AfterFunc(time.Millisecond, func() { f.Close() })
	return machine.ErrBusy
}

func TestUnitOfTheRunBeforeIsCollectedLate(t *testing.T) {
	b := newBox(t)
	b.m.Systemd = &lateSystemd{box: b}
	b.deploy(bot("one"), bundle.OutcomeDone)
}
