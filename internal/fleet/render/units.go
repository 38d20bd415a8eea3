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

// collect joins unit files with their drop-ins, and adds the units that service.yaml names.
func (r *Rendering) collect(texts map[string][]byte) map[string]*unitPlan {
	plans := map[string]*unitPlan{}
	byFile := map[string]*unitPlan{}
	for i := range r.Service.Units {
		u := &r.Service.Units[i]
		if u.IsDropin {
			continue
		}
		p := &unitPlan{name: u.Name, file: u.Name, quadlet: u.IsQuadlet, paths: []string{u.Path}}
		p.text.Add(unitfile.Parse(texts[u.Path]))
		if u.IsQuadlet {
			p.name = p.text.Generated(u.Name)
		}
		plans[p.name], byFile[u.Name] = p, p
	}

	get := func(name string) *unitPlan {
		if p := byFile[name]; p != nil {
			return p
		}
		if plans[name] == nil {
			plans[name] = &unitPlan{name: name}
		}
		return plans[name]
	}

	for i := range r.Service.Units {
		u := &r.Service.Units[i]
		if u.IsDropin {
			p := get(u.Name)
			p.text.Add(unitfile.Parse(texts[u.Path]))
			p.paths = append(p.paths, u.Path)
		}
	}

	for name, rule := range r.Service.Rules {
		get(name).rule = rule
	}
	for _, k := range r.Service.Keys {
		for _, name := range slices.Concat(k.Restart, k.Reload) {
			if t := unitfile.TemplateOf(name); t == "" || plans[t] == nil {
				get(name)
			}
		}
	}

	return plans
}

// decide adds the units of one plan: itself, or its instances.
func (r *Rendering) decide(p *unitPlan, plans map[string]*unitPlan) {
	_, kind := unitfile.SplitName(p.name)
	ours := p.file != ""
	if !ours && unitfile.TemplateOf(p.name) != "" && plans[unitfile.TemplateOf(p.name)] != nil {
		return // drop-ins of one instance: taken with its template
	}
	names := []string{p.name}
	if unitfile.IsTemplate(p.name) {
		names = nil
		for _, in := range instances(p) {
			names = append(names, unitfile.Instance(p.name, in))
		}
	}

	installed := p.text.Installs()
	start := installed
	switch {
	case !ours:
		start = p.rule != nil
	case len(p.activated) > 0:
		start = false
	case p.activator || unitfile.IsTemplate(p.name) && p.rule != nil:
		start = true
	}

	enable := start && (installed || !ours)
	if p.rule != nil && p.rule.Enable != nil {
		start, enable = *p.rule.Enable, *p.rule.Enable
	}
	if p.quadlet {
		enable = false // podman's generator links it, by its own [Install]
	}
	var started []string
	for _, name := range names {
		paths := slices.Clone(p.paths)
		if i := plans[name]; i != nil && i != p {
			paths = append(paths, i.paths...)
		}
		u := bundle.Unit{Name: name, Service: r.Service.Name, Enable: enable, Start: start, Foreign: !ours, Files: paths}
		u.OnChange = bundle.Restart
		if p.rule != nil && p.rule.OnChange.S != "" {
			u.OnChange = p.rule.OnChange.S
		}
		u.Oneshot = ours && start && kind == "service" && !p.quadlet && len(p.activated) == 0 && p.text.Oneshot()
		u.Triggers = r.triggers(p, name, &u)
		r.units = append(r.units, u)
		if start {
			started = append(started, name)
		}
	}

	r.gate(p, kind, started)
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
	if kind != "service" && kind != "socket" || p.file == "" && p.rule == nil {
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

// triggers lists what acts on a running unit when it changes. What runs a program is moved by
// everything of its service; a timer, socket or mount only by its own files.
func (r *Rendering) triggers(p *unitPlan, name string, u *bundle.Unit) []string {
	s := r.Service
	var ts []string
	for _, f := range u.Files {
		ts = append(ts, "file:"+f)
	}
	wanted := func(string) bool { return strings.HasSuffix(name, ".service") }
	named := slices.ContainsFunc(s.Units, func(x service.Unit) bool { return x.Name == name }) || p.rule != nil
	if p.file == "" && !named {
		wanted = func(string) bool { return false } // here only because a key names it
	}
	if p.rule != nil && len(p.rule.Watch) > 0 {
		wanted = func(at string) bool { return service.Watches(p.rule.Watch, at) }
	}
	for _, f := range r.files {
		if wanted(f.Path) {
			ts = append(ts, "file:"+f.Path)
		}
	}

	for _, l := range r.links {
		if wanted(l.Path) {
			ts = append(ts, "link:"+l.Path)
		}
	}

	if s.Package != nil && wanted(bundle.PackageDir+"/"+s.Package.Name) {
		ts = append(ts, "package:"+s.Package.Name)
	}
	for _, k := range s.Keys {
		hit := wanted(k.Path)
		if len(k.Restart)+len(k.Reload) > 0 {
			hit = slices.Contains(k.Restart, name) || slices.Contains(k.Reload, name)
		}
		if hit {
			ts = append(ts, "key:"+k.Name)
		}
		does := ""
		switch {
		case slices.Contains(k.Restart, name):
			does = bundle.Restart
		case slices.Contains(k.Reload, name):
			does = bundle.Reload
		}

		if does != "" && does != u.OnChange {
			if u.On == nil {
				u.On = map[string]string{}
			}
			u.On["key:"+k.Name] = does
		}
	}

	slices.Sort(ts)
	return slices.Compact(ts)
}
