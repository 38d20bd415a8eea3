// Package health watches what a run started until it counts, or fails.
//
// The words: a unit settles when it stays up for its service's settle time; a probe asks whether a
// service works; a failure is one unit or one probe that does not come up to that. A service is
// judged as a whole: its units settle, and each of its probes gives a good answer that was asked
// for after that.
//
// All units and probes are watched together, so that a run costs the longest settle time and not
// the sum. The first failure ends the watch: what comes after it would only be waited for in vain.
// The package knows no machine: how systemd is asked, and how a probe is, is handed to it. It takes
// its time from the monotonic clock, so it does not mind a wall clock that is set meanwhile.
package health

import (
	"context"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/host/machine"
)

// Patience is how long a unit may take for what is neither up nor starting: a job that is queued,
// a reload, a program that takes its time to end. A unit that starts has as long as its own
// TimeoutStartSec= gives it, and a probe has its grace; Watch.Limit bounds both.
const Patience = 60 * time.Second

// Units reads what systemd says.
type Units interface {
	// Units reads all of a state.
	Units(ctx context.Context, names []string) (map[string]machine.UnitState, error)
	// Glance reads Active, Sub and Job, at the price of one call for all.
	Glance(ctx context.Context, names []string) (map[string]machine.UnitState, error)
}

// A Unit is one that is watched.
type Unit struct {
	Name    string
	Service string // "": none
	// Since is its invocation before the run, where it is to run on: it was only reloaded. A unit
	// that was started anew is judged by what it does from now on.
	Since string
	// Fresh says that it did not run when the run started it, or was stopped by that: each restart
	// that systemd counts is since then.
	Fresh bool
	Job   error // what came of the job that the run asked for; nil: it is done
	// Oneshot says that the unit is good when it is inactive with success, whatever systemd says
	// of its kind.
	Oneshot bool
}

// A Service is how the units and the probes of one service are judged.
type Service struct {
	Name   string
	Settle time.Duration // how long a unit must stay up
	Probes []bundle.Probe
}

// A Watch is one watch over what a run started. Its fields are set before Run.
type Watch struct {
	Systemd  Units
	Prober   machine.Prober // nil: there are no probes
	Units    []Unit
	Services []Service // of all units and probes; a unit whose service is not listed has Settle
	Settle   time.Duration
	Limit    time.Duration // of the watch as a whole
	// Explain says more of how a unit ended, for the end of a message. It may be nil.
	Explain func(unit string, s machine.UnitState) string
	// Scale, where it is not 0, multiplies settle times, intervals and graces: a machine that is
	// simulated need not really wait.
	Scale float64
}

// A Failure is one unit or one probe that failed.
type Failure struct {
	Service string
	Unit    string            // "" for a probe
	State   machine.UnitState // of the unit, when it was seen dead
	Probe   *bundle.Probe     // nil for a unit
	Answer  machine.Answer    // of the probe
	Err     error             // what is wrong
	// Follows says that the unit was not even tried, since something that it needs failed.
	Follows bool
}

// A Report is what a watch saw.
type Report struct {
	Failures []Failure // empty: all is well
	Skipped  []string  // units that a condition of their unit file kept from starting
}

// Failing are the services that failed by themselves, each once. Where only what followed from
// something else is known, it is those.
func (r *Report) Failing() []string {
	var own, follow []string
	for _, f := range r.Failures {
		if f.Service == "" {
			continue
		}
		if f.Follows {
			follow = appendOnce(follow, f.Service)
		} else {
			own = appendOnce(own, f.Service)
		}
	}

	if len(own) > 0 {
		return own
	}
	return follow
}

func appendOnce(list []string, s string) []string {
	for _, have := range list {
		if have == s {
			return list
		}
	}
	return append(list, s)
}

// scaled is d in the watch's own time.
func (w *Watch) scaled(d time.Duration) time.Duration {
	if w.Scale == 0 {
		return d
	}
	return time.Duration(float64(d) * w.Scale)
}

// settleOf is how long a unit of a service must stay up.
func (w *Watch) settleOf(service string) time.Duration {
	for _, s := range w.Services {
		if s.Name == service {
			return w.scaled(s.Settle)
		}
	}
	return w.scaled(w.Settle)
}
