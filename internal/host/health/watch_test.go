package health_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/host/health"
	"bellhop/internal/host/machine"
)

// A moment is what systemd says of a unit from a time after the watch began.
type moment struct {
	from time.Duration
	machine.UnitState
}

// A stage plays units by their moments. It counts how often they were read.
type stage struct {
	mu      sync.Mutex
	began   time.Time
	units   map[string][]moment
	states  int // units read whole
	glances int
}

func newStage(units map[string][]moment) *stage {
	return &stage{began: time.Now(), units: units}
}

func (s *stage) now(names []string) map[string]machine.UnitState {
	out := map[string]machine.UnitState{}
	for _, n := range names {
		for _, m := range s.units[n] {
			if time.Since(s.began) >= m.from {
				out[n] = m.UnitState
			}
		}
	}
	return out
}

func (s *stage) Units(_ context.Context, names []string) (map[string]machine.UnitState, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.states += len(names)
	return s.now(names), nil
}

func (s *stage) Glance(_ context.Context, names []string) (map[string]machine.UnitState, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.glances++
	out := s.now(names)
	for n, st := range out {
		out[n] = machine.UnitState{Active: st.Active, Sub: st.Sub, Job: st.Job}
	}
	return out, nil
}

// asks answers a probe by what it asks and when.
type asks func(p bundle.Probe, at time.Duration) string

type prober struct {
	began time.Time
	f     asks
	mu    sync.Mutex
	at    []time.Duration
}

func (p *prober) Ask(_ context.Context, one bundle.Probe) machine.Answer {
	at := time.Since(p.began)
	p.mu.Lock()
	p.at = append(p.at, at)
	p.mu.Unlock()
	return machine.Answer{Wrong: p.f(one, at), Status: 500, Body: "said"}
}

func up(restarts int) machine.UnitState {
	return machine.UnitState{Active: "active", Sub: "running", Result: "success", Invocation: fmt.Sprintf("inv%d", restarts), Restarts: restarts, MainPID: 7 + restarts}
}

var (
	starting = machine.UnitState{Active: "activating", Sub: "start", Result: "success", Job: true}
	failed   = machine.UnitState{Active: "failed", Sub: "failed", Result: "exit-code", Exit: machine.Exit{Status: 3}, Invocation: "inv0"}
	gone     = machine.UnitState{Active: "inactive", Sub: "dead", Result: "success", Invocation: "inv0"}
	again    = machine.UnitState{Active: "activating", Sub: "auto-restart", Result: "exit-code", Exit: machine.Exit{Status: 3}, Invocation: "inv0"}
)

func with(s machine.UnitState, f func(*machine.UnitState)) machine.UnitState { f(&s); return s }

// watch runs w in a bubble, and returns what it saw and how long it took.
func watch(t *testing.T, w *health.Watch, units map[string][]moment, f asks, then func(r *health.Report, took time.Duration, s *stage)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newStage(units)
		w.Systemd = s
		if f != nil {
			w.Prober = &prober{began: s.began, f: f}
		}
		if w.Limit == 0 {
			w.Limit = 20 * time.Minute
		}
		r, err := w.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		then(r, time.Since(s.began), s)
	})
}

