package lab

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"bellhop/internal/bundle"
	"bellhop/internal/host/machine"
)

// twinSystemd is the engine's face of it.
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

func (s twinSystemd) Units(_ context.Context, names []string) (map[string]machine.UnitState, error) {
	defer s.lock()()
	s.m.mourn()
	s.m.listed = map[string][]fs.DirEntry{}
	defer func() { s.m.listed = nil }()
	states := make(map[string]machine.UnitState, len(names))
	for _, n := range names {
		states[n] = s.m.state(n)
	}
	return states, nil
}

func (s twinSystemd) Reload(context.Context) error {
	defer s.lock()()
	s.m.reloads++
	s.m.reload()
	return nil
}

func (s twinSystemd) Enable(_ context.Context, names []string) error {
	defer s.lock()()
	for _, n := range names {
		if err := s.m.enable(n, map[string]bool{}); err != nil {
			return fmt.Errorf("enable %s: %w", n, err)
		}
	}
	return nil
}

func (s twinSystemd) Disable(_ context.Context, names []string) error {
	defer s.lock()()
	for _, n := range names {
		if err := s.m.disable(n, map[string]bool{}); err != nil {
			return fmt.Errorf("disable %s: %w", n, err)
		}
	}
	return nil
}

func (s twinSystemd) Job(_ context.Context, verb string, names []string) map[string]error {
	defer s.lock()()
	for _, n := range names {
		s.m.jobs = append(s.m.jobs, verb+" "+n)
	}
	if s.m.booting {
		errs := map[string]error{}
		for _, n := range names {
			errs[n] = fmt.Errorf("%s %s: boot waits for the one who waits: queue it", verb, n)
		}
		return errs
	}
	return s.m.transact(verb, names)
}

func (s twinSystemd) Queue(_ context.Context, verb, name string) error {
	defer s.lock()()
	s.m.jobs = append(s.m.jobs, verb+" "+name)
	if s.m.booting && verb != "stop" {
		if err := refusal(s.m.def(name)); err != nil {
			return fmt.Errorf("%s %s: %w", verb, name, err)
		}
		s.m.queued = append(s.m.queued, name)
		return nil
	}
	s.m.transact(verb, []string{name})
	return nil
}

func (s twinSystemd) ResetFailed(_ context.Context, names []string) error {
	defer s.lock()()
	for _, n := range names {
		u := s.m.units[s.m.canonical(n)]
		if u != nil && u.active == "failed" {
			u.active, u.sub, u.result, u.def, u.restarts = "inactive", "dead", "success", nil, 0
		}
	}
	return nil
}

func (s twinSystemd) Close() error { return nil }

// state is a unit as Units tells it.
func (m *Machine) state(name string) machine.UnitState {
	id := m.canonical(name)
	if id == bundle.ApplyUnit && m.apply != nil {
		return machine.UnitState{Name: name, Load: "loaded", Active: "active", Sub: "running", Result: "success", RanThisBoot: true, MainPID: 1}
	}
	d, u := m.def(id), m.unit(id)
	if m.flapping[id] && u.active == "active" {
		u.restarts++
		u.invocation = fmt.Sprintf("%x", randomBytes(16))
	}
	st := machine.UnitState{
		Name: name, Load: d.load, Active: u.active, Sub: u.sub, Result: u.result, Exit: u.exit,
		File: m.fileState(name), Fragment: d.fragment, Invocation: u.invocation, Restarts: u.restarts,
		RanThisBoot: u.ran, Skipped: u.skipped, Barred: u.barred, Oneshot: d.service() && d.load == "loaded" && d.kind() == "oneshot" && !d.remains(),
		CanReload: canReload(d), TriggeredBy: m.triggeredBy(id), MainPID: u.pid,
	}
	if st.Oneshot {
		m.relate(id, &st)
	}
	return st
}

// relate finds what starts a unit, and what waits for it.
func (m *Machine) relate(id string, st *machine.UnitState) {
	st.Before = m.def(id).list("Unit.Before")
	files, _ := os.ReadDir(m.Path(bundle.UnitDir))
	for _, f := range files {
		name := f.Name()
		if f.IsDir() {
			continue
		}
		d := m.def(name)
		if slices.Contains(d.list("Unit.After"), id) {
			st.Before = append(st.Before, name)
		}
		for _, key := range []string{"Unit.Requires", "Unit.Wants", "Unit.BindsTo", "Unit.Requisite"} {
			if slices.Contains(d.list(key), id) {
				st.NeededBy = append(st.NeededBy, name)
			}
		}
	}
}
