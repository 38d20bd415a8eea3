// Package outcome says what a push means for history: the one place where the fate of a push, or the
// result that a host gave, becomes the state of a host.
//
// It also decides what is tried again. A bundle that failed on a host is not, until it changes or a
// person asks; one that nobody confirmed may get a second chance.
package outcome

import (
	"errors"
	"log/slog"
	"time"

	"bellhop/deploy/commits"
	"bellhop/deploy/contact"
	"bellhop/deploy/hosts"
	"bellhop/deploy/plan"
	"bellhop/internal/bundle"
	"bellhop/internal/history"
	"bellhop/internal/link"
	"bellhop/internal/plain"
	"bellhop/internal/push"
)

// Outcomes say what a push means for history: the one place where a fate becomes a state.
type Outcomes struct {
	History *history.DB
	Hosts   *hosts.Table
	Archive commits.Archive
	Log     *slog.Logger
	// IsUp says that a line to a host is open: that one tells when it goes away.
	IsUp func(host string) bool
}

// Of is the end of a host by what came of the push there. open says that the host goes on by itself with nobody listening, and that its result is to be
// fetched at the next start.
func (oc Outcomes) Of(run string, hp *plan.HostPlan, o push.Outcome) (e history.End, open bool) {
	if o.Fate == push.Ended {
		e = oc.Result(run, hp, o.Result, o.BootID)
		e.Heard = true
		oc.Unconfirmed(run, hp, o.Fresh, &e)
		return e, false
	}

	isAway := o.Away && !oc.IsUp(hp.Name)
	oc.Hosts.SetAway(hp.Name, isAway)

	e = history.End{Error: plain.Text(o.Text, contact.MaxText)}
	if isAway || o.Fate == push.WrongKey {
		e.AwayAt = awaySince(hp.Last, time.Now())
	}

	switch o.Fate {
	case push.Left:
		return e, true
	case push.Lost:
		e.Outcome, e.State = history.OutcomeUnknown, history.Unknown
	case push.Refused:
		e.Outcome, e.State = history.OutcomeRefused, history.Refused
	case push.Failed:
		e.Outcome, e.State = history.OutcomeFailed, history.Failed
	case push.Denied:
		e.Outcome, e.State = history.OutcomeFailed, history.Pending
	case push.Cancelled:
		e.Outcome, e.State = history.OutcomeCancelled, hp.State
		e.Error = "bellhop ended before anything was begun there"
	case push.WrongKey:
		e.Outcome, e.State = history.OutcomeRefused, history.Refused
		e.Error = plain.Text(strange(e.Error, hp.Name, o.Err), contact.MaxText)
		contact.ForgetLast(oc.History, oc.Log, hp.Name)
	default:
		e.Outcome, e.State = history.OutcomePending, history.Pending
		if isAway {
			e.Error = plain.Text("away since "+e.AwayAt.UTC().Format(time.RFC3339)+": "+e.Error, contact.MaxText)
		}
	}

	var notUndone *push.NotUndoneError
	if errors.As(o.Err, &notUndone) { // the host is in no good state, and is tried again like one that is away
		e.State = history.Failed
	}
	if h := whatHelps(o.Err); h != "" {
		e.Error += "\n" + h
	}

	return e, false
}

// whatHelps is the next thing to type where bellhop could not work on a host; "" where the error
// says it.
func whatHelps(err error) string {
	switch {
	case errors.Is(err, link.ErrAuth):
		return "let the deployer in: bellhop host add NAME USER@ADDRESS"
	case errors.Is(err, link.ErrSudo):
		return "let that user run sudo without a password, or log in as root (user: root)"
	}
	return ""
}

// Result is what a host's result of a run means for history.
func (oc Outcomes) Result(run string, hp *plan.HostPlan, res *bundle.Result, boot string) history.End {
	e := history.End{Outcome: history.Outcome(res.Outcome), Digest: hp.Bundle.Digest, Changed: res.Changed, Error: res.Error, Record: res.Record, Details: res}

	switch e.Outcome {
	case history.OutcomeDone, history.OutcomeNothing:
		e.Manifest, e.BootID = &hp.Bundle.Manifest, boot
		e.Present = new(len(hp.Bundle.Keys)) // all were sent or compared
	case history.OutcomeRefused:
		e.State, e.Remember = history.Refused, true
		switch res.Refused {
		case bundle.RefusedBusy, bundle.RefusedBase, bundle.RefusedRegistry:
			e.Outcome, e.State, e.Remember = history.OutcomePending, history.Pending, false
		case bundle.RefusedDeployer, bundle.RefusedNetwork: // not the bundle's fault
			e.Remember = false
		}
	case history.OutcomeUnconfirmed: // which Unconfirmed judges
	case history.OutcomeRolledBack:
		e.State, e.Remember = history.RolledBack, true
		if res.CutOff && !oc.lastEnd(run, hp).CutOff {
			e.State, e.Remember = history.Behind, false
		}
	default:
		e.Outcome, e.State, e.Remember = history.OutcomeFailed, history.Failed, true
	}

	if e.Record != nil { // by the digest that the host names, if it is one of ours
		rec := *e.Record
		rec.Digest = oc.Archive.KnownDigest(nil, hp.Name, plain.NewForeign(rec.Digest), hp.Bundle.Digest)
		e.Record, e.Overtaken = &rec, e.Stood() && rec.Digest != hp.Bundle.Digest
	}

	if e.Error == "" && !e.Stood() {
		e.Error = "the host gave no reason"
	}
	if len(res.Keys) > 0 {
		e.Present = new(bundle.Present(res.Keys))
	}

	return e
}

// strange tells of a host, or of one on the way to it, that shows another key than is pinned, and
// what a person can do.
func strange(text, host string, err error) string {
	var key *link.HostKeyError
	if !errors.As(err, &key) {
		return text
	}

	text += "; nothing was sent there. Someone may stand in between; if you know why it changed, "
	if key.Line == "" {
		return text + "bellhop host add shows the keys that it has now"
	}

	whose := ""
	if key.Host != host {
		whose = " of " + key.Host
	}

	return text + "pin the new one" + whose + " in the repo: host_key: " + key.Line
}

// awaySince is when a host that does not answer now went away.
func awaySince(last history.Host, now time.Time) time.Time {
	if last.AwayAt.IsZero() {
		return now
	}
	return last.AwayAt
}
