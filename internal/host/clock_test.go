package host_test

import (
	"slices"
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
