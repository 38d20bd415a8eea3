package plan

import (
	"slices"

	"bellhop/deploy/follow"
	"bellhop/deploy/routes"
	"bellhop/internal/bundle"
	"bellhop/internal/history"
)

// Planned is what history keeps of hp.
func (hp *HostPlan) Planned() history.Planned {
	h := history.Planned{Name: hp.Name, State: hp.State, Follows: hp.Follows, Error: hp.Error, Reason: hp.Reason, Keys: hp.Last.KeysExpected, Reach: routes.Reach(hp.Host), Listed: hp.Push, Evidence: hp.evidence}
	if h.Resumes = hp.WhyHoldEnds != ""; hp.BeginsHold {
		h.Hold = hp.Hold
	}
	if hp.Bundle == nil {
		return h
	}

	h.Wanted, h.Services = hp.Wanted(), hp.services
	holdsOther := hp.Last.Had && hp.Last.Digest != "" // its keys are those that count, until it is pushed
	if !holdsOther || hp.Follows {
		h.Keys = len(hp.Bundle.Keys)
	}
	return h
}

// IsLeftAlone says that the host needs something and is not pushed: it is refused, it failed before,
// or an earlier run is at work on it.
func (hp *HostPlan) IsLeftAlone() bool {
	hasReason := hp.Error != "" || hp.State == history.Deploying || hp.IsHeld()
	return !hp.Push && hasReason
}

// OutcomeIfLeft is the outcome of a host that is left alone. One that a rollback finds where it is to go has what
// was asked for.
func (hp *HostPlan) OutcomeIfLeft() history.Outcome {
	if hp.IsHeld() && hp.BeginsHold {
		return history.OutcomeNothing
	}
	return hp.State.Outcome()
}

// healed says that a host holds what is wanted, though history does not have it as current: one
// that shows its pinned key again, for example.
func (hp *HostPlan) healed() bool {
	return hp.State == history.Current && hp.Follows && hp.Last.State != history.Current
}

// isNews says that the plan of a host is worth to be stored though nothing is pushed.
func (hp *HostPlan) isNews() bool { return hp.healed() || hp.BeginsHold || hp.WhyHoldEnds != "" }

// Failing are the services of the host that a push was undone for, as far as they are known. The host
// names them, and can name no others than those of its bundle.
func (hp *HostPlan) Failing(e history.End) (names []string) {
	res, _ := e.Details.(*bundle.Result)
	if res == nil || hp.Bundle == nil {
		return nil
	}
	for _, service := range hp.Bundle.ServiceNames() {
		if slices.Contains(res.Failing, service) {
			names = append(names, service)
		}
	}
	return names
}

// Untouched is the event that says why the host is not pushed.
func (hp *HostPlan) Untouched() follow.Event {
	if hp.State == history.Deploying {
		return follow.Event{Host: hp.Name, Step: string(history.Deploying), Text: "an earlier run is still at work there"}
	}
	text := hp.Error
	if hp.IsHeld() && !hp.BeginsHold {
		text = hp.HeldText()
	}
	return follow.Event{Host: hp.Name, Step: "end", Outcome: hp.OutcomeIfLeft(), Text: text}
}
