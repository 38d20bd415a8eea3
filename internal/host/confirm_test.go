package host_test

import (
	"context"
	"fmt"
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
)

// Windows of a run, milliseconds: one that no test outlives, and one that ends at once.
const (
	longWindow  = int64(time.Hour / time.Millisecond)
	shortWindow = 1
)

// confirming is an offer of l with a window.
func (l *load) confirming(window int64) bundle.Offer {
	o := l.offer()
	o.Confirm = window
	return o
}

// askReply runs one session that asks, and returns what the host says of itself and its reply.
func (b *box) askReply(a bundle.Ask) (h bundle.Hello, reply bundle.Reply) {
	b.t.Helper()
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	served := make(chan struct{})
	go func() {
		defer close(served)
		err := helper.Serve(context.Background(), b.m, inR, outW)
		outW.CloseWithError(fmt.Errorf("serve ended: %v", err))
	}()
	r := wire.NewReader(outR)
	if _, err := r.SkipNoise(); err != nil {
		b.t.Error(err)
		return h, reply
	}
	err := r.Expect(bundle.FrameHello, &h)
	if err == nil {
		err = wire.WriteFrame(inW, bundle.FrameAsk, a)
	}
	if err == nil {
		err = r.Expect(bundle.FrameReply, &reply)
	}
	if err != nil {
		b.t.Error(err)
	}
	<-served
	return h, reply
}

// confirm confirms run, as a deployer does over a connection of its own.
func (b *box) confirm(run string) string {
	b.t.Helper()
	_, reply := b.askReply(bundle.Ask{Verb: bundle.AskConfirm, Run: run})
	return reply.Error
}

// whileWaiting does something as soon as a run waits to be confirmed.
func (b *box) whileWaiting(do func()) {
	b.m.Reached = func(step string) {
		if step == "waiting" {
			do()
		}
	}
	b.t.Cleanup(func() { b.m.Reached = nil })
}

func TestConfirmedRunIsDone(t *testing.T) {
	b := newBox(t)
	b.deploy(bot("one"), bundle.OutcomeDone)
	l := bot("two")
	o := l.confirming(longWindow)
	b.whileWaiting(func() {
		h, reply := b.askReply(bundle.Ask{Verb: bundle.AskManifest})
		if h.Open != o.Run || !h.Waits || h.Record.Generation != 1 {
			t.Errorf("while it waits: open %q, waits %v, generation %d; want %s, true, 1", h.Open, h.Waits, h.Record.Generation, o.Run)
		}
		if reply.Manifest.Digest() == o.Digest {
			t.Error("the manifest that stands is the new one already")
		}
		if b.read("/etc/bot/conf") != "two" {
			t.Error("it waits before it is applied")
		}
		if text := b.confirm(o.Run); text != "" {
			t.Errorf("confirm = %q", text)
		}
	})
	got := b.deployOffer(o, l, bundle.OutcomeDone)
	if want := []string{"applied", "confirm", "done"}; !slices.Equal(got.events[len(got.events)-3:], want) {
		t.Errorf("events end with %q, want %q", got.events, want)
	}
	if got.res.Record.Generation != 2 || got.res.Record.Digest != o.Digest {
		t.Errorf("record %+v, want generation 2 of %s", got.res.Record, o.Digest)
	}

	h, reply := b.askReply(bundle.Ask{Verb: bundle.AskConfirm, Run: o.Run})
	if reply.Error != "" || h.Open != "" || h.Waits || h.Record.Generation != 2 {
		t.Errorf("confirmed again: %q, open %q, generation %d", reply.Error, h.Open, h.Record.Generation)
	}
	if _, err := os.Stat(b.path("/var/lib/bellhop/record.next")); err == nil {
		t.Error("record.next stays")
	}
	b.deploy(bot("one"), bundle.OutcomeDone) // and the generation before is known
}

