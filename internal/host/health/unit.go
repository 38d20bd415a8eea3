package health

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"bellhop/internal/host/machine"
)

// Restarted is the Result of a unit that died and was up again whenever it was looked at: by then
// systemd tells no more how it ended.
const Restarted = "restarted"

// What is known of a unit that is watched.
type verdict int

const (
	waits  verdict = iota // it is on its way, and Patience counts
	starts                // the same, and its own TimeoutStartSec= counts
	isUp                  // it runs, and must stay so until it has settled
	isDone                // it is as it should be, and nothing of it can die
	isDead
)

// A watched is a unit while it is watched.
type watched struct {
	Unit
	settle  time.Duration
	explain func(unit string, s machine.UnitState) string

	first machine.UnitState // as it was read first
	last  machine.UnitState // as it was read last
	read  bool              // first and last are set
	upAt  time.Time         // since when it is up, as far as was seen; zero: it is not
	wasUp bool              // it has been up
	died  machine.UnitState // as it was read last while it had failed: one that was restarted tells no more
	over  bool              // it counts
}

// judge takes in what was read of the unit at a moment, and says how it does. The error is that
// of isDead.
func (u *watched) judge(s machine.UnitState, now time.Time) (verdict, error) {
	if !u.read {
		u.read, u.first = true, s
	}
	again := u.last.Invocation != "" && s.Invocation != u.last.Invocation
	u.last = s
	if s.Result != "" && s.Result != "success" {
		u.died = s
	}
	if s.Restarts > u.restartsBefore() || strings.HasPrefix(s.Sub, "auto-restart") {
		return isDead, u.restarted()
	}

	if s.Active == "active" {
		return u.judgeUp(s, again, now)
	}

	u.upAt = time.Time{}

	switch s.Active {
	case "reloading":
		return waits, nil
	case "activating":
		return starts, nil
	case "deactivating":
		return waits, nil
	case "inactive":
		return u.judgeInactive(s)
	}

	return isDead, u.ended(s)
}

// restartsBefore is how many restarts do not count.
func (u *watched) restartsBefore() int {
	runsOn := u.Since != "" && u.first.Invocation == u.Since
	if u.Fresh && !runsOn {
		return 0
	}
	return u.first.Restarts
}

// judgeUp judges a unit that is active. One that somebody else started anew meanwhile has to
// settle anew.
func (u *watched) judgeUp(s machine.UnitState, again bool, now time.Time) (verdict, error) {
	runsOn := u.Since != "" && s.Invocation == u.Since
	if runsOn && u.Job != nil {
		return isDead, u.Job
	}
	lostMain := u.first.MainPID != 0 && s.MainPID == 0 && s.Sub == "running"
	if lostMain {
		return isDead, errors.New("its main process is gone, though others of it run on")
	}

	nothingRuns := s.Sub != "running" && s.Sub != "" // a socket, a timer, a job that is done
	if nothingRuns {
		return isDone, nil
	}

	u.wasUp = true
	if u.upAt.IsZero() || again {
		u.upAt = now
	}
	if now.Sub(u.upAt) >= u.settle {
		return isDone, nil
	}

	return isUp, nil
}

func (u *watched) judgeInactive(s machine.UnitState) (verdict, error) {
	if s.Job {
		return waits, nil
	}

	ok := s.Result == "success" || s.Result == ""
	isOneshot := s.Oneshot || u.Oneshot
	hasEnded := s.Skipped || isOneshot && ok
	if u.Job == nil && hasEnded {
		return isDone, nil
	}

	return isDead, u.ended(s)
}

// restarted says how a unit died that systemd restarts.
func (u *watched) restarted() error {
	waits := u.last.Restarts <= u.restartsBefore()
	switch {
	case waits && u.last.Result == "success":
		return errors.New("its program ended by itself without an error, and systemd is to restart it")
	case waits:
		return fmt.Errorf("it died, and waits to be restarted (%s%s", u.last.Ended(), u.more(u.last))
	case u.died.Result == "": // it was up again whenever it was looked at
		return errors.New("it dies and is restarted")
	}

	return fmt.Errorf("it dies and is restarted (%s%s", u.died.Ended(), u.more(u.died))
}

// ended says why a unit is not up.
func (u *watched) ended(s machine.UnitState) error {
	failed := s.Result != "" && s.Result != "success"
	ranAndEnded := s.Active == "inactive" && (u.wasUp || !s.Skipped)
	switch {
	case failed:
		return fmt.Errorf("it is %s (%s%s", s.Active, s.Ended(), u.more(s))
	case u.Job != nil:
		return u.Job
	case ranAndEnded:
		return fmt.Errorf("it is %s (%s): its program ended by itself, and nothing of it runs", s.Active, s.Sub)
	}

	return fmt.Errorf("it is %s (%s)", s.Active, s.Sub)
}

// more is what else is known of how it ended.
func (u *watched) more(s machine.UnitState) string {
	hasStarted := u.wasUp && s.Result == "timeout" // it was a stop that took too long
	if u.explain == nil || hasStarted {
		return ""
	}
	return u.explain(u.Name, s)
}

// follows says that the unit was not even tried, since something that it needs failed.
func (u *watched) follows() bool {
	own := u.died.Result != "" || u.wasUp
	return !own && u.Job != nil && strings.Contains(u.Job.Error(), `"dependency"`)
}

// failure is the unit as a failure.
func (u *watched) failure(err error) Failure {
	state := u.last
	if u.died.Result != "" {
		state = u.died
	} else if u.last.Restarts > u.restartsBefore() {
		state.Result = Restarted
		state.Invocation = u.first.Invocation // what was read first is what died
	}

	return Failure{Service: u.Service, Unit: u.Name, State: state, Err: fmt.Errorf("unit %s: %w", u.Name, err), Follows: u.follows()}
}

// tooLate says what a unit is still at when its time is over.
func (u *watched) tooLate(v verdict, limit time.Duration) error {
	if v == starts {
		return fmt.Errorf("it is still starting (%s) after %v%s", u.last.Sub, limit.Round(time.Second), u.more(u.last))
	}
	return fmt.Errorf("it is still %s (%s) after %v", u.last.Active, u.last.Sub, limit.Round(time.Second))
}
