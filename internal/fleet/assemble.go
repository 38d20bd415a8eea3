package fleet

import (
	"fmt"
	"maps"
	"net"
	"reflect"
	"slices"
	"strings"

	"bellhop/internal/fleet/inventory"
	"bellhop/internal/fleet/problem"
	"bellhop/internal/fleet/service"
	"bellhop/internal/fleet/template"
	"bellhop/internal/fleet/tree"
)

// A fleet is assembled from the one before it. BenchmarkRatioReplan in package deploy: with every host assembled
// anew at each commit, a commit that touches one service of ten hosts takes half a second and more of a fleet of
// 10,000 hosts, against 13 ms (medians of eleven on a busy machine), and 7 to 11 times as long as of 1,000 hosts, against at most
// 2 times. The price is differing and what it compares with: the slots and views that a Fleet keeps by host.

// assemble joins config and services into hosts, starting from last, the newest fleet that
// loaded whole. Only hosts that have something which differs are looked at.
func (f *Fleet) assemble(last *Fleet) problem.Problems {
	a := &assembly{Fleet: f, last: last, settings: map[string]map[string]any{}, sets: map[string]bool{}}
	if last != nil && last.config == f.config {
		f.Hosts, f.slots, f.views = last.Hosts, last.slots, last.views
		f.view, f.viewers = last.view, last.viewers
		a.differing()
	} else {
		a.everything()
	}

	return a.problems
}

// An assembly is one Load's work on hosts.
type assembly struct {
	*Fleet
	last     *Fleet
	cloned   bool
	settings map[string]map[string]any // by service and enabled service, shared by hosts
	sets     map[string]bool           // sets of services that were held against each other
	problems problem.Problems
	names    []string // of services; made when the first is missing
	hints    problem.Hints
}

// own makes the lists of hosts ours before they are written to.
func (a *assembly) own() {
	if !a.cloned {
		a.Hosts, a.slots = slices.Clone(a.Hosts), slices.Clone(a.slots)
		a.views, a.viewers = slices.Clone(a.views), slices.Clone(a.viewers)
		a.cloned = true
	}
}

// differing looks at the hosts that have a service which differs from last's.
func (a *assembly) differing() {
	changed := map[string]bool{}
	for name, s := range a.services {
		if a.last.services[name] != s {
			changed[name] = true
		}
	}

	for name := range a.last.services {
		if a.services[name] == nil {
			changed[name] = true
		}
	}

	var hosts []int
	if a.last.logins != a.logins {
		for i := range a.config.Hosts {
			hosts = append(hosts, i)
		}
	}
	if len(changed)+len(hosts) == 0 {
		return
	}

	for _, name := range slices.Sorted(maps.Keys(changed)) {
		a.check(name)
		hosts = append(hosts, a.config.Users[name]...)
	}

	slices.Sort(hosts)
	hosts = slices.Compact(hosts)
	a.own()
	same := true
	for _, i := range hosts {
		h := a.bind(a.config.Hosts[i])
		if reflect.DeepEqual(h, a.Hosts[i]) {
			h = a.Hosts[i]
		} else {
			same, a.views[i] = false, nil
		}

		a.Hosts[i] = h
	}

	if !same {
		a.view = nil
		hosts = append(hosts, a.viewers...)
		slices.Sort(hosts)
		hosts = slices.Compact(hosts)
	}

	for _, i := range hosts {
		a.fill(i)
	}
}

// everything looks at all hosts, and takes over those of last that came out the same.
func (a *assembly) everything() {
	a.cloned = true
	for name := range a.config.Places {
		a.check(name)
	}

	a.Hosts = make([]*inventory.Host, len(a.config.Hosts))
	a.slots = make([]*slot, len(a.config.Hosts))
	a.views = make([]*template.HostView, len(a.config.Hosts))
	same := a.last != nil && len(a.last.Hosts) == len(a.Hosts) && a.last.Network == a.Network
	for i, facts := range a.config.Hosts {
		h := a.bind(facts)
		if a.last != nil {
			if was, ok := a.last.find(h.Name); ok && reflect.DeepEqual(h, a.last.Hosts[was]) {
				h, a.views[i] = a.last.Hosts[was], a.last.views[was]
			} else {
				same = false
			}
		}

		a.Hosts[i] = h
	}

	if same {
		a.view = a.last.view
	}

	for i := range a.Hosts {
		a.fill(i)
	}
}

