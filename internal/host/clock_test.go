package host_test

import (
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"bellhop/internal/bundle"
)

// A host whose clock is an hour off, or is set while a run is at work, as NTP does after a boot: runs
// wait as long as they should, go back as they should, and the run that ended last is told as the last.
func TestClockAnHourOff(t *testing.T) {
	for name, clock := range map[string]struct{ before, after time.Duration }{
		"an hour behind":     {-time.Hour, -time.Hour},
		"an hour ahead":      {time.Hour, time.Hour},
		"set back meanwhile": {time.Hour, 0},
		"set on meanwhile":   {-time.Hour, 0},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			off := clock.before
			b.m.Clock = func() time.Time { return time.Now().Add(off) }
			b.deploy(bot("one"), bundle.OutcomeDone)
			old := b.all()

			l := bot("two")
			b.whileWaiting(func() { off = clock.after })
			began := time.Now()
			o := l.confirming(shortWindow)
			got := b.deployOffer(o, l, bundle.OutcomeUnconfirmed)
			if took := time.Since(began); took > time.Minute {
				t.Errorf("it took %v", took)
			}
			b.compare(old, "after nobody confirmed")
			if h, _ := b.askReply(bundle.Ask{Verb: bundle.AskManifest}); h.Last == nil || h.Last.Run != o.Run {
				t.Errorf("the run that ended last is told as %+v, want %s", h.Last, o.Run)
			}
			if !slices.Contains(got.events, "undo") {
				t.Errorf("events %q", got.events)
			}

			off = clock.before
			o = l.confirming(longWindow)
			b.whileWaiting(func() {
				off = clock.after
				if text := b.confirm(o.Run); text != "" {
					t.Errorf("confirm = %q", text)
				}
			})
			b.deployOffer(o, l, bundle.OutcomeDone)
		})
	}
}

// A clock that is set by an hour at any step of a run changes neither how long the run takes nor what becomes of it.
func TestClockThatIsSetInMidRun(t *testing.T) {
	for _, by := range []time.Duration{-time.Hour, time.Hour} {
		for _, at := range []string{"preflight", "begin", "files", "start", "health", "applied"} {
			t.Run(at+" "+by.String(), func(t *testing.T) {
				b := newBox(t)
				var off atomic.Int64 // a run and a session ask at the same time
				b.m.Clock = func() time.Time { return time.Now().Add(time.Duration(off.Load())) }
				first := b.deploy(bot("one"), bundle.OutcomeDone)

				reached := false
				b.m.Reached = func(step string) {
					if step == at {
						reached = true
						off.Store(int64(by))
					}
				}
				b.deploy(bot("two"), bundle.OutcomeDone)
				b.m.Reached = nil
				if !reached {
					t.Fatalf("no run comes to %s", at)
				}
				if b.read("/etc/bot/conf") != "two" {
					t.Errorf("the host holds %q", b.read("/etc/bot/conf"))
				}

				old := b.all()
				l := bot("three")
				got := b.deployOffer(l.confirming(shortWindow), l, bundle.OutcomeUnconfirmed)
				b.compare(old, "after a run that nobody confirmed, by another clock")
				if got.res.Record.Generation != first.res.Record.Generation+1 {
					t.Errorf("record %+v", got.res.Record)
				}
			})
		}
	}
}
