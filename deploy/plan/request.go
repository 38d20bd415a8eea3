package plan

import (
	"slices"
	"strings"
)

// A Trigger says what kind of event started a run. The text of a cause is for people; only the
// trigger decides what a run does differently.
type Trigger string

const (
	TriggerEvent Trigger = ""      // a push, a start, a person, or news of a host
	TriggerClock Trigger = "clock" // no event: the poll interval is over
)

// A Request asks for a run. Its flags hold for that run alone.
type Request struct {
	Cause      string  `json:"cause"` // push, poll, start, deploy …: for people
	Trigger    Trigger `json:"trigger,omitempty"`
	By         string  `json:"by,omitempty"`          // who asked
	On         string  `json:"on,omitempty"`          // hosts, as people choose them; "" is all
	All        bool    `json:"all,omitempty"`         // contact hosts that look current too
	Retry      bool    `json:"retry,omitempty"`       // try again what failed
	AllowPrune bool    `json:"allow_prune,omitempty"` // more than half of what a host has may be removed
	// AllowNewVolumes lets volumes of compose projects be left behind for new ones, and definitions of
	// theirs change.
	AllowNewVolumes bool `json:"allow_new_volumes,omitempty"`
	// AllowRewritten accepts a history that was rewritten, where it is refused: the head is then the commit
	// that was seen last, for later runs too.
	AllowRewritten bool   `json:"allow_rewritten,omitempty"`
	TakeOver       bool   `json:"take_over,omitempty"` // take hosts whose record names another deployer
	Resume         bool   `json:"resume,omitempty"`    // end the holds of the chosen hosts
	RunID          string `json:"run,omitempty"`       // "": a new one

	// DryActivate is a NixOS host that is asked, for a plan of the branch's head, what going over to its system would
	// do. "": no host is.
	DryActivate string `json:"dry_activate,omitempty"`

	Rollback *Rollback `json:"rollback,omitempty"` // bring the chosen hosts back; nil: to the head
}

// A Rollback asks a run to bring hosts back to what they held before, where they are held: see
// stops.Hold. The run does not ask the remote, so that it works while the remote is away, and while
// runs are paused; hosts are reached as the newest commit says that was accepted.
//
// Without To a host goes back to what it held before what it holds. One that never came to hold what the
// head wants, since its run failed or did not come to it, is held where it stands: there is nothing of
// the head to take back. Of a host that is held already a further rollback goes further back.
type Rollback struct {
	To     string `json:"to,omitempty"`     // a run: to what each host held after it
	Reason string `json:"reason,omitempty"` // for people who find the host held
}

// MostReason is how long a reason may be, in bytes.
const MostReason = 200

// Share adds one more cause to a run that waits. An event that shares its run with the clock
// comes first in its cause.
func (r *Request) Share(cause string, trigger Trigger) {
	leads := r.Trigger == TriggerClock && trigger == TriggerEvent
	if leads {
		r.Trigger = TriggerEvent
	}

	known := slices.Contains(strings.Split(r.Cause, ", "), cause)
	switch {
	case known || len(r.Cause)+len(cause) >= maxCause:
	case leads:
		r.Cause = cause + ", " + r.Cause
	default:
		r.Cause += ", " + cause
	}
}

// isPersons says that a person asked for the run.
func (r Request) isPersons() bool { return r.By != "" }

// Automatic says that no person chose hosts or flags for the run.
func (r Request) Automatic() bool {
	asked := r.By != "" || r.On != ""
	flags := []bool{r.All, r.Retry, r.AllowPrune, r.AllowNewVolumes, r.AllowRewritten, r.TakeOver, r.Resume, r.Rollback != nil}
	return !asked && !slices.Contains(flags, true)
}

// maxCause is how long the causes are together that share a run, bytes.
const maxCause = 120