func TestUnconfirmedRunGoesBack(t *testing.T) {
	b := newBox(t)
	b.deploy(bot("one"), bundle.OutcomeDone)
	old := b.all()
	l := bot("two").service("new.service", "[Service]\n[Install]\n")
	l.keys["token"] = "rotated"
	o := l.confirming(shortWindow)
	got := b.deployOffer(o, l, bundle.OutcomeUnconfirmed)
	b.compare(old, "after nobody confirmed")
	if !strings.Contains(got.res.Error, "nobody confirmed within 1ms") || got.res.CutOff || got.res.Record.Generation != 1 {
		t.Errorf("error %q, cut off %v, record %+v", got.res.Error, got.res.CutOff, got.res.Record)
	}
	if text := b.confirm(o.Run); !strings.Contains(text, "can't be confirmed any more") || !strings.Contains(text, "unconfirmed") {
		t.Errorf("a late confirm = %q, want an error that says what came of the run", text)
	}
	b.compare(old, "after a late confirm")
	if _, err := os.Stat(b.path("/var/lib/bellhop/record.next")); err == nil {
		t.Error("record.next stays")
	}
	b.deploy(l, bundle.OutcomeDone)
}

func TestConfirmOfOtherRuns(t *testing.T) {
	b := newBox(t)
	b.deploy(bot("one"), bundle.OutcomeDone)
	for run, want := range map[string]string{"no-such-run": "knows no run no-such-run", "../x": "run id", "": "run id"} {
		if text := b.confirm(run); !strings.Contains(text, want) {
			t.Errorf("confirm of %q = %q, want %q", run, text, want)
		}
	}
	l := bot("two")
	o := l.confirming(longWindow)
	b.m.Reached = func(step string) {
		switch step {
		case "health":
			if text := b.confirm(o.Run); !strings.Contains(text, "does not wait") {
				t.Errorf("confirm before it waits = %q", text)
			}
		case "waiting":
			if text := b.confirm("no-such-run"); text == "" {
				t.Error("another run was confirmed")
			}
			b.confirm(o.Run)
		}
	}
	b.deployOffer(o, l, bundle.OutcomeDone)
	b.m.Reached = nil
}

// What changes nothing waits for nobody, and neither does a push of keys alone.
func TestNothingWaitsForNoConfirm(t *testing.T) {
	b := newBox(t)
	l := bot("one")
	b.deploy(l, bundle.OutcomeDone)
	b.whileWaiting(func() { t.Error("it waits") })
	b.deployOffer(l.confirming(longWindow), l, bundle.OutcomeNothing)
	if err := os.Remove(b.path("/run/keys/token")); err != nil {
		t.Fatal(err)
	}
	o := l.confirming(longWindow)
	o.Mode = bundle.ModeKeys
	got := b.deployOffer(o, l, bundle.OutcomeNothing)
	if b.read("/run/keys/token") != "hunter2" || got.res.Record.Generation != 1 {
		t.Errorf("key %q, generation %d", b.read("/run/keys/token"), got.res.Record.Generation)
	}
}

// A run that nobody confirmed and that is killed on its way back is told as what it is.
func TestUnconfirmedThenKilled(t *testing.T) {
	b := newBox(t)
	b.deploy(bot("one"), bundle.OutcomeDone)
	old := b.all()
	l := bot("two")
	run := b.stageOffer(l.confirming(shortWindow), l)
	if _, died := b.dieWhen("undo paths", func() { host.Apply(context.Background(), b.m, run) }); !died {
		t.Fatal("it did not die")
	}
	b.comeBack(run, false)
	b.compare(old, "after the way back was killed")
	if res := b.result(run); res.Outcome != bundle.OutcomeUnconfirmed || res.CutOff {
		t.Errorf("outcome %s, cut off %v, want unconfirmed", res.Outcome, res.CutOff)
	}
}

