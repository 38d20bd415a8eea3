package deploy

import (
	"slices"

	"bellhop/deploy/routes"
	"bellhop/internal/bundle"
	"bellhop/internal/history"
)

// planned is what history keeps of hp.
func (hp *HostPlan) planned() history.Planned {
	h := history.Planned{Name: hp.Name, State: hp.State, Follows: hp.Follows, Error: hp.Error, Reason: hp.Reason, Keys: hp.last.KeysExpected, Reach: routes.Reach(hp.host), Listed: hp.Push, Evidence: hp.evidence}
	if h.Resumes = hp.resumes != ""; hp.begins {
		h.Hold = hp.hold
	}
	if hp.bundle == nil {
		return h
	}

	h.Wanted, h.Services = hp.wanted(), hp.services
	holdsOther := hp.last.Had && hp.last.Digest != "" // its keys are those that count, until it is pushed
	if !holdsOther || hp.Follows {
		h.Keys = len(hp.bundle.Keys)
	}
	return h
}

// isLeftAlone says that the host needs something and is not pushed: it is refused, it failed before,
// or an earlier run is at work on it.
func (hp *HostPlan) isLeftAlone() bool {
	return !hp.Push && (hp.Error != "" || hp.State == history.Deploying || hp.isHeld())
}

// leftAs is the outcome of a host that is left alone. One that a rollback finds where it is to go has what
// was asked for.
func (hp *HostPlan) leftAs() history.Outcome {
	if hp.isHeld() && hp.begins {
		return history.OutcomeNothing
	}
	return hp.State.Outcome()
}

// healed says that a host holds what is wanted, though history does not have it as current: one
// that shows its pinned key again, for example.
func (hp *HostPlan) healed() bool {
	return hp.State == history.Current && hp.Follows && hp.last.State != history.Current
}

// failing are the services of the host that a push was undone for, as far as they are known. The host
// names them, and can name no others than those of its bundle.
func (hp *HostPlan) failing(e history.End) (names []string) {
	res, _ := e.Details.(*bundle.Result)
	if res == nil || hp.bundle == nil {
		return nil
	}
	for _, service := range hp.bundle.ServiceNames() {
		if slices.Contains(res.Failing, service) {
			names = append(names, service)
		}
	}
	return names
}