// check holds every switch of a service against it.
func (a *assembly) check(name string) {
	places := a.config.Places[name]
	if len(places) == 0 {
		return
	}
	s := a.services[name]
	for _, p := range places {
		if s == nil || name == "" {
			a.problems = append(a.problems, inventory.UnknownService(p, a.meant(name)))
		} else {
			a.problems = append(a.problems, inventory.CheckSwitch(p, s.Service)...)
		}
	}
}

// meant is a question that ends a message on a service that is not there.
func (a *assembly) meant(name string) string {
	if a.names == nil {
		a.names = slices.DeleteFunc(slices.Sorted(maps.Keys(a.services)), func(n string) bool { return n == "" })
	}
	return a.hints.DidYouMean(name, a.names)
}

// bind is a host with the settings of its services.
func (a *assembly) bind(facts *inventory.Facts) *inventory.Host {
	h := &inventory.Host{}
	*h = facts.Host
	h.Settings = make(map[string]map[string]any, len(facts.Enabled))
	for _, w := range facts.Enabled {
		s := a.services[w.Service]
		if s == nil {
			continue
		}
		h.Services = append(h.Services, w.Service)
		h.Settings[w.Service] = a.settle(s.Service, w)
	}

	return h
}

// settle is the defaults of a service with an enabled service's settings over them.
func (a *assembly) settle(s *service.Service, w inventory.EnabledService) map[string]any {
	if len(w.Set) == 0 {
		return s.Settings
	}

	key := s.Name + "\x00" + w.Key
	m := a.settings[key]
	if m == nil {
		m = maps.Clone(s.Settings)
		for _, set := range w.Set {
			if def, known := m[set.Name]; known {
				m[set.Name] = inventory.AsDefault(def, set.Value)
			}
		}

		a.settings[key] = m
	}

	return m
}

// fill gives a host its slot: the old one when all it comes from is the same.
func (a *assembly) fill(i int) {
	h := a.Hosts[i]
	s := &slot{host: h}
	view := a.viewFor(i)
	usesFleet := false
	var failed problem.Problems
	for _, w := range a.config.Hosts[i].Enabled {
		state := a.services[w.Service]
		if state == nil {
			continue
		}
		s.states = append(s.states, state)
		if refusing(state.Problems) && !a.loader.Former {
			continue // it is a problem already; a rendering would only repeat it
		}
		r := state.renderer.Render(h.Settings[w.Service], w.Key, view, a.fleetView, a.loader.budget)
		failed = append(failed, r.Problems...)
		failed = append(failed, a.unpinned(r.Unpinned)...)
		for _, l := range r.Logins {
			if p := l.ShutsOut(h.User, a.Deployer); p != "" {
				failed = append(failed, &problem.Problem{File: l.Source, Message: fmt.Sprintf("host %s: %s", h.Name, p)})
			}
		}

		s.renders = append(s.renders, r)
		s.asksArch = s.asksArch || state.Package.NeedsArch()
		usesFleet = usesFleet || r.Scope.UsedFleet
	}

	a.problems = append(a.problems, failed...)
	a.collisions(s.states)
	a.addLogins(i, s)
	a.watchFleet(i, usesFleet)
	if old := a.slotBefore(h); old != nil && old.holdsSame(s) && old.host.Arch == h.Arch {
		s = old
	}

	a.slots[i] = s
}

// unpinned are images without a digest, as bad as the network has it.
func (a *assembly) unpinned(ps problem.Problems) problem.Problems {
	if !a.config.Pinned {
		return ps
	}
	out := make(problem.Problems, len(ps))
	for i, p := range ps {
		refused := *p
		refused.Warning = false
		out[i] = &refused
	}
	return out
}

