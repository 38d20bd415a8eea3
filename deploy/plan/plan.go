// Package plan decides what a run does on each host. A plan is a value: what is printed is what is applied.
//
// Wanted is the bundle that the commit asks of a host, last what was deployed there as history has it. A Planner
// keeps what is wanted, and which hosts may differ, from one plan to the next, so that the cost of a plan follows
// what a commit changes. A Comparer holds one against the other; a Backward plans hosts that go back. An Isolation is a
// bundle that is composed of several commits, where services of the newest one fail. Nothing here speaks to a host.
package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"bellhop/deploy/commits"
	"bellhop/internal/bundle"
	"bellhop/internal/fleet"
	"bellhop/internal/history"
	"bellhop/internal/history/results"
	"bellhop/internal/history/services"
	"bellhop/internal/history/stops"
	"bellhop/internal/push"
)

// A Plan is what a run would do, and all that it needs to do it. It is a value: what is printed
// is what is applied.
type Plan struct {
	Snapshot commits.Snapshot
	Fleet    *fleet.Fleet
	Before   *fleet.Fleet  // that was planned before: most hosts hold what it has for them; nil where there is none
	Hosts    []*HostPlan   // those that can need anything, by name; any other host is current
	Gone     []string      // hosts that left the repo with this commit, by name
	Order    [][]*HostPlan // those that a push goes to, in the order of the run
	Request  Request
	Chosen   map[string]bool // nil: all
	changes  changes
	Shared   push.Shared
}

// A HostPlan is what a run would do on one host.
type HostPlan struct {
	Name    string
	State   history.State  // of the host until something is pushed
	Push    bool           // the host will be contacted
	Follows bool           // the host holds what is wanted, as far as history knows
	Error   string         // why it is not pushed
	Reason  results.Reason // with State Unconfirmed
	Changes []bundle.Change
	Units   UnitPlan
	System  *SystemPlan // of a NixOS host, in a plan that is shown; nil otherwise

	evidence []bundle.Evidence // of Error

	Containers []bundle.ContainerChange // of compose projects, if what should run there does

	Host        *fleet.Host
	Bundle      *fleet.Bundle     // nil when it could not be made; composed where services are held back
	Isolation   *Isolation        // how it is composed; nil for a whole bundle
	Hold        *stops.Hold       // a person brought the host back, or it runs a test, and bundle is what it is to hold; nil: neither
	BeginsHold  bool              // hold begins with this plan
	FormerHold  *stops.Hold       // that it takes the place of; nil: the host was not held
	Note        string            // what a person must hear of that
	WhyHoldEnds string            // why the hold of the host ends with this plan; "": none does
	EndedHold   *stops.Hold       // that one
	services    []services.Status // how single services stand; nil: as they did
	Last        history.Host      // as history remembers it
	Elsewhere   bool              // another machine than last time
	Old         *bundle.Manifest  // that last was; nil when unknown
	From        string            // its digest
	Prune       bool              // consent was given
	IsDeployer  bool              // bellhop runs there
	TryAgainAt  time.Time         // when it is tried again; zero when it does not wait for that
}

// Wanted is the digest of the bundle that the host should hold, also where a composed one is pushed.
func (hp *HostPlan) Wanted() string {
	if hp.Hold != nil {
		return hp.Hold.Wanted
	}
	if hp.Isolation != nil {
		return hp.Isolation.Whole.Digest
	}
	return hp.Bundle.Digest
}

// A UnitPlan is what systemd will be asked to do with units that run, by name.
type UnitPlan = bundle.UnitPlan

func noUnits() UnitPlan {
	return UnitPlan{Start: []string{}, Stop: []string{}, Restart: []string{}, Reload: []string{}}
}

// Changing lists the hosts that a push will go to, by name.
func (p *Plan) Changing() []*HostPlan {
	var hs []*HostPlan
	for _, h := range p.Hosts {
		if h.Push {
			hs = append(hs, h)
		}
	}
	return hs
}

// Chose says that the request chose the host.
func (p *Plan) Chose(host string) bool { return p.Chosen == nil || p.Chosen[host] }

// Selected counts the hosts that the request chose.
func (p *Plan) Selected() int {
	if p.Chosen != nil {
		return len(p.Chosen)
	}
	return len(p.Fleet.Hosts)
}

