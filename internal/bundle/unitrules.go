package bundle

import (
	"cmp"
	"slices"
	"strings"
)

// What systemd does with a unit is decided here alone. The host asks DecideUnit with what it reads
// of its systemd, and the deployer's plan asks PreviewUnits, which assumes that what should run does.

// UnitFacts are what a host's systemd says of one unit, as far as the rules look at it.
type UnitFacts struct {
	Running      bool // active, or on its way there
	Stopping     bool // on its way down
	Failed       bool // ended badly, and not started since
	Unsuccessful bool // its last run ended badly
	Barred       bool // an Assert…= did not hold when it was started last
	Skipped      bool // a Condition…= did not hold when it was started last
	RanThisBoot  bool
	Enabled      bool

	OtherStack     bool // it ran another compose project, or none and now one, or one and now none: see SameStack
	StaysBack      bool // its service is held back: see Offer.Held
	InstallChanged bool // the [Install] section of its file differs from the former one
	// How it was before bellhop had it; false for what was not there.
	WasEnabled bool
	WasRunning bool
}

// A UnitVerb is what systemd is asked to do with a unit.
type UnitVerb string

// The verbs. A unit that is left alone and runs is VerbKeep: stopping another may take it down, and
// then it is started again.
const (
	VerbNone    UnitVerb = ""
	VerbKeep    UnitVerb = "keep"
	VerbStart   UnitVerb = "start"
	VerbStop    UnitVerb = "stop"
	VerbRestart UnitVerb = "restart"
	VerbReload  UnitVerb = "reload"
	VerbReplace UnitVerb = "replace"  // stopped while its former file stands, and started with the new one
	VerbLeave   UnitVerb = "leave"    // does not run, of a service that is held back: what started it last failed
	VerbDrift   UnitVerb = "drift"    // should run, and was stopped by hand: stays so, and is shown
	VerbKeyUnit UnitVerb = "key unit" // started when not active, never restarted
)

// UnitSteps are what a run does with one unit.
type UnitSteps struct {
	Disable bool // before Enable: a changed [Install] is taken back first
	Enable  bool
	Verb    UnitVerb
	Back    bool // it ran before bellhop had it, and is started when bellhop's own has left
}

// DecideUnit says what a run does with a unit. was is the unit of the manifest that stands, want that
// of the one to come; one of them may be nil. changed tells whether a thing differs, as Unit.Action
// asks it.
func DecideUnit(was, want *Unit, changed func(thing string) bool, now UnitFacts) UnitSteps {
	switch {
	case want == nil && was.Foreign:
		return foreignLeaves(was, changed, now)
	case want == nil:
		return unitLeaves(now)
	}

	steps := enablement(was, want, now)
	if want.KeyUnit {
		steps.Verb = VerbKeyUnit
		return steps
	}

	action := want.Action(changed)
	if was != nil && was.Foreign != want.Foreign {
		action = cmp.Or(want.OnChange, Restart) // another unit under the same name
	}

	steps.Verb = verb(was, want, action, now)
	return steps
}

// unitLeaves: a unit of ours goes, and what had its name before comes back.
func unitLeaves(now UnitFacts) UnitSteps {
	steps := UnitSteps{Disable: now.Enabled, Enable: now.WasEnabled, Back: now.WasRunning}
	if now.Running || now.Failed || now.Stopping {
		steps.Verb = VerbStop
	}

	return steps
}

// foreignLeaves: of a unit that is not ours only the drop-ins go. What bellhop enabled and started for
// the fleet goes back, and what people did is left alone.
func foreignLeaves(was *Unit, changed func(string) bool, now UnitFacts) UnitSteps {
	steps := UnitSteps{Disable: was.Enable && now.Enabled && !now.WasEnabled}
	switch {
	case !now.Running:
	case was.Start && !now.WasRunning:
		steps.Verb = VerbStop
	default:
		steps.Verb = onChange(was.Action(changed), VerbNone)
	}

	return steps
}

func enablement(was, want *Unit, now UnitFacts) UnitSteps {
	switch {
	case want.Enable && (!now.Enabled || now.InstallChanged):
		return UnitSteps{Disable: now.Enabled, Enable: true}
	case want.Enable || !now.Enabled:
		return UnitSteps{}
	case was == nil || !was.Enable:
		return UnitSteps{} // the fleet did not enable it
	}

	asBefore := want.Foreign && now.WasEnabled
	return UnitSteps{Disable: !asBefore}
}

// verb is what is done with a unit that stays or comes.
func verb(was, want *Unit, action string, now UnitFacts) UnitVerb {
	fleetLetsGo := was != nil && was.Start && !want.Start
	ranForFleet := want.Foreign && fleetLetsGo && !now.WasRunning
	staysDown := was != nil && want.Start && now.isDown(want)

	switch {
	case ranForFleet && now.Running:
		return VerbStop // the fleet has only drop-ins for it now
	case now.OtherStack && now.Running && !want.Start:
		return VerbStop
	case now.OtherStack && now.Running:
		return VerbReplace // a restart would stop it as the new file says, which does not know what runs
	case now.StaysBack && staysDown:
		return VerbLeave
	case want.Oneshot && want.Start:
		return oneshotVerb(was, action, now)
	case now.Running:
		return onChange(action, VerbKeep)
	case !want.Start:
		return VerbNone
	}

	asksToStart := was == nil || !was.Start || was.Oneshot // a job ended by itself, and stays from now on
	missedItsKeys := now.Barred && want.WaitsForKeys()
	mayStartNow := now.Skipped && action != "" && action != None // nobody stopped it by hand
	wasHeldBack := missedItsKeys || mayStartNow
	hasFailed := now.Failed || now.Unsuccessful || !now.RanThisBoot
	if asksToStart || wasHeldBack || hasFailed {
		return VerbStart
	}

	return VerbDrift
}

