package push

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"bellhop/internal/bundle"
)

func TestClock(t *testing.T) {
	steps := &bundle.Manifest{Services: []bundle.Service{
		{Name: "a", Before: []bundle.Step{{Command: "x", Timeout: 60_000}, {Command: "y", Timeout: 120_000}}}, {Name: "b", Before: []bundle.Step{{Command: "z"}}},
	}}
	type at struct {
		after time.Duration // since the moment before
		step  string        // that the host says
	}
	for _, tt := range []struct {
		name     string
		manifest *bundle.Manifest
		say      []at
		ends     time.Duration // the deadline, since the push began
		took     time.Duration // of patience, at that moment
	}{
		{"a host that says nothing", steps, nil, time.Minute, time.Minute},
		{"usual steps", steps, []at{{time.Second, "preflight"}, {time.Second, "begin"}, {time.Second, "files"}}, time.Minute, time.Minute},
		{"steps before services do not count", steps, []at{{10 * time.Second, "before"}, {5 * time.Minute, "begin"}}, 6 * time.Minute, time.Minute},
		{"nor do those of two", steps, []at{{0, "before"}, {time.Minute, "before"}, {5 * time.Minute, "begin"}}, 7 * time.Minute, time.Minute},
		{"as long as they may take, and no longer", steps, []at{{0, "before"}}, 12 * time.Minute, time.Minute},
		{"also when it is said again and again", steps, []at{{0, "before"}, {10 * time.Minute, "before"}, {90 * time.Second, "before"}}, 12 * time.Minute, time.Minute},
		{"a bundle without steps has none", &bundle.Manifest{}, []at{{0, "before"}}, time.Minute, time.Minute},
		{"units may take their time to start", steps, []at{{time.Second, "start"}, {15 * time.Minute, "health"}, {time.Minute, "applied"}}, 17 * time.Minute, 17 * time.Minute},
		{"but not for ever", steps, []at{{0, "start"}, {10 * time.Minute, "health"}}, bundle.MaxStart + 2*time.Minute, bundle.MaxStart + 2*time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				ctx, cancel, c := NewClock(t.Context(), time.Minute, tt.manifest)
				defer cancel()
				for _, s := range tt.say {
					time.Sleep(s.after)
					c.step(s.step)
				}
				<-ctx.Done()
				if got := time.Since(began); got != tt.ends || !errors.Is(context.Cause(ctx), ErrDeadline) {
					t.Errorf("it ended after %v (%v), want the deadline after %v", got, context.Cause(ctx), tt.ends)
				}
				if got := c.Took(); got != tt.took {
					t.Errorf("it took %v, want %v", got, tt.took)
				}
			})
		})
	}
}

// A clock that does not know the manifest asks for it when the host is at steps, and counts them from
// their begin on.
func TestClockLearnsOfSteps(t *testing.T) {
	steps := &bundle.Manifest{Services: []bundle.Service{{Name: "a", Before: []bundle.Step{{Command: "x", Timeout: 120_000}}}}}
	for name, c := range map[string]struct {
		manifest *bundle.Manifest
		step     string
		ends     time.Duration
	}{
		"steps":         {steps, "before", 10*time.Second + 3*time.Minute + 50*time.Second},
		"no steps":      {&bundle.Manifest{}, "before", time.Minute},
		"nobody knows":  {nil, "before", time.Minute},
		"not asked for": {steps, "files", time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				ctx, cancel, clock := NewClock(t.Context(), time.Minute, &bundle.Manifest{})
				defer cancel()
				clock.Learn(func() *bundle.Manifest { time.Sleep(5 * time.Second); return c.manifest })
				time.Sleep(10 * time.Second)
				clock.step(c.step)
				<-ctx.Done()
				if got := time.Since(began); got != c.ends {
					t.Errorf("it ended after %v, want %v", got, c.ends)
				}
			})
		})
	}
}
