package host_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/host/machine"
	"bellhop/internal/lab"
)

// A slowStart is a systemd on which the start of one unit takes as long as it is let.
type slowStart struct {
	machine.Systemd
	unit string

	mu      sync.Mutex
	starts  bool // its job is under way
	stopped bool // its job was replaced by a stop
	waited  bool // somebody waited to the end
}

func (s *slowStart) Job(ctx context.Context, verb string, names []string) map[string]error {
	isAsked := slices.Contains(names, s.unit)
	if !isAsked || verb != "start" {
		s.mu.Lock()
		s.stopped = s.stopped || isAsked && verb == "stop" && s.starts
		s.starts = s.starts && !s.stopped
		s.mu.Unlock()
		return s.Systemd.Job(ctx, verb, names)
	}

	s.mu.Lock()
	s.starts = true
	s.mu.Unlock()
	errs := s.Systemd.Job(ctx, verb, slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == s.unit }))
	select {
	case <-ctx.Done():
		errs[s.unit] = ctx.Err()
	case <-time.After(time.Minute):
		s.mu.Lock()
		s.waited = true
		s.mu.Unlock()
	}
	return errs
}

func (s *slowStart) Glance(ctx context.Context, names []string) (map[string]machine.UnitState, error) {
	return s.Units(ctx, names)
}

func (s *slowStart) Units(ctx context.Context, names []string) (map[string]machine.UnitState, error) {
	states, err := s.Systemd.Units(ctx, names)
	s.mu.Lock()
	defer s.mu.Unlock()
	if one, asked := states[s.unit]; asked && s.starts { // it waits for another unit
		one.Active, one.Sub, one.Job = "inactive", "dead", true
		states[s.unit] = one
	}
	return states, err
}

// One service takes minutes to start, and one beside it is dead: the run goes back at once, and the start
// that is still to come is called off.
func TestTwinDeathBesideALongStart(t *testing.T) {
	m := lab.NewMachine(t.TempDir())
	before := newLoad().file("/etc/bot", "old")
	twinDeploy(t, m, before.offer(), before, bundle.OutcomeDone)

	slow := &slowStart{Systemd: m.Host().Systemd, unit: "slow.service"}
	m.Host().Systemd = slow
	m.DieAfter("bot.service", time.Millisecond)
	l := newLoad().service("bot.service", botUnit).service("slow.service", botUnit).file("/etc/bot", "new")
	got := twinDeploy(t, m, l.offer(), l, bundle.OutcomeRolledBack)

	wantList(t, "failing", got.res.Failing, "bot")
	if !strings.HasPrefix(got.res.Error, "start: unit bot.service: it is failed") {
		t.Errorf("error %q", got.res.Error)
	}
	if slow.waited || !slow.stopped {
		t.Errorf("the long start: waited for %v, stopped %v; want it stopped, and nobody who waits", slow.waited, slow.stopped)
	}
	if text := readTwin(t, m, "/etc/bot"); text != "old" {
		t.Errorf("/etc/bot is %q after the undo", text)
	}
}
