package render

import (
	"maps"
	"slices"
	"strings"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet/service"
	"bellhop/internal/fleet/syntax"
	"bellhop/internal/unitfile"
)

// A unitPlan is one unit on its way into the bundle: a unit file with its drop-ins, or the
// drop-ins of a unit that is not ours.
type unitPlan struct {
	name      string // as systemd knows it: a quadlet's generated name
	file      string // name of the unit file; "" when it is not ours
	rule      *syntax.UnitRule
	text      unitfile.Unit
	paths     []string
	quadlet   bool
	activator bool
	activated []*unitPlan // by these
}

// plan decides what systemd does with the service's units.
func (r *Rendering) plan(texts map[string][]byte) {
	plans := r.collect(texts)
	for _, p := range plans {
		if p.file == "" {
			continue
		}
		if to, ok := plans[p.text.Activates(p.name)]; ok && to.file != "" && to != p {
			p.activator = true
			to.activated = append(to.activated, p)
		}
	}

	for _, name := range slices.Sorted(maps.Keys(plans)) {
		r.decide(plans[name], plans)
	}
}

// unitPlans are the plans of a service by the names that systemd knows the units by.
type unitPlans struct {
	byName map[string]*unitPlan
	byFile map[string]*unitPlan // by the name of the unit file, which of a quadlet is another
}

// get is the plan of a unit, made if there is none.
func (ps *unitPlans) get(name string) *unitPlan {
	if p := ps.byFile[name]; p != nil {
		return p
	}
	if ps.byName[name] == nil {
		ps.byName[name] = &unitPlan{name: name}
	}
	return ps.byName[name]
}

// collect joins unit files with their drop-ins, and adds the units that service.yaml names.
func (r *Rendering) collect(texts map[string][]byte) map[string]*unitPlan {
	plans := &unitPlans{byName: map[string]*unitPlan{}, byFile: map[string]*unitPlan{}}
	for i := range r.Service.Units {
		if u := &r.Service.Units[i]; !u.IsDropin {
			p := newUnitPlan(u, texts[u.Path])
			plans.byName[p.name], plans.byFile[u.Name] = p, p
		}
	}

	for i := range r.Service.Units {
		if u := &r.Service.Units[i]; u.IsDropin {
			p := plans.get(u.Name)
			p.text.Add(unitfile.Parse(texts[u.Path]))
			p.paths = append(p.paths, u.Path)
		}
	}

	for name, rule := range r.Service.Rules {
		plans.get(name).rule = rule
	}

	for _, k := range r.Service.Keys {
		for _, name := range slices.Concat(k.Restart, k.Reload) {
			if t := unitfile.TemplateOf(name); t == "" || plans.byName[t] == nil {
				plans.get(name)
			}
		}
	}

	return plans.byName
}

// newUnitPlan is the plan of a unit that the service brings a file for.
func newUnitPlan(u *service.Unit, text []byte) *unitPlan {
	p := &unitPlan{name: u.Name, file: u.Name, quadlet: u.IsQuadlet, paths: []string{u.Path}}
	p.text.Add(unitfile.Parse(text))
	if u.IsQuadlet {
		p.name = p.text.Generated(u.Name)
	}
	return p
}

// decide adds the units of one plan: itself, or its instances.
func (r *Rendering) decide(p *unitPlan, plans map[string]*unitPlan) {
	ours := p.file != ""
	if !ours && unitfile.TemplateOf(p.name) != "" && plans[unitfile.TemplateOf(p.name)] != nil {
		return // drop-ins of one instance: taken with its template
	}

	_, kind := unitfile.SplitName(p.name)
	start, enable := p.starts()
	isOneshot := ours && start && p.runsOnce()
	var started []string
	for _, name := range p.names() {
		paths := slices.Clone(p.paths)
		if i := plans[name]; i != nil && i != p {
			paths = append(paths, i.paths...)
		}

		u := bundle.Unit{Name: bundle.UserUnit(r.Service.LingersAs(), name), Service: r.Service.Name, Enable: enable, Start: start, Foreign: !ours, Files: paths, OnChange: bundle.Restart, Oneshot: isOneshot}
		if p.rule != nil && p.rule.OnChange.S != "" {
			u.OnChange = p.rule.OnChange.S
		}
		u.Triggers = r.triggers(p, name, &u)
		u.On = r.keyActions(name, u.OnChange)
		r.units = append(r.units, u)
		if start {
			started = append(started, name)
		}
	}

	r.gate(p, kind, started)
}

// names are those of the units that a plan becomes: its own, or those of a template's instances.
func (p *unitPlan) names() []string {
	if !unitfile.IsTemplate(p.name) {
		return []string{p.name}
	}

	var names []string
	for _, in := range instances(p) {
		names = append(names, unitfile.Instance(p.name, in))
	}

	return names
}

