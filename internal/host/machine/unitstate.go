package machine

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"bellhop/internal/bundle"
)

// A UnitState is what systemd says of a unit, read at one moment.
type UnitState struct {
	Name        string
	Load        string // loaded, not-found, masked, bad-setting, error
	Active      string // active, reloading, inactive, failed, activating, deactivating
	Sub         string
	Result      string // success, exit-code, …
	Exit        Exit   // of the program that Result speaks of; zero when it succeeded or is no program's
	File        string // UnitFileState: enabled, disabled, static, masked, generated, "" …
	Fragment    string // path of the unit file
	Invocation  string // invocation id, hex
	Restarts    int    // NRestarts
	RanThisBoot bool   // it has left inactive since boot
	Barred      bool   // an Assert…= did not hold when it was started last: a key was not there
	Skipped     bool   // a Condition…= of its unit file did not hold when it was started last
	Oneshot     bool   // Type=oneshot without RemainAfterExit
	CanReload   bool
	TriggeredBy []string
	NeededBy    []string // units whose start starts it: by Requires=, Wants= and their kin
	Before      []string // units that wait for it when both start
	Job         bool     // a job is queued or runs
	MainPID     int
	Since       int64 // when Active became what it is, Unix seconds; 0: not known
}

// Running says that a unit runs, or is about to.
func (s UnitState) Running() bool {
	return s.Active == "active" || s.Active == "reloading" || s.Active == "activating"
}

// Why is the error of a unit that is not where a job was to bring it: that of the job, or else what the unit is now.
func (s UnitState) Why(job error) error {
	if job != nil {
		return job
	}
	return fmt.Errorf("it is %s (%s)", s.Active, s.Sub)
}

// AtRest says that a unit is up, and that systemd has nothing to do with it.
func (s UnitState) AtRest() bool { return s.Load == "loaded" && s.Active == "active" && !s.Job }

// Enabled says that a link of its [Install] section starts a unit.
func (s UnitState) Enabled() bool { return s.File == "enabled" || s.File == "enabled-runtime" }

// Masked says that a unit can't be started by anybody.
func (s UnitState) Masked() bool {
	return s.Load == "masked" || s.File == "masked" || s.File == "masked-runtime"
}

// Exists says that systemd knows a unit of that name.
func (s UnitState) Exists() bool { return s.Load != "" && s.Load != "not-found" }

// Seen is how the unit of that name does, as people are told. A unit that is not there, or that nobody can start, is inactive to systemd, which says less.
func (s UnitState) Seen(name string) bundle.UnitSeen {
	word := s.Active
	switch {
	case s.Masked():
		word = bundle.DriftMasked
	case !s.Exists():
		word = bundle.DriftMissing
	}
	return bundle.UnitSeen{Name: name, Active: word, Sub: s.Sub}
}

// Units asks systemd, unless there is nothing to ask.
func (m *Machine) Units(ctx context.Context, names []string) (map[string]UnitState, error) {
	if len(names) == 0 {
		return nil, nil
	}
	return m.Systemd.Units(ctx, names)
}

// UnitsAtRest are Units, where of those that are up and at rest only what Systemd.Steady tells is wanted.
func (m *Machine) UnitsAtRest(ctx context.Context, names []string) (map[string]UnitState, error) {
	if len(names) == 0 {
		return nil, nil
	}

	states, err := m.Systemd.Steady(ctx, names)
	if err != nil {
		return nil, err
	}
	others := slices.DeleteFunc(slices.Clone(names), func(n string) bool { _, known := states[n]; return known })
	read, err := m.Units(ctx, others)
	if err != nil {
		return nil, err
	}

	maps.Copy(states, read)
	return states, nil
}

// Glance asks systemd for no more than whether they run.
func (m *Machine) Glance(ctx context.Context, names []string) (map[string]UnitState, error) {
	if len(names) == 0 {
		return nil, nil
	}
	return m.Systemd.Glance(ctx, names)
}

// Alive is Glance of all names: those that systemd lists by another name, aliases, are read whole.
func (m *Machine) Alive(ctx context.Context, names []string) (map[string]UnitState, error) {
	states, err := m.Glance(ctx, names)
	if err != nil {
		return nil, err
	}

	others := slices.DeleteFunc(slices.Clone(names), func(n string) bool { _, listed := states[n]; return listed })
	read, err := m.Units(ctx, others)
	if err != nil {
		return nil, err
	}

	maps.Copy(states, read)
	return states, nil
}