func TestUnits(t *testing.T) {
	none := errors.New("job ended as \"dependency\"")
	for _, tt := range []struct {
		name    string
		settle  time.Duration
		unit    health.Unit
		moments []moment
		took    time.Duration
		wrong   string // "": it is well
	}{
		{name: "stays up", moments: []moment{{0, up(0)}}, took: 5 * time.Second},
		{name: "own settle time", settle: 12 * time.Second, moments: []moment{{0, up(0)}}, took: 12 * time.Second},
		{name: "settle is off", settle: -1, moments: []moment{{0, up(0)}}},
		{name: "dies after 0.2 s", moments: []moment{{0, up(0)}, {200 * time.Millisecond, failed}}, took: 200 * time.Millisecond, wrong: "unit a.service: it is failed (exit-code, status=3/NOTIMPLEMENTED)"},
		{name: "dies after 3 s", moments: []moment{{0, up(0)}, {3 * time.Second, failed}}, took: 3 * time.Second, wrong: "it is failed"},
		{name: "dies after it has settled", moments: []moment{{0, up(0)}, {5001 * time.Millisecond, failed}}, took: 5 * time.Second},
		{name: "ends by itself, well", moments: []moment{{0, up(0)}, {time.Second, gone}}, took: time.Second, wrong: "its program ended by itself"},
		{name: "waits to be restarted", moments: []moment{{0, up(0)}, {time.Second, again}}, took: time.Second, wrong: "it died, and waits to be restarted (exit-code, status=3/NOTIMPLEMENTED)"},
		{name: "restarted before the first look", unit: health.Unit{Fresh: true}, moments: []moment{{0, up(2)}}, wrong: "it dies and is restarted"},
		{name: "restarted at last, and seen dead before", moments: []moment{{0, up(0)}, {time.Second, with(failed, func(s *machine.UnitState) { s.Restarts = 1 })}}, took: time.Second, wrong: "it dies and is restarted (exit-code, status=3/NOTIMPLEMENTED)"},
		{name: "restarted between two glances", moments: []moment{{0, up(0)}, {time.Second, up(1)}}, took: 5 * time.Second, wrong: "it dies and is restarted"},
		{name: "restarted by hand", moments: []moment{{0, up(0)}, {4 * time.Second, starting}, {4200 * time.Millisecond, with(up(0), func(s *machine.UnitState) { s.Invocation = "other" })}}, took: 9200 * time.Millisecond},
		{name: "oneshot", moments: []moment{{0, with(gone, func(s *machine.UnitState) { s.Oneshot = true })}}},
		{name: "oneshot that failed", moments: []moment{{0, with(failed, func(s *machine.UnitState) { s.Oneshot = true })}}, wrong: "it is failed"},
		{name: "oneshot that remains", moments: []moment{{0, with(up(0), func(s *machine.UnitState) { s.Sub, s.MainPID = "exited", 0 })}}},
		{name: "a timer", moments: []moment{{0, with(up(0), func(s *machine.UnitState) { s.Sub, s.MainPID = "waiting", 0 })}}},
		{name: "skipped by its condition", moments: []moment{{0, with(gone, func(s *machine.UnitState) { s.Skipped = true })}}},
		{name: "takes its time to be ready", moments: []moment{{0, starting}, {10 * time.Minute, up(0)}}, took: 10*time.Minute + 5*time.Second},
		{name: "never ready, and systemd says so", moments: []moment{{0, starting}, {90 * time.Second, with(failed, func(s *machine.UnitState) { s.Result = "timeout" })}}, took: 90 * time.Second, wrong: "timeout"},
		{name: "never ready, and systemd does not mind", moments: []moment{{0, starting}}, took: 20 * time.Minute, wrong: "it is still starting (start) after 20m0s"},
		{name: "a reload that does not end", moments: []moment{{0, machine.UnitState{Active: "reloading", Sub: "reload", Invocation: "inv0"}}}, took: time.Minute, wrong: "it is still reloading (reload) after 1m0s"},
		{name: "a fork whose main process is gone", moments: []moment{{0, up(0)}, {time.Second, with(up(0), func(s *machine.UnitState) { s.MainPID = 0 })}}, took: 5 * time.Second, wrong: "its main process is gone"},
		{name: "only reloaded, and runs on", unit: health.Unit{Since: "inv0"}, moments: []moment{{0, up(0)}}, took: 5 * time.Second},
		{name: "only reloaded, and the reload failed", unit: health.Unit{Since: "inv0", Job: errors.New("job ended as \"failed\"")}, moments: []moment{{0, up(0)}}, wrong: `job ended as "failed"`},
		{name: "only reloaded, and dies of it", unit: health.Unit{Since: "inv0"}, moments: []moment{{0, up(0)}, {time.Second, failed}}, took: time.Second, wrong: "it is failed"},
		{name: "reloaded, with restarts of long ago", unit: health.Unit{Since: "inv3", Fresh: true}, moments: []moment{{0, up(3)}}, took: 5 * time.Second},
		{name: "what it needs failed", unit: health.Unit{Job: none}, moments: []moment{{0, with(gone, func(s *machine.UnitState) { s.Invocation = "" })}}, wrong: "dependency"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			settle := 5 * time.Second
			if tt.settle != 0 {
				settle = max(tt.settle, 0)
			}
			u := tt.unit
			u.Name, u.Service = "a.service", "a"
			w := &health.Watch{Units: []health.Unit{u}, Services: []health.Service{{Name: "a", Settle: settle}}}
			watch(t, w, map[string][]moment{"a.service": tt.moments}, nil, func(r *health.Report, took time.Duration, _ *stage) {
				// A death is seen at the next glance.
				if late := took - tt.took; late < 0 || late > 100*time.Millisecond {
					t.Errorf("it took %v, want %v", took, tt.took)
				}
				switch {
				case tt.wrong == "" && len(r.Failures) > 0:
					t.Errorf("failed: %v", r.Failures[0].Err)
				case tt.wrong != "" && len(r.Failures) != 1:
					t.Errorf("%d failures, want 1", len(r.Failures))
				case tt.wrong != "" && !strings.Contains(r.Failures[0].Err.Error(), tt.wrong):
					t.Errorf("failed with %q, want %q", r.Failures[0].Err, tt.wrong)
				}
			})
		})
	}
}

