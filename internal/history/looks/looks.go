// Package looks says what a host showed when it was read last, without being changed: a look.
//
// A look finds units that failed, and drift: things on the host that are not as the bundle there has
// them. A push changes some of that, and the look is brought in step with it until the next one.
package looks

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/history/hosttable"
)

// A Look is what a host showed when it was read last, without being changed. It is no run. Its texts
// are fit to be shown.
type Look struct {
	At time.Time `json:"at"` // zero: nobody looked yet, and Units and Running are what a run said at its end
	// Unknown says that the helper there is of a release that can't look: nothing else is known.
	Unknown        bool         `json:"unknown,omitempty"`
	RebootRequired bool         `json:"reboot_required,omitempty"`
	Running        int          `json:"running,omitempty"` // units of the bundle that run
	Failed         []FailedUnit `json:"failed,omitempty"`
	Drift          []Drift      `json:"drift,omitempty"` // the first of them, at most KeepDrift
	Drifted        int          `json:"drifted,omitempty"`
	// Units are how the units and containers of the bundle do, by name, as UnitWord has it; nil where the helper is of a
	// release that does not tell.
	Units map[string]string `json:"units,omitempty"`
}

// KeepDrift is how many single things of a host's drift are remembered; all are counted.
const KeepDrift = 200

// A FailedUnit is a unit of the bundle that failed.
type FailedUnit struct {
	Name   string     `json:"name"`
	Result string     `json:"result"` // as systemd has it: exit-code, signal, timeout …
	Since  *time.Time `json:"since"`  // null when the host does not say
}

// A Drift is one thing on a host that is not as the bundle there has it.
type Drift struct {
	Kind string `json:"kind"` // file, link, unit … as in a plan
	Name string `json:"name"`
	What string `json:"what"` // edited, missing, stopped …
}

// UnitStatus is how the units of the bundle do on a host. Its JSON is a contract.
type UnitStatus struct {
	Running int          `json:"running"`
	Failed  []FailedUnit `json:"failed"`
}

// Equal says that o is the same look with the same finding.
func (l Look) Equal(o Look) bool {
	if !l.At.Equal(o.At) || l.Unknown != o.Unknown || l.RebootRequired != o.RebootRequired {
		return false
	}
	if l.Running != o.Running || l.Drifted != o.Drifted {
		return false
	}

	sameUnits := slices.EqualFunc(l.Failed, o.Failed, FailedUnit.equal) && maps.Equal(l.Units, o.Units)
	return sameUnits && slices.Equal(l.Drift, o.Drift)
}

func (u FailedUnit) equal(o FailedUnit) bool {
	return u.Name == o.Name && u.Result == o.Result && sameTime(u.Since, o.Since)
}

// sameTime says that both are the same moment, or that neither is known.
func sameTime(a, b *time.Time) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Equal(*b)
}

// Stored is how the last look at each host is stored.
func Stored() hosttable.Layout[Look] {
	return hosttable.JSON("looks", "found", "the look", Look.Equal)
}

// DriftText names the first things that differ.
func (l Look) DriftText() string {
	var parts []string
	for _, d := range l.Drift[:min(3, len(l.Drift))] {
		parts = append(parts, d.Kind+" "+d.Name+" "+d.What)
	}

	text := strings.Join(parts, ", ")
	if more := l.Drifted - len(parts); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}

	return text
}

// AfterRun is l after a run ended well: what was edited on the host is put back. A run that changed
// nothing leaves more as it is.
func (l Look) AfterRun(changedNothing bool) Look {
	l.Drift = slices.DeleteFunc(slices.Clone(l.Drift), func(d Drift) bool { return !d.outlives(changedNothing) })
	l.Drifted = len(l.Drift)
	return l
}

// With is l with what such a run says of units: those that it left stopped differ, those that it started run.
// l.Drift belongs to the caller.
func (l Look) With(res *bundle.Result) Look {
	for _, unit := range res.Drifted[:min(len(res.Drifted), KeepDrift)] {
		l.Drift = append(l.Drift, Drift{Kind: bundle.KindUnit, Name: unit, What: bundle.DriftStopped})
	}

	l.Drifted += len(res.Drifted)
	l.startedAgain(slices.Concat(res.Started, res.Restarted))
	l.Units = maps.Clone(l.Units) // history has the one before
	l.say(res.Drifted, "inactive")
	l.say(slices.Concat(res.Started, res.Restarted), StartedWord)
	l.hear(res.Units)
	return l
}

// OfRun is what is known of a host that nobody looked at yet, by what a run said at its end; false where it said nothing.
func OfRun(res *bundle.Result) (l Look, ok bool) {
	l.hear(res.Units)
	for _, u := range res.Units {
		if u.Active == "active" {
			l.Running++
		}
	}
	return l, len(res.Units) > 0
}

// IsOfRun says that nobody looked at the host yet.
func (l Look) IsOfRun() bool { return l.At.IsZero() }

// hear notes how units do.
func (l *Look) hear(units []bundle.UnitSeen) {
	if l.Units == nil && len(units) > 0 {
		l.Units = map[string]string{}
	}
	for _, u := range units {
		l.Units[u.Name] = UnitWord("", u.Active, u.Sub)
	}
}

// HasFailed says that a unit is in the state "failed".
func (l Look) HasFailed() bool {
	for _, word := range l.Units {
		if strings.HasPrefix(word, "failed") {
			return true
		}
	}
	return false
}

// StartedWord is how a unit does that a run started, until the next look. A helper of a former release does not say more.
const StartedWord = "started"

// UnitWord is how a unit does, in words: "active (running)". Where several containers have one name, so, is what was
// said of the former ones, and what is worst is told.
func UnitWord(so, active, sub string) string {
	if strings.HasPrefix(so, "failed") {
		return so
	}
	if sub == "" || sub == active {
		return active
	}
	return active + " (" + sub + ")"
}

// outlives says that a run which ended well leaves it as it is.
func (d Drift) outlives(changedNothing bool) bool {
	switch d.Kind {
	case bundle.KindUnit:
		return d.What == bundle.DriftDropIn || d.What == bundle.DriftDisabled && changedNothing
	case bundle.KindAccount:
		return slices.Contains([]string{bundle.DriftUID, bundle.DriftGID, bundle.DriftShell, bundle.DriftJoined}, d.What)
	}
	return false
}

// startedAgain takes units that were started out of those that failed.
func (l *Look) startedAgain(units []string) {
	var left []FailedUnit
	for _, f := range l.Failed {
		if slices.Contains(units, f.Name) {
			l.Running++
		} else {
			left = append(left, f)
		}
	}

	l.Failed = left
}

// say notes how units do, where the last look told of units at all.
func (l *Look) say(units []string, word string) {
	for _, unit := range units {
		if l.Units != nil {
			l.Units[unit] = word
		}
	}
}