// A confirmed run goes on though the process is killed, or the disk does not take what it writes.
func TestConfirmedRunNeverGoesBack(t *testing.T) {
	b := newBox(t)
	b.deploy(bot("one"), bundle.OutcomeDone)
	l := bot("two")
	run := b.stageOffer(l.confirming(longWindow), l)
	record := b.path(bundle.RecordPath)
	b.whileWaiting(func() {
		if text := b.confirm(run); text != "" {
			t.Errorf("confirm = %q", text)
		}
		// Nothing can be renamed to a folder that holds something.
		if err := os.Rename(record, record+".away"); err != nil {
			t.Error(err)
		}
		if err := os.MkdirAll(record+"/x", 0o700); err != nil {
			t.Error(err)
		}
	})
	if err := host.Apply(context.Background(), b.m, run); err == nil || !strings.Contains(err.Error(), "can't be ended yet") {
		t.Fatalf("Apply = %v, want that it can't be ended yet", err)
	}
	if b.read("/etc/bot/conf") != "two" {
		t.Error("it went back")
	}
	if err := os.RemoveAll(record); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(record+".away", record); err != nil {
		t.Fatal(err)
	}
	b.comeBack(run, false)
	if res := b.result(run); res.Outcome != bundle.OutcomeDone || res.Record.Generation != 2 || len(res.Changed) == 0 {
		t.Errorf("result %+v, want it done, and told whole", res)
	}
}

// A disk that lost the record which a confirmed run was to leave leaves nothing to end it with.
func TestConfirmedRunWithoutItsRecord(t *testing.T) {
	b := newBox(t)
	b.deploy(bot("one"), bundle.OutcomeDone)
	old := b.all()
	l := bot("two")
	run := b.stageOffer(l.confirming(longWindow), l)
	b.atStep = func(step string) {
		if step == "waiting" {
			b.confirm(run)
		}
	}
	if _, died := b.dieWhen("confirm", func() { host.Apply(context.Background(), b.m, run) }); !died {
		t.Fatal("it did not die")
	}
	b.write("/var/lib/bellhop/record.next", "torn")
	b.comeBack(run, false)
	b.compare(old, "after the record was lost")
	if res := b.result(run); res.Outcome != bundle.OutcomeRolledBack || !strings.Contains(res.Error, "is lost") {
		t.Errorf("outcome %s (%s), want it rolled back, and why", res.Outcome, res.Error)
	}
}

// A file that somebody edits while the run waits gives way to what was there before the run, and is
// kept: also by the runs after.
func TestEditWhileItWaits(t *testing.T) {
	b := newBox(t)
	b.deploy(bot("one"), bundle.OutcomeDone)
	old := b.all()
	l := bot("two").file("/etc/bot/new", "new")
	b.whileWaiting(func() {
		b.write("/etc/bot/conf", "by hand")
		b.write("/etc/bot/new", "by hand too")
	})
	got := b.deployOffer(l.confirming(shortWindow), l, bundle.OutcomeUnconfirmed)
	b.m.Reached = nil
	b.compare(old, "after nobody confirmed")
	wantList(t, "restored", got.res.Restored, "/etc/bot/conf", "/etc/bot/new")
	b.deploy(bot("three"), bundle.OutcomeDone)
	for i, want := range map[string]string{"/etc/bot/conf": "by hand", "/etc/bot/new": "by hand too"} {
		kept := got.res.Edits[slices.Index(got.res.Restored, i)]
		if b.read(kept) != want {
			t.Errorf("%s is kept at %q as %q, want %q", i, kept, b.read(kept), want)
		}
	}
}

// The wall clock is set while a run waits. The window goes by another clock.
func TestClockIsSetWhileItWaits(t *testing.T) {
	for _, by := range []time.Duration{time.Hour, -time.Hour} {
		b := newBox(t)
		b.deploy(bot("one"), bundle.OutcomeDone)
		l := bot("two")
		o := l.confirming(longWindow / 2)
		b.whileWaiting(func() {
			b.m.Clock = func() time.Time { return time.Now().Add(by) }
			if text := b.confirm(o.Run); text != "" {
				t.Errorf("clock %v off: confirm = %q", by, text)
			}
		})
		b.deployOffer(o, l, bundle.OutcomeDone)
	}
}
