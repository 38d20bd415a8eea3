package plan

import (
	"errors"
	"fmt"
	"time"

	"bellhop/deploy/testbranch"
	"bellhop/internal/fleet"
	"bellhop/internal/history"
	"bellhop/internal/history/stops"
)

// A host with a testing branch is to hold what that branch has. It is held like one that was brought back, by a hold that
// names the branch, so that a status, a key that comes back and a deployer that died know what the host is to run. A hold of
// a person goes first.

// test plans a host that has a test. hold is that of an earlier plan, by a test too; nil: there is none.
func (h *heldPlans) test(w *wanted, known facts, hold *stops.Hold, t *testbranch.Test) *HostPlan {
	next := &stops.Hold{Test: t.Branch, Commit: t.Commit, Since: time.Now().UTC().Truncate(time.Second), Run: h.p.Request.RunID}
	if w.err == nil {
		next.Wanted = w.bundle.Digest
	}
	if t.Err == nil {
		next.Digest = t.Bundle.Digest
	}

	isSame := hold != nil && asksAlike(*hold, *next)
	if isSame {
		next = hold
	}

	hp := h.tested(w, known, next, t)
	hp.Hold, hp.BeginsHold = next, !isSame
	if hp.BeginsHold {
		hp.FormerHold = hold
	}
	return hp
}

// asksAlike says that two tests ask the same of a host.
func asksAlike(a, b stops.Hold) bool {
	isSameCommit := a.Test == b.Test && a.Commit == b.Commit
	return isSameCommit && a.Digest == b.Digest && a.Wanted == b.Wanted
}

// tested is what to do with a host that is to run a test.
func (h *heldPlans) tested(w *wanted, known facts, hold *stops.Hold, t *testbranch.Test) *HostPlan {
	last := known.last
	if t.Err != nil {
		hp := &HostPlan{Name: w.host.Name, Host: w.host, Bundle: w.bundle, Last: last, Units: noUnits()}
		if hp.State = history.Refused; known.pushing {
			hp.State = history.Deploying
			return hp
		}
		hp.Error, hp.evidence = fleet.ErrorText(t.Err), systemEvidence(t.Err)
		if failed := systemError(t.Err); failed != nil {
			hp.State = systemState(failed, last)
		}
		return hp
	}

	known.stopBy(h.d.History.Stops().At(w.host.Name), hold.Commit)
	if known.last.Wanted == hold.Wanted { // what it waits for is what the hold names
		known.last.Wanted = hold.Digest
	}
	hp := decide(h.p, &wanted{host: w.host, bundle: t.Bundle}, known)
	if hp.State == history.Current {
		hp.State, hp.Follows = history.Held, false
	}
	return hp
}

// isStillMade says that the system of a test is not there yet: until then the host holds what it held.
func isStillMade(t *testbranch.Test) bool {
	var failed *fleet.SystemError
	return errors.As(t.Err, &failed) && failed.Later
}

// EndedText says of a host that is held no longer, or runs no test any more, why.
func (hp *HostPlan) EndedText() string {
	if hp.EndedHold.IsTest() {
		return fmt.Sprintf("%s runs no test any more: %s", hp.Name, hp.WhyHoldEnds)
	}
	return fmt.Sprintf("%s is held no longer: %s (%s)", hp.Name, hp.WhyHoldEnds, hp.EndedHold.Text())
}