// A run costs the longest settle time, and reads no unit more often than it must.
func TestAllTogether(t *testing.T) {
	units := map[string][]moment{}
	w := &health.Watch{}
	for i := range 50 {
		n := fmt.Sprintf("s%d", i)
		units[n+".service"] = []moment{{0, up(0)}}
		w.Units = append(w.Units, health.Unit{Name: n + ".service", Service: n})
		w.Services = append(w.Services, health.Service{Name: n, Settle: time.Duration(i%8) * time.Second, Probes: []bundle.Probe{{HTTP: "http://" + n}}})
	}
	watch(t, w, units, func(bundle.Probe, time.Duration) string { return "" }, func(r *health.Report, took time.Duration, s *stage) {
		if len(r.Failures) > 0 || took != 7*time.Second {
			t.Errorf("failures %v after %v, want none after 7s", r.Failures, took)
		}
		if s.states > 2*50 {
			t.Errorf("%d units were read whole, want each twice at most", s.states)
		}
	})
}

func TestFailing(t *testing.T) {
	units := map[string][]moment{
		"db.service":  {{0, up(0)}, {time.Second, failed}},
		"app.service": {{0, with(gone, func(s *machine.UnitState) { s.Invocation = "" })}},
		"web.service": {{0, up(0)}},
	}
	w := &health.Watch{Settle: 5 * time.Second, Units: []health.Unit{
		{Name: "app.service", Service: "app", Job: errors.New(`start app.service: job ended as "dependency"`)},
		{Name: "db.service", Service: "db"}, {Name: "web.service", Service: "web"},
	}}
	units["db.service"] = []moment{{0, failed}}
	watch(t, w, units, nil, func(r *health.Report, _ time.Duration, _ *stage) {
		if got := r.Failing(); !slices.Equal(got, []string{"db"}) {
			t.Errorf("failing = %q, want db: app only waits for it", got)
		}
		if len(r.Failures) != 2 {
			t.Errorf("failures %v, want both told", r.Failures)
		}
	})
}

