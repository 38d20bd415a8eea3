package outcome

import (
	"fmt"

	"bellhop/deploy/contact"
	"bellhop/deploy/plan"
	"bellhop/internal/history"
	"bellhop/internal/history/results"
	"bellhop/internal/plain"
	"bellhop/internal/push"
)

// A host that nobody confirmed went back by itself. Either its bundle cut it off: then the same bundle
// would do so again, and is not tried until it changes, or a person asks. Or the deployer was not there
// in time, or its network was not: then the bundle may be good, and gets a second chance, and no third,
// since it may be the bundle that ends the deployer.

const tryAgainBy = "It is tried again once what the repo wants of it changes, or with: bellhop deploy --retry"

// Unconfirmed completes e, the end of a run on a host that nobody confirmed. It leaves any other end as
// it is.
func (oc Outcomes) Unconfirmed(run string, hp *plan.HostPlan, t push.FreshTry, e *history.End) {
	if e.Outcome != history.OutcomeUnconfirmed {
		return
	}

	e.State = history.Unconfirmed
	if t.CutOff() {
		e.Reason, e.Remember = results.ReasonCutOff, true
	} else {
		e.Reason, e.Remember = results.ReasonAway, oc.lastEnd(run, hp).Reason == results.ReasonAway
	}

	e.Error = plain.Text(unconfirmedText(t, e.Reason, e.Remember), contact.MaxText)
}

// unconfirmedText says what happened, and what happens next.
func unconfirmedText(t push.FreshTry, reason results.Reason, remembered bool) string {
	const back = "the host went back to what it held before: "
	how := t.Text
	if how == "" {
		how = "nobody asked it"
	}

	switch {
	case reason == results.ReasonCutOff:
		return fmt.Sprintf("%swith the change nobody could log in any more (%s), while %s could be reached.\n%s", back, how, t.Elsewhere, tryAgainBy)
	case remembered:
		return fmt.Sprintf("%sthis deployer did not confirm the change in time, for the second time (%s).\n%s", back, how, tryAgainBy)
	}

	return fmt.Sprintf("%sthis deployer did not confirm the change in time (%s).\nIt is tried once more, in two minutes at the earliest; at once with: bellhop deploy --retry", back, how)
}

// lastEnd is how the bundle ended on the host when it was tried last: it may be the bundle that kills
// the host, or the deployer. History knows, rather than this process, which may run on that host and
// goes down with it.
func (oc Outcomes) lastEnd(run string, hp *plan.HostPlan) history.PastEnd {
	past, err := oc.History.LastEnd(hp.Name, hp.Bundle.Digest, run)
	if err != nil {
		oc.Log.Error("look how it ended before", "host", hp.Name, "err", err)
		return history.PastEnd{CutOff: true, Reason: results.ReasonAway} // rather none too many
	}
	return past
}
