package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"bellhop/internal/history"
)

// What status and history leave out. A time is how long ago, as 90m, 2h, 3d, or a day, or a moment with its zone.

// parseSince reads the value of --since; "" is the zero time.
func parseSince(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.Atoi(days); err == nil && n >= 0 && n < 100_000 {
			return now.AddDate(0, 0, -n), nil
		}
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04", time.DateOnly} {
		if at, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return at, nil
		}
	}
	return time.Time{}, hint(fmt.Errorf("--since %s is no time", text), "as --since 2h, --since 3d, --since 2026-11-30 or --since '2026-11-30 09:00'")
}

// parseOneOf reads names that are separated by commas, each one of known.
func parseOneOf[T ~string](flag string, values []string, known []T) ([]T, error) {
	var all []T
	for _, v := range values {
		one := T(strings.TrimSpace(v))
		if !slices.Contains(known, one) {
			return nil, hint(fmt.Errorf("--%s %s is not known", flag, v), "want one of %s", joined(known))
		}
		all = append(all, one)
	}
	return all, nil
}

func joined[T ~string](all []T) string {
	var words []string
	for _, one := range all {
		words = append(words, string(one))
	}
	return strings.Join(words, ", ")
}

// outcomesKnown are those that --outcome of history takes.
var outcomesKnown = []history.Outcome{
	history.OutcomeDone, history.OutcomeNothing, history.OutcomePartial, history.OutcomeFailed, history.OutcomeRolledBack, history.OutcomeUnconfirmed,
	history.OutcomeHeldBack, history.OutcomeRefused, history.OutcomePending, history.OutcomeCancelled,
}

// hostOutcomes are those that a run has on one host: it is partial only as a whole.
var hostOutcomes = slices.DeleteFunc(slices.Clone(outcomesKnown), func(o history.Outcome) bool { return o == history.OutcomePartial })

// statesKnown are those that status --state takes.
var statesKnown = []history.State{
	history.Current, history.Behind, history.Deploying, history.Failed, history.RolledBack, history.Unconfirmed, history.HeldBack, history.Held,
	history.Refused, history.Pending, history.Unknown, history.Never, history.Released,
}

// A hostFilter leaves hosts out of a status.
type hostFilter struct {
	states   []history.State
	outcomes []history.Outcome // that its newest run had
	since    time.Time         // deployed to then or later
}

// hasOutcome says whether the state of a host is what a run with such an outcome leaves. A run that brought the host what it is to
// hold, and one that found that there, leave the same state; a host that is held was brought back by a run that was done.
func hasOutcome(h history.HostStatus, outcomes []history.Outcome) bool {
	return slices.ContainsFunc(outcomes, func(o history.Outcome) bool {
		switch o {
		case history.OutcomeDone, history.OutcomeNothing:
			return h.State == history.Current || h.State == history.Held
		case history.OutcomeCancelled:
			return h.CancelledBy != nil
		}
		return string(h.State) == string(o) // what fails gives its state the same name
	})
}

func (f hostFilter) apply(s *history.Status) {
	s.Hosts = slices.DeleteFunc(s.Hosts, func(h history.HostStatus) bool {
		isOther := len(f.states) > 0 && !slices.Contains(f.states, h.State)
		isOther = isOther || len(f.outcomes) > 0 && !hasOutcome(h, f.outcomes)
		isOlder := !f.since.IsZero() && (h.DeployedAt == nil || h.DeployedAt.Before(f.since))
		return isOther || isOlder
	})
}
