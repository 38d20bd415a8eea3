package history

import "bellhop/internal/history/states"

// A State is the state of a host, and an Outcome is what came of a run, on one host or as a whole.
type (
	State   = states.State
	Outcome = states.Outcome
)

// States of a host: see package states.
const (
	Current     = states.Current
	Behind      = states.Behind
	Deploying   = states.Deploying
	Pending     = states.Pending
	Failed      = states.Failed
	RolledBack  = states.RolledBack
	Unconfirmed = states.Unconfirmed
	Held        = states.Held
	Refused     = states.Refused
	HeldBack    = states.HeldBack
	Released    = states.Released
	Unknown     = states.Unknown
	Never       = states.Never
)

// Outcomes of a run on one host, and the one that only a whole run has: see package states.
const (
	OutcomeDone        = states.OutcomeDone
	OutcomeNothing     = states.OutcomeNothing
	OutcomeRefused     = states.OutcomeRefused
	OutcomeRolledBack  = states.OutcomeRolledBack
	OutcomeFailed      = states.OutcomeFailed
	OutcomeUnconfirmed = states.OutcomeUnconfirmed
	OutcomeHeldBack    = states.OutcomeHeldBack
	OutcomePending     = states.OutcomePending
	OutcomeUnknown     = states.OutcomeUnknown
	OutcomeCancelled   = states.OutcomeCancelled
	OutcomePartial     = states.OutcomePartial
)