// starts says whether bellhop starts the unit, and whether it enables it. service.yaml decides with enable:.
// Otherwise a unit starts if its [Install] says so, or it starts others; not what another unit starts. A
// unit that is not ours starts if service.yaml names it.
func (p *unitPlan) starts() (start, enable bool) {
	ours := p.file != ""
	installed := p.text.Installs()
	start = installed
	switch {
	case !ours:
		start = p.rule != nil
	case len(p.activated) > 0:
		start = false
	case p.activator || unitfile.IsTemplate(p.name) && p.rule != nil:
		start = true
	}

	enable = start && (installed || !ours)
	if p.rule != nil && p.rule.Enable != nil {
		start, enable = *p.rule.Enable, *p.rule.Enable
	}
	if p.quadlet {
		enable = false // podman's generator links it, by its own [Install]
	}

	return start, enable
}

// runsOnce says whether the unit is a oneshot that bellhop itself starts, not a timer or socket.
func (p *unitPlan) runsOnce() bool {
	_, kind := unitfile.SplitName(p.name)
	if kind != "service" || p.quadlet {
		return false
	}
	return len(p.activated) == 0 && p.text.Oneshot()
}

// instances are those that service.yaml names, for the unit or for what activates it.
func instances(p *unitPlan) []string {
	var out []string
	if p.rule != nil {
		out = p.rule.Instances.Strings()
	}

	for _, a := range p.activated {
		if a.rule != nil {
			out = append(out, a.rule.Instances.Strings()...)
		}
	}

	slices.Sort(out)
	return slices.Compact(out)
}

// gate notes that the unit waits for the service's keys. A unit that is not ours waits only
// if service.yaml names it: a drop-in alone must not hold back what the distribution runs.
func (r *Rendering) gate(p *unitPlan, kind string, started []string) {
	s := r.Service
	canWait := kind == "service" || kind == "socket"
	isNamed := p.file != "" || p.rule != nil
	if !canWait || !isNamed || r.Service.LingersAs() != "" {
		return
	}
	if _, q := unitfile.SplitName(p.file); slices.Contains([]string{"volume", "network", "image", "build"}, q) {
		return
	}

	g := &gate{service: kind == "service", groups: slices.Clone(s.ExtraGroups), starts: started}
	if p.file == "" {
		g.groups = nil
	}
	slices.Sort(g.groups)

	for _, k := range s.Keys {
		g.keys = append(g.keys, k.Key)
	}
	if g.text() != "" {
		r.gates[p.name] = g
	}
}

// triggers lists what acts on a running unit when it changes: its own files, and what it watches.
func (r *Rendering) triggers(p *unitPlan, name string, u *bundle.Unit) []string {
	s := r.Service
	watches := r.watches(p, name)
	var ts []string
	for _, f := range u.Files {
		ts = append(ts, "file:"+f)
	}

	for _, f := range r.files {
		if watches(f.Path) {
			ts = append(ts, "file:"+f.Path)
		}
	}

	for _, l := range r.links {
		if watches(l.Path) {
			ts = append(ts, "link:"+l.Path)
		}
	}

	if s.Package != nil && watches(bundle.PackageDir+"/"+s.Package.Name) {
		ts = append(ts, "package:"+s.Package.Name)
	}

	for _, k := range s.Keys {
		acts := watches(k.Path)
		if len(k.Restart)+len(k.Reload) > 0 {
			acts = slices.Contains(k.Restart, name) || slices.Contains(k.Reload, name)
		}
		if acts {
			ts = append(ts, "key:"+k.Name)
		}
	}

	slices.Sort(ts)
	return slices.Compact(ts)
}

// watches says which paths of its service move a unit: those of watch:, if service.yaml has it. Otherwise
// everything moves what runs a program; a timer, socket or mount is moved only by its own files.
func (r *Rendering) watches(p *unitPlan, name string) func(path string) bool {
	if p.rule != nil && len(p.rule.Watch) > 0 {
		return func(path string) bool { return service.Watches(p.rule.Watch, path) }
	}

	isUnit := func(u service.Unit) bool { return u.Name == name }
	isNamed := p.file != "" || p.rule != nil || slices.ContainsFunc(r.Service.Units, isUnit)
	runs := isNamed && strings.HasSuffix(name, ".service") // else it is here only because a key names it
	return func(string) bool { return runs }
}

// keyActions is what single keys do to a unit when they change, where that is not what all else does; nil
// when there is none.
func (r *Rendering) keyActions(name, onChange string) map[string]string {
	var on map[string]string
	for _, k := range r.Service.Keys {
		does := ""
		switch {
		case slices.Contains(k.Restart, name):
			does = bundle.Restart
		case slices.Contains(k.Reload, name):
			does = bundle.Reload
		}
		if does == "" || does == onChange {
			continue
		}

		if on == nil {
			on = map[string]string{}
		}
		on["key:"+k.Name] = does
	}

	return on
}
