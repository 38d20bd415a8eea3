package lab

import (
	"context"

	"bellhop/internal/bundle"
	"bellhop/internal/host/machine"
	"bellhop/internal/lab/systemd"
)

// twinSystemd is the engine's face of an imitated service manager: the host's, or that of a user.
type twinSystemd struct {
	m  *Machine
	of *systemd.Systemd
}

func (s twinSystemd) lock() func() { s.m.mu.Lock(); return s.m.mu.Unlock }

func (s twinSystemd) Version(context.Context) (int, error) {
	defer s.lock()()
	return s.m.version, nil
}

// Glance is Units, and gives no more than it promises.
func (s twinSystemd) Glance(ctx context.Context, names []string) (map[string]machine.UnitState, error) {
	states, err := s.Units(ctx, names)
	for n, st := range states {
		states[n] = machine.UnitState{Name: st.Name, Load: st.Load, Active: st.Active, Sub: st.Sub, Job: st.Job}
	}
	return states, err
}

// Steady is Units of what is at rest, and gives no more than it promises.
func (s twinSystemd) Steady(ctx context.Context, names []string) (map[string]machine.UnitState, error) {
	states, err := s.Units(ctx, names)
	for n, st := range states {
		delete(states, n)
		if st.AtRest() && !st.Masked() {
			states[n] = machine.UnitState{Name: st.Name, Load: st.Load, Active: st.Active, Sub: st.Sub, Result: st.Result, File: st.File, Invocation: st.Invocation, RanThisBoot: true}
		}
	}
	return states, err
}

// Loaded is Glance of all that has a state.
func (s twinSystemd) Loaded(ctx context.Context) (map[string]machine.UnitState, error) {
	unlock := s.lock()
	names := s.of.Loaded()
	unlock()
	return s.Glance(ctx, names)
}

func (s twinSystemd) Units(_ context.Context, names []string) (map[string]machine.UnitState, error) {
	defer s.lock()()
	states := s.of.Units(names)
	for _, n := range names {
		if s.of == s.m.systemd && s.m.isApply(n) {
			states[n] = s.m.state(n)
		}
	}
	return states, nil
}

func (s twinSystemd) Reload(context.Context) error {
	defer s.lock()()
	s.of.Reloads++
	s.of.Reload()
	return nil
}

func (s twinSystemd) Enable(_ context.Context, names []string) error {
	defer s.lock()()
	return s.of.Enable(names)
}

func (s twinSystemd) Disable(_ context.Context, names []string) error {
	defer s.lock()()
	return s.of.Disable(names)
}

func (s twinSystemd) Job(_ context.Context, verb string, names []string) map[string]error {
	defer s.lock()()
	return s.of.Do(verb, names)
}

func (s twinSystemd) Queue(_ context.Context, verb, name string) error {
	defer s.lock()()
	return s.of.Queue(verb, name)
}

func (s twinSystemd) ResetFailed(_ context.Context, names []string) error {
	defer s.lock()()
	s.of.ResetFailed(names)
	return nil
}

func (s twinSystemd) Close() error { return nil }

// Open opens the imitated service manager of a user.
func (s twinSystemd) Open(_ context.Context, user string, start bool) (machine.Systemd, error) {
	defer s.lock()()
	if of := s.of.OfUser(user, s.m.users[user].Home, start); of != nil {
		return twinSystemd{s.m, of}, nil
	}
	return nil, nil
}

// End ends that of one who lingers no more.
func (s twinSystemd) End(_ context.Context, user string) error {
	s.m.set(func() { s.of.EndUser(user) })
	return nil
}

// isApply says that a name is that of the transient unit, and that it is there.
func (m *Machine) isApply(name string) bool { return name == bundle.ApplyUnit && m.apply != nil }

// state is a unit as Units tells it.
func (m *Machine) state(name string) machine.UnitState {
	if m.isApply(name) {
		return machine.UnitState{Name: name, Load: "loaded", Active: "active", Sub: "running", Result: "success", RanThisBoot: true, MainPID: 1}
	}
	return m.systemd.State(name)
}
