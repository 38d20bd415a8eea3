package lab

import (
	"context"

	"bellhop/internal/bundle"
	"bellhop/internal/host/machine"
)

// twinSystemd is the engine's face of the imitated service manager.
type twinSystemd struct{ m *Machine }

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
	names := s.m.systemd.Loaded()
	unlock()
	return s.Glance(ctx, names)
}

func (s twinSystemd) Units(_ context.Context, names []string) (map[string]machine.UnitState, error) {
	defer s.lock()()
	states := s.m.systemd.Units(names)
	for _, n := range names {
		if s.m.isApply(n) {
			states[n] = s.m.state(n)
		}
	}
	return states, nil
}

func (s twinSystemd) Reload(context.Context) error {
	defer s.lock()()
	s.m.systemd.Reloads++
	s.m.systemd.Reload()
	return nil
}

func (s twinSystemd) Enable(_ context.Context, names []string) error {
	defer s.lock()()
	return s.m.systemd.Enable(names)
}

func (s twinSystemd) Disable(_ context.Context, names []string) error {
	defer s.lock()()
	return s.m.systemd.Disable(names)
}

func (s twinSystemd) Job(_ context.Context, verb string, names []string) map[string]error {
	defer s.lock()()
	return s.m.systemd.Do(verb, names)
}

func (s twinSystemd) Queue(_ context.Context, verb, name string) error {
	defer s.lock()()
	return s.m.systemd.Queue(verb, name)
}

func (s twinSystemd) ResetFailed(_ context.Context, names []string) error {
	defer s.lock()()
	s.m.systemd.ResetFailed(names)
	return nil
}

func (s twinSystemd) Close() error { return nil }

// isApply says that a name is that of the transient unit, and that it is there.
func (m *Machine) isApply(name string) bool { return name == bundle.ApplyUnit && m.apply != nil }

// state is a unit as Units tells it.
func (m *Machine) state(name string) machine.UnitState {
	if m.isApply(name) {
		return machine.UnitState{Name: name, Load: "loaded", Active: "active", Sub: "running", Result: "success", RanThisBoot: true, MainPID: 1}
	}
	return m.systemd.State(name)
}