// holdsSame says whether a host of this slot gets the same services, rendered the same, as one of o.
func (s *slot) holdsSame(o *slot) bool {
	return slices.Equal(s.states, o.states) && slices.Equal(s.renders, o.renders)
}

// refusing says whether one of ps is more than a warning.
func refusing(ps problem.Problems) bool {
	return slices.ContainsFunc(ps, func(p *problem.Problem) bool { return !p.Warning })
}

func (a *assembly) slotBefore(h *inventory.Host) *slot {
	if a.last == nil || a.last.Network != a.Network {
		return nil
	}
	if i, ok := a.last.config.ByName[h.Name]; ok {
		return a.last.slots[i]
	}
	return nil
}

// watchFleet keeps the list of hosts that change when any host does.
func (a *assembly) watchFleet(i int, uses bool) {
	at, has := slices.BinarySearch(a.viewers, i)
	switch {
	case uses && !has:
		a.viewers = slices.Insert(a.viewers, at, i)
	case !uses && has:
		a.viewers = slices.Delete(a.viewers, at, at+1)
	}
}

// fleetView is what templates see of all hosts, made when the first one looks.
func (f *Fleet) fleetView() *template.FleetView {
	if f.view == nil {
		f.view = &template.FleetView{Network: f.Network}
		for i := range f.Hosts {
			f.view.Hosts = append(f.view.Hosts, f.viewFor(i))
		}
	}
	return f.view
}

// viewFor is what templates see of a host; it is made once, so that it can be part of a key.
func (f *Fleet) viewFor(i int) *template.HostView {
	if f.views[i] == nil {
		f.views[i] = viewOf(f.Hosts[i])
	}
	return f.views[i]
}

// collisions holds the services of one host against each other, once for each set of them.
func (a *assembly) collisions(states []*serviceState) {
	if len(states) < 2 {
		return
	}

	var key strings.Builder
	ss := make([]*service.Service, len(states))
	for i, s := range states {
		ss[i] = s.Service
		key.WriteString(s.Name + "\x00")
	}

	if !a.sets[key.String()] {
		a.sets[key.String()] = true
		a.problems = append(a.problems, service.Collide(ss)...)
	}
}

// prune forgets what no service of the newest fleet comes from.
func (l *Loader) prune() {
	c := &l.cache
	live := 0
	for _, s := range c.services {
		live += len(s.Objects)
		s.renderer.Prune(len(c.last.config.Users[s.Name]), c.last.view, c.last.sees)
	}

	if len(c.blobs) > 2*live+100 {
		keep := make(map[string]*tree.Blob, live)
		for _, s := range c.services {
			for h, b := range s.Blobs {
				keep[h] = b
			}
		}

		c.blobs = keep
	}
}

// sees says whether v is what templates see of a host now.
func (f *Fleet) sees(v *template.HostView) bool {
	i, ok := f.find(v.Name)
	return ok && f.views[i] == v
}

// Changed lists the hosts whose bundle may differ from that in since, an earlier fleet of the
// same Loader; all of them when since is nil. Hosts that left are not in it.
func (f *Fleet) Changed(since *Fleet) []*inventory.Host {
	var out []*inventory.Host
	for i, s := range f.slots {
		if since != nil && f.Hosts[i].NixOS == nil { // a system may differ although no service does
			if j := i; j < len(since.slots) && since.slots[j] == s {
				continue
			}
			if j, ok := since.config.ByName[f.Hosts[i].Name]; ok && since.slots[j] == s {
				continue
			}
		}
		out = append(out, f.Hosts[i])
	}

	return out
}

// viewOf is what a template may know of h.
func viewOf(h *inventory.Host) *template.HostView {
	v := template.HostView{Name: h.Name, Tags: h.Tags, Services: h.Services, Settings: h.Settings, Vars: h.Vars}
	for _, a := range h.Addresses {
		if host, _, err := net.SplitHostPort(a); err == nil {
			v.Addresses = append(v.Addresses, host)
		}
	}

	if len(v.Addresses) > 0 {
		v.Address = v.Addresses[0]
	}
	return template.NewHostView(v, h.Arch)
}
