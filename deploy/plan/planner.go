package plan

import (
	"maps"
	"slices"
	"sync"

	"bellhop/deploy/commits"
	"bellhop/internal/fleet"
	"bellhop/internal/history"
)

// A Planner keeps what each host is to hold, and which hosts may differ, from one run to the next: the
// cost of a plan follows what a commit changes, not the size of the fleet. The zero value has no fleet.
type Planner struct {
	Steps  sync.Mutex // held from Load until a plan is stored or shown; guards wanted, differ and before
	wanted map[string]*wanted
	differ differing
	before *fleet.Fleet // that Bundles compared with last, until a plan takes it

	mu    sync.Mutex // guards what is read at any time
	fleet *fleet.Fleet
	snap  commits.Snapshot // the commit that was accepted last
}

// A wanted is what one host is to hold, made once for as long as nothing changes.
type wanted struct {
	host   *fleet.Host
	bundle *fleet.Bundle
	err    error
	// partial is the bundle where services of it can't be made, which err tells; nil otherwise.
	partial *fleet.Bundle
}

// A differing lists what was found to differ since a plan was stored last. A run that fails before
// that, or a plan that is only shown, must not make the next one overlook a host.
type differing struct {
	all   bool
	hosts map[string]bool
	gone  []string
}

// Bundles makes the bundle of each host that f may have changed, and keeps the rest. It returns
// whether the list of hosts is another than before. It is called under steps.
func (p *Planner) Bundles(f *fleet.Fleet, db *history.DB) (listChanged bool) {
	former := p.LastFleet()
	p.before = former
	if former == nil {
		p.wanted, p.differ = map[string]*wanted{}, differing{all: true, hosts: map[string]bool{}}
	}

	for _, h := range f.Changed(former) {
		p.want(f, h)
	}
	for name, w := range p.wanted {
		if w.err == nil {
			continue
		}
		if h, ok := f.Host(name); ok { // what was learned on contact may have mended it
			p.want(f, h)
		}
	}

	listChanged = former == nil || !slices.Equal(former.Hosts, f.Hosts)
	if listChanged {
		p.follow(f, db)
	}
	p.mu.Lock()
	p.fleet = f
	p.mu.Unlock()
	return listChanged
}

// takeBefore is the fleet that was planned before the newest, once: no plan keeps it longer than itself.
func (p *Planner) takeBefore() *fleet.Fleet {
	before := p.before
	p.before = nil
	return before
}

// follow takes over a changed list of hosts: who left, who came, who is reached by another route.
func (p *Planner) follow(f *fleet.Fleet, db *history.DB) {
	for name := range p.wanted {
		if _, ok := f.Host(name); !ok {
			delete(p.wanted, name)
			delete(p.differ.hosts, name)
		}
	}

	p.differ.gone = nil
	for name, h := range db.Hosts() {
		if _, ok := f.Host(name); !ok && h.State != history.Released {
			p.differ.gone = append(p.differ.gone, name)
		}
	}
	slices.Sort(p.differ.gone)

	for _, h := range f.Hosts {
		switch w := p.wanted[h.Name]; {
		case w == nil:
			p.want(f, h)
		case w.host != h:
			w.host, p.differ.hosts[h.Name] = h, true
		}
	}
}

// want notes what h is to hold, and that it differs unless that is what was noted before.
func (p *Planner) want(f *fleet.Fleet, h *fleet.Host) {
	b, err := f.Bundle(h.Name)
	now := &wanted{host: h, bundle: b, err: err}
	if err != nil && f.Isolate {
		now.partial, _ = f.Partial(h.Name) // that it can't be had is what err tells
	}
	before := p.wanted[h.Name]
	switch {
	case before != nil && err == nil && *before == *now:
		return
	case before != nil && now.lacks(before):
		p.wanted[h.Name] = now // it is marked already, or history has it so
		return
	}
	p.wanted[h.Name], p.differ.hosts[h.Name] = now, true
}

// lacks says that w can't be made for the same reason as before. Each run tries it anew, and its error is another
// one that says the same.
func (w *wanted) lacks(before *wanted) bool {
	if w.host != before.host || w.err == nil || before.err == nil {
		return false
	}
	isSamePart := w.partial == nil && before.partial == nil
	if w.partial != nil && before.partial != nil {
		isSamePart = w.partial.Digest == before.partial.Digest
	}
	return isSamePart && w.err.Error() == before.err.Error()
}

// candidates are the hosts that can need anything, by name: those that the commit may have
// changed, those that history has as unfinished, and those that a person asked to contact. It is
// called under steps.
func (p *Planner) candidates(f *fleet.Fleet, unfinished []string, asked []*fleet.Host) []string {
	names := maps.Clone(p.differ.hosts)
	if p.differ.all {
		for _, h := range f.Hosts {
			names[h.Name] = true
		}
	}

	for _, name := range unfinished {
		if _, ok := p.wanted[name]; ok {
			names[name] = true
		}
	}
	for _, h := range asked {
		names[h.Name] = true
	}
	return slices.Sorted(maps.Keys(names))
}

// IsNew says that a plan differs from what history has. It is called under steps.
func (p *Planner) IsNew(plan *Plan, db *history.DB) bool {
	if len(plan.Changing()) > 0 || len(plan.Gone) > 0 || len(p.differ.hosts) > 0 {
		return true
	}
	return db.Top() != plan.Snapshot.Commit || slices.ContainsFunc(plan.Hosts, (*HostPlan).isNews)
}

// Stored begins anew with what differs: history has the plan. It is called under steps.
func (p *Planner) Stored() { p.differ = differing{hosts: map[string]bool{}} }

// LastFleet is the fleet of the newest plan; nil before the first.
func (p *Planner) LastFleet() *fleet.Fleet {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fleet
}

// Accept notes the commit that was accepted last.
func (p *Planner) Accept(snap commits.Snapshot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.snap = snap
}

// Accepted is the commit that was accepted last by this process; one without a tree before the first.
func (p *Planner) Accepted() commits.Snapshot {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.snap
}