func TestProbes(t *testing.T) {
	from := func(good ...time.Duration) asks { // answers well between pairs
		return func(_ bundle.Probe, at time.Duration) string {
			for i := 0; i+1 < len(good); i += 2 {
				if at >= good[i] && at < good[i+1] {
					return ""
				}
			}
			return "status 500, want 200"
		}
	}
	const ever = time.Hour
	for _, tt := range []struct {
		name   string
		settle time.Duration
		probe  bundle.Probe
		f      asks
		took   time.Duration
		wrong  string
	}{
		{name: "answers at once", f: from(0, ever)},
		{name: "counts at the end of settle", settle: 5 * time.Second, f: from(0, ever), took: 5 * time.Second},
		{name: "answers within its grace", f: from(3*time.Second, ever), took: 3 * time.Second},
		{name: "answers at the end of its grace", probe: bundle.Probe{Interval: 700, Grace: 1000}, f: from(time.Second, ever), took: time.Second},
		{name: "never answers", probe: bundle.Probe{Grace: 10_000}, f: from(), took: 10 * time.Second, wrong: "status 500, want 200, 10s after its service was started"},
		{name: "does not answer any more at the end of settle, and again within grace", settle: 5 * time.Second, f: from(0, 4*time.Second, 8*time.Second, ever), took: 8 * time.Second},
		{name: "answers well only at first", settle: 5 * time.Second, probe: bundle.Probe{Grace: 10_000}, f: from(0, 2*time.Second), took: 10 * time.Second, wrong: "after it had answered well"},
		{name: "a grace that is shorter than settle", settle: 5 * time.Second, probe: bundle.Probe{Grace: 2000}, f: from(4*time.Second, ever), took: 2 * time.Second, wrong: "2s after"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.probe.HTTP = "http://a/healthz"
			w := &health.Watch{Units: []health.Unit{{Name: "a.service", Service: "a"}}, Services: []health.Service{{Name: "a", Settle: tt.settle, Probes: []bundle.Probe{tt.probe}}}}
			watch(t, w, map[string][]moment{"a.service": {{0, up(0)}}}, tt.f, func(r *health.Report, took time.Duration, _ *stage) {
				if took != tt.took {
					t.Errorf("it took %v, want %v", took, tt.took)
				}
				if tt.wrong == "" && len(r.Failures) > 0 {
					t.Errorf("failed: %v", r.Failures[0].Err)
				}
				if tt.wrong != "" && (len(r.Failures) != 1 || !strings.Contains(r.Failures[0].Err.Error(), tt.wrong)) {
					t.Errorf("failures %v, want %q", r.Failures, tt.wrong)
				}
			})
		})
	}
}

// A service that is not started at all may still have changed how it is judged.
func TestProbeOfNoUnit(t *testing.T) {
	w := &health.Watch{Services: []health.Service{{Name: "a", Settle: 5 * time.Second, Probes: []bundle.Probe{{TCP: "127.0.0.1:1", Grace: 2000}}}}}
	watch(t, w, nil, func(bundle.Probe, time.Duration) string { return "refused" }, func(r *health.Report, took time.Duration, _ *stage) {
		if len(r.Failures) != 1 || took != 2*time.Second || r.Failures[0].Answer.Body != "said" {
			t.Errorf("failures %+v after %v, want one with its answer after 2s", r.Failures, took)
		}
	})
}

func TestScale(t *testing.T) {
	w := &health.Watch{Scale: 0.002, Units: []health.Unit{{Name: "a.service"}}, Settle: 5 * time.Second}
	watch(t, w, map[string][]moment{"a.service": {{0, up(0)}}}, nil, func(r *health.Report, took time.Duration, _ *stage) {
		if len(r.Failures) > 0 || took != 10*time.Millisecond {
			t.Errorf("failures %v after %v, want none after 10ms", r.Failures, took)
		}
	})
}

func TestCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		w := &health.Watch{Systemd: newStage(map[string][]moment{"a.service": {{0, up(0)}}}), Units: []health.Unit{{Name: "a.service"}}, Settle: time.Minute, Limit: time.Hour}
		if _, err := w.Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Run = %v, want the end of its context", err)
		}
	})
}