// Sentence says the plan in one line: "2 of 5 hosts change, 1 unit restarts".
func (p *Plan) Sentence() string {
	var change, same, refused, held int
	var up UnitPlan
	containers := map[string]int{}
	for _, h := range p.Hosts {
		switch {
		case h.Push && len(h.Changes) == 0:
			same++
		case h.Push:
			change++
			for _, c := range h.Containers {
				containers[c.Action]++
			}
			up.Start, up.Stop = append(up.Start, h.Units.Start...), append(up.Stop, h.Units.Stop...)
			up.Restart, up.Reload = append(up.Restart, h.Units.Restart...), append(up.Reload, h.Units.Reload...)
		case h.Error != "" && p.Chose(h.Name):
			refused++
		case h.IsHeld() && p.Chose(h.Name):
			held++
		}
	}

	parts := []string{fmt.Sprintf("%d of %d %s %s", change, p.Selected(), plural(p.Selected(), "host"), verb(change, "change"))}
	for _, c := range []struct {
		n    int
		what string
	}{{len(up.Restart), "restart"}, {len(up.Reload), "reload"}, {len(up.Start), "start"}, {len(up.Stop), "stop"}} {
		if c.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s %s", c.n, plural(c.n, "unit"), verb(c.n, c.what)))
		}
	}

	if n := containers[bundle.Restart]; n > 0 {
		parts = append(parts, fmt.Sprintf("%d %s %s", n, plural(n, "container"), verb(n, "restart")))
	}
	if n := containers[bundle.Create] + containers[bundle.Recreate] + containers[bundle.Remove]; n > 0 {
		parts = append(parts, fmt.Sprintf("%d %s %s", n, plural(n, "container"), verb(n, "change")))
	}

	if same > 0 {
		parts = append(parts, fmt.Sprintf("%d %s looked at", same, isAre(same)))
	}

	if refused > 0 {
		parts = append(parts, fmt.Sprintf("%d %s not pushed", refused, isAre(refused)))
	}
	if held > 0 {
		parts = append(parts, fmt.Sprintf("%d %s held", held, isAre(held)))
	}
	return strings.Join(parts, ", ")
}

func plural(n int, noun string) string {
	if n == 1 {
		return noun
	}
	return noun + "s"
}

func verb(n int, v string) string {
	if n == 1 {
		return v + "s"
	}
	return v
}

func isAre(n int) string {
	if n == 1 {
		return "is"
	}
	return "are"
}

// PlanJSON is a plan as --json prints it; its shape is a contract.
type PlanJSON struct {
	V      int            `json:"v"`
	Commit *string        `json:"commit"` // null for a tree that is no commit
	Digest string         `json:"digest"` // see Plan.Digest
	Hosts  []HostPlanJSON `json:"hosts"`
	Waves  [][]string     `json:"waves"` // the hosts that are pushed to, in the order of the run
}

// HostPlanJSON is one host of a plan; a host that does not change has empty lists.
type HostPlanJSON struct {
	Name    string          `json:"name"`
	Changes []bundle.Change `json:"changes"`
	Units   UnitPlan        `json:"units"`

	Containers []bundle.ContainerChange `json:"containers,omitempty"` // of compose projects
	System     *SystemPlan              `json:"system,omitempty"`     // of a NixOS host that changes
}

// JSON is p as --json prints it: every chosen host, by name.
func (p *Plan) JSON() PlanJSON {
	j := PlanJSON{V: history.Version, Digest: p.Digest(), Hosts: []HostPlanJSON{}, Waves: p.Waves()}
	if p.Snapshot.Commit != "" {
		j.Commit = &p.Snapshot.Commit
	}

	plans := map[string]*HostPlan{}
	for _, h := range p.Hosts {
		plans[h.Name] = h
	}

	for _, h := range p.Fleet.Hosts {
		if !p.Chose(h.Name) {
			continue
		}
		hj := HostPlanJSON{Name: h.Name, Changes: []bundle.Change{}, Units: noUnits()}
		if hp := plans[h.Name]; hp != nil && hp.Push {
			hj.Changes, hj.Units = append(hj.Changes, hp.Changes...), hp.Units
			hj.Containers = append(hj.Containers, hp.Containers...)
			hj.System = hp.System
		}
		j.Hosts = append(j.Hosts, hj)
	}
	return j
}

// HasChanges says that applying p would change a host.
func (p *Plan) HasChanges() bool {
	return slices.ContainsFunc(p.Hosts, func(h *HostPlan) bool { return h.Push && len(h.Changes) > 0 })
}
