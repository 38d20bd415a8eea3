package health_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/host/health"
	"bellhop/internal/host/machine"
)

// While one unit takes minutes to start, others are judged by what they do: those that die end the wait
// once all had their settle time.
func TestDuringStart(t *testing.T) {
	isJob := func(s *machine.UnitState) { s.Job = true }
	former := with(failed, func(s *machine.UnitState) { s.Invocation = "former" })
	slow := []moment{{0, starting}}

	for name, c := range map[string]struct {
		units map[string][]moment
		dead  []string // none: the jobs end first
		at    time.Duration
	}{
		"one dies":                        {map[string][]moment{"slow": slow, "a": {{0, up(0)}, {2 * time.Second, failed}}}, []string{"a"}, 7 * time.Second},
		"two die":                         {map[string][]moment{"slow": slow, "a": {{0, up(0)}, {2 * time.Second, failed}}, "b": {{0, up(0)}, {5 * time.Second, gone}}}, []string{"a", "b"}, 7 * time.Second},
		"a crash loop":                    {map[string][]moment{"slow": slow, "a": {{0, up(0)}, {time.Second, again}, {2 * time.Second, up(1)}}}, []string{"a"}, 6 * time.Second},
		"all is well":                     {map[string][]moment{"slow": slow, "a": {{0, up(0)}}}, nil, 0},
		"it has its job still":            {map[string][]moment{"slow": slow, "a": {{0, with(failed, isJob)}, {time.Minute, up(0)}}}, nil, 0},
		"it is dead since before the run": {map[string][]moment{"slow": slow, "a": {{0, former}, {time.Minute, up(0)}}}, nil, 0},
		"it waits for another":            {map[string][]moment{"slow": slow, "a": {{0, with(gone, func(s *machine.UnitState) { s.Invocation, s.Job = "", true })}}}, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStage(c.units)
				w := &health.Watch{Systemd: s, Settle: bundle.DefaultSettle, Limit: time.Hour}
				before := map[string]string{}
				for n := range c.units {
					w.Units = append(w.Units, health.Unit{Name: n, Service: n, Fresh: true})
					before[n] = "former"
				}
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
				defer cancel()

				began := time.Now()
				report := w.DuringStart(ctx, before)
				if len(c.dead) == 0 {
					if report != nil || time.Since(began) < 10*time.Minute {
						t.Errorf("%+v after %v, want nothing", report, time.Since(began))
					}
					return
				}
				if report == nil {
					t.Fatal("nobody is dead")
				}

				dead := report.Failing()
				slices.Sort(dead)
				took := time.Since(began)
				if !slices.Equal(dead, c.dead) || took < c.at || took > c.at+time.Second {
					t.Errorf("%q are dead after %v, want %q after %v", dead, took, c.dead, c.at)
				}
			})
		})
	}
}
