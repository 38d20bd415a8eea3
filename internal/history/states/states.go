// Package states names the states that a host can be in, and what can come of a run.
package states

import "bellhop/internal/bundle"

// A State is the state of a host. It is stored and printed as it is written here.
type State string

// States of a host.
const (
	Current     State = "current"     // holds what the top commit wants
	Behind      State = "behind"      // does not, and will be pushed
	Deploying   State = "deploying"   // a run is at work there
	Pending     State = "pending"     // can't be reached, and is tried again
	Failed      State = "failed"      // a run failed, and could not be undone whole
	RolledBack  State = "rolled-back" // a run failed, and the host holds what it held before
	Unconfirmed State = "unconfirmed" // a run was undone because nobody confirmed it
	Held        State = "held"        // a person holds it
	Refused     State = "refused"     // its bundle, its host key, or the whole commit, was refused
	HeldBack    State = "held-back"   // some services could not be brought to the commit, the others were
	Released    State = "released"    // left the repo, and was left as it is
	Unknown     State = "unknown"     // begun, and nothing is known of the end
	Never       State = "never"       // wants something, and never had anything
)

// An Outcome is what came of a run, on one host or as a whole. It is stored and printed as it is
// written here. A host that a run leaves alone has the name of its state as its outcome: see
// State.Outcome.
type Outcome string

// Outcomes of a run on one host.
const (
	OutcomeDone        Outcome = bundle.OutcomeDone       // the host holds the bundle, and did not before
	OutcomeNothing     Outcome = bundle.OutcomeNothing    // the host held the bundle already
	OutcomeRefused     Outcome = bundle.OutcomeRefused    // nothing was touched
	OutcomeRolledBack  Outcome = bundle.OutcomeRolledBack // it failed, and the host holds what it held before
	OutcomeFailed      Outcome = bundle.OutcomeFailed     // it failed, and could not be undone whole
	OutcomeUnconfirmed Outcome = "unconfirmed"            // it was undone because nobody confirmed it
	OutcomeHeldBack    Outcome = "held-back"              // some services stay as they were, the others were brought
	OutcomePending     Outcome = "pending"                // the host could not be reached
	OutcomeUnknown     Outcome = "unknown"                // begun, and nothing is known of the end
	OutcomeCancelled   Outcome = "cancelled"              // ended by a person or by SIGTERM
)

// Outcomes of a run as a whole are those of a host, and one more. A whole run is done when every
// host that had to change did, failed when none did, and refused when nothing was begun on purpose.
const OutcomePartial Outcome = "partial" // some of the hosts that had to change did

// Outcome is the outcome of a run on a host that it leaves alone, since the host is in state s.
func (s State) Outcome() Outcome { return Outcome(s) }

// IsInVain says that the host was to be brought to the commit and could not be, or not whole: what is the
// matter is told with the state, and goes on while nothing is done there.
func (s State) IsInVain() bool {
	switch s {
	case HeldBack, RolledBack, Failed, Refused:
		return true
	}
	return false
}
