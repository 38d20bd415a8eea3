package nixsystem

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/host/health"
	"bellhop/internal/host/machine"
	"bellhop/internal/host/state"
)

// What switch-to-configuration ends with, as NixOS means it.
const (
	exitUnitsFailed = 4   // the system is switched to, and some unit failed
	exitReboot      = 100 // it is the system of the next boot, and can't be switched to now
)

// glanceEvery is how often units are glanced at while they settle.
const glanceEvery = 200 * time.Millisecond

// An Activation brings one system. Its fields are set before Do.
type Activation struct {
	M        *machine.Machine
	Run      string
	Move     *state.SystemMove
	Settle   time.Duration // how long units must stay up after it
	Owners   Owners
	Warnings []string // set by Do
}

// Do sets the profile, switches, and watches the units of the host until they have settled. What
// failed stands in the report. An error is that the host could not be asked.
func (a *Activation) Do(ctx context.Context) (*health.Report, error) {
	c := commands{a.M, a.Run}
	if err := addRoots(a.M, a.Move.Path, a.Move.Profile, a.Move.Current); err != nil {
		return nil, err
	}
	if a.Move.Action != bundle.ActionTest {
		if err := c.must(ctx, "nix-env --profile "+Profile+" --set "+a.Move.Path); err != nil {
			return a.failed(machine.CommandState{}, err), nil
		}
		a.M.Mark("system set")
	}
	if a.Move.Why != "" {
		a.warn("the system is not switched to while the host runs, and starts with the next boot: %s", a.Move.Why)
	}

	st, keys, err := c.switchWithOwners(ctx, a.Owners, a.Move.Path, a.Move.Action)
	if err = errors.Join(err, keys.err); err != nil {
		return nil, err
	}

	a.M.Mark("switched")

	isCode := st.Exit.Signal == 0
	switch {
	case st.Result == "success":
	case isCode && st.Exit.Status == exitUnitsFailed:
	case isCode && st.Exit.Status == exitReboot:
		a.warn("switch-to-configuration says that the system starts only with the next boot (exit status %d)", exitReboot)
	default:
		return a.failed(st, fmt.Errorf("switch-to-configuration %s of %s: %s", a.Move.Action, a.Move.Path, ended(st))), nil
	}

	if len(keys.late) > 0 {
		none := "the host has no such owner as these keys are to have: " + strings.Join(keys.late, ", ")
		if ReadLinks(a.M).Current == a.Move.Path {
			return a.failed(st, errors.New(none+": the system that was switched to makes none")), nil
		}

		a.warn("%s: they are root's until the next boot", none)
	}
	if a.Move.Action == bundle.ActionBoot {
		return &health.Report{}, nil
	}

	return a.settle(ctx, st)
}

func (a *Activation) warn(format string, args ...any) {
	a.Warnings = append(a.Warnings, fmt.Sprintf(format, args...))
}

// failed is the report of an activation that did not end well itself.
func (a *Activation) failed(st machine.CommandState, err error) *health.Report {
	unit := machine.UnitState{Name: Unit, Result: st.Result, Exit: st.Exit, Invocation: st.Invocation}
	return &health.Report{Failures: []health.Failure{{Service: bundle.SystemService, Unit: Unit, State: unit, Err: err}}}
}

// settle watches all units of the host until they have settled. A unit that had failed before the run
// is not the run's fault, though switch-to-configuration counts it too.
func (a *Activation) settle(ctx context.Context, st machine.CommandState) (*health.Report, error) {
	late := time.Now().Add(a.Settle)
	for {
		states, err := a.M.Systemd.Loaded(ctx)
		if err != nil {
			return nil, err
		}
		if names := newlyFailed(states, a.Move.Failed); len(names) > 0 {
			report, err := a.judge(ctx, names)
			if err != nil || len(report.Failures) > 0 {
				return report, err
			}
		}

		left := time.Until(late)
		if left <= 0 {
			break
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(min(left, glanceEvery)):
		}
	}

	if st.Result != "success" && st.Exit.Status == exitUnitsFailed {
		a.warn("switch-to-configuration counts units as failed, all of which had failed before: %s", strings.Join(a.Move.Failed, ", "))
	}
	return &health.Report{}, nil
}

// judge reads units that failed. What a timer starts has a success of its own, which a switch does not
// wait for: it is a warning.
func (a *Activation) judge(ctx context.Context, names []string) (*health.Report, error) {
	states, err := a.M.Units(ctx, names)
	if err != nil {
		return nil, err
	}

	report := &health.Report{}
	for _, n := range names {
		s := states[n]
		if slices.ContainsFunc(s.TriggeredBy, func(by string) bool { return strings.HasSuffix(by, ".timer") }) {
			a.Move.Failed = append(a.Move.Failed, n)
			a.warn("unit %s, which a timer starts, failed meanwhile", n)
			continue
		}
		if !isFailed(s) && s.Result == "success" { // it has come up since the glance
			s.Result = health.Restarted
		}
		report.Failures = append(report.Failures, health.Failure{Service: bundle.SystemService, Unit: n, State: s,
			Err: fmt.Errorf("unit %s failed after the switch: %s%s", n, s.Result, exitText(s.Exit))})
	}
	return report, nil
}

func exitText(e machine.Exit) string {
	if e == (machine.Exit{}) {
		return ""
	}
	return ", " + e.String()
}

// isFailed says that a unit failed, or dies and is started again.
func isFailed(s machine.UnitState) bool {
	return s.Active == "failed" || strings.HasPrefix(s.Sub, "auto-restart")
}

// failedAmong are the units that failed, sorted. Scopes are nobody's to start.
func failedAmong(states map[string]machine.UnitState) (names []string) {
	for n, s := range states {
		if isFailed(s) && !strings.HasSuffix(n, ".scope") && n != Unit {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	return names
}

func newlyFailed(states map[string]machine.UnitState, before []string) []string {
	return slices.DeleteFunc(failedAmong(states), func(n string) bool { return slices.Contains(before, n) })
}
