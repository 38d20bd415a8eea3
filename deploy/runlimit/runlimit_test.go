package runlimit_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"bellhop/deploy/plan"
	"bellhop/deploy/runlimit"
	"bellhop/internal/bundle"
	"bellhop/internal/fleet"
)

// What steps before services may take is added to the limit of a run: once for each round of each wave.
func TestRunHasTimeForSteps(t *testing.T) {
	host := func(minutes int64) *plan.HostPlan {
		b := &fleet.Bundle{}
		b.Services = []bundle.Service{{Name: "db", Before: []bundle.Step{{Command: "dump", Timeout: minutes * 60_000}}}}
		return &plan.HostPlan{Bundle: b}
	}
	none := &plan.HostPlan{Bundle: &fleet.Bundle{}}
	waves := [][]*plan.HostPlan{{host(60)}, {none, host(10), none}, {none}}
	if got := runlimit.StepsTime(waves, 2); got != 80*time.Minute {
		t.Errorf("steps of all waves may take %v, want 80 min: 60, and two rounds of 10", got)
	}
	if got := runlimit.StepsTime([][]*plan.HostPlan{{none}}, 10); got != 0 {
		t.Errorf("no steps may take %v", got)
	}
}

func TestRunEndsAtItsLimit(t *testing.T) {
	stopped := errors.New("the server ends")
	for name, c := range map[string]struct {
		more    time.Duration
		stopIn  time.Duration // the server ends; 0: it does not
		ends    time.Duration
		isLimit bool
	}{
		"no steps":                      {ends: 30 * time.Minute, isLimit: true},
		"an hour of steps":              {more: time.Hour, ends: 90 * time.Minute, isLimit: true},
		"the server ends":               {more: time.Hour, stopIn: time.Minute, ends: time.Minute},
		"the server ends in extra time": {more: time.Hour, stopIn: 40 * time.Minute, ends: 40 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				parent, stop := context.WithCancelCause(t.Context())
				defer stop(nil)
				if c.stopIn > 0 {
					defer time.AfterFunc(c.stopIn, func() { stop(stopped) }).Stop()
				}
				began := time.Now()
				ctx, cancel := context.WithTimeoutCause(parent, 30*time.Minute, &runlimit.TooLong{Run: "r-1", Limit: 30 * time.Minute})
				defer cancel()
				longer, done := runlimit.WithStepsTime(ctx, parent, c.more)
				defer done()

				<-longer.Done()
				var late *runlimit.TooLong
				if got := time.Since(began); got != c.ends || errors.As(context.Cause(longer), &late) != c.isLimit {
					t.Errorf("it ended after %v (%v), want %v", got, context.Cause(longer), c.ends)
				}
			})
		})
	}
}