// isDown says that a unit does not run, nobody stopped it by hand, and it does not just wait for its keys,
// which are there by now.
func (f UnitFacts) isDown(want *Unit) bool {
	if waits := f.Barred && want.WaitsForKeys(); f.Running || waits {
		return false
	}

	failed := f.Failed || f.Unsuccessful
	isBarred := f.Barred || f.Skipped
	return failed || isBarred || !f.RanThisBoot
}

// oneshotVerb: a job runs again when something of it changed, or when it has not run or failed.
func oneshotVerb(was *Unit, action string, now UnitFacts) UnitVerb {
	acts := action != "" && action != None
	hasRun := now.RanThisBoot && !now.Failed
	if was != nil && hasRun && !acts {
		return VerbNone
	}

	if now.Running {
		return VerbRestart
	}

	return VerbStart
}

func onChange(action string, otherwise UnitVerb) UnitVerb {
	switch action {
	case Restart:
		return VerbRestart
	case Reload:
		return VerbReload
	}

	return otherwise
}

// SameStack tells whether a unit of the same name in was and in want starts the same compose project, or
// none in both. Only SERVICE.service starts one. was or want may be nil.
func SameStack(before, after *Manifest, was, want *Unit) bool {
	return was == nil || want == nil || stackOf(before, was) == stackOf(after, want)
}

// stackOf is the name of the compose project that u starts; "" is none.
func stackOf(m *Manifest, u *Unit) string {
	if c := m.ServiceOf(u.Service).Compose; c != nil && u.Name == u.Service+".service" {
		return c.Project
	}
	return ""
}

// WaitsForKeys tells whether a key gates u.
func (u *Unit) WaitsForKeys() bool {
	return slices.ContainsFunc(u.Triggers, func(t string) bool { return strings.HasPrefix(t, KindKey+":") })
}

// A UnitPlan is what systemd will be asked to do with units that run, by name.
type UnitPlan struct {
	Start   []string `json:"start"`
	Stop    []string `json:"stop"`
	Restart []string `json:"restart"`
	Reload  []string `json:"reload"`
}

// PreviewUnits says what a host will do on the way from was to want, taking what should run to be
// running, and so what the distribution runs. What a host finds may differ: a unit that was stopped by
// hand stays stopped, a service gives way to a socket that comes.
func PreviewUnits(was, want Manifest, changes []Change) UnitPlan {
	differs := map[string]bool{}
	for _, c := range changes {
		differs[c.Resource()] = true
	}

	changed := func(thing string) bool { return differs[thing] }

	former := map[string]*Unit{}
	for i := range was.Units {
		former[was.Units[i].Name] = &was.Units[i]
	}

	p := UnitPlan{Start: []string{}, Stop: []string{}, Restart: []string{}, Reload: []string{}}
	for i := range want.Units {
		u := &want.Units[i]
		o := former[u.Name]
		delete(former, u.Name)

		facts := assume(o, u)
		facts.OtherStack = !SameStack(&was, &want, o, u)
		p.add(u.Name, DecideUnit(o, u, changed, facts).Verb)
	}

	for name, o := range former {
		if !o.KeyUnit {
			p.add(name, DecideUnit(o, nil, changed, assume(o, nil)).Verb)
		}
	}

	for _, l := range [][]string{p.Start, p.Stop, p.Restart, p.Reload} {
		slices.Sort(l)
	}

	return p
}

func (p *UnitPlan) add(name string, verb UnitVerb) {
	switch verb {
	case VerbStart:
		p.Start = append(p.Start, name)
	case VerbStop:
		p.Stop = append(p.Stop, name)
	case VerbRestart, VerbReplace:
		p.Restart = append(p.Restart, name)
	case VerbReload:
		p.Reload = append(p.Reload, name)
	}
}

// assume is how a unit is taken to be on a host where all is as it should be.
func assume(was, want *Unit) UnitFacts {
	u := cmp.Or(want, was)
	isTemplate := strings.Contains(u.Name, "@.")
	switch {
	case isTemplate:
		return UnitFacts{} // its instances run
	case want == nil:
		return UnitFacts{Running: true, RanThisBoot: true, Enabled: was.Enable, WasRunning: was.Foreign}
	case was == nil:
		return UnitFacts{Running: want.Foreign && !want.Start}
	}

	runs := want.Foreign || was.Start && !was.Oneshot
	return UnitFacts{Running: runs, RanThisBoot: true, Enabled: was.Enable, WasRunning: want.Foreign}
}
