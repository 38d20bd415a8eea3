package fleet

import (
	"maps"
	"path"
	"slices"
	"strings"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet/problem"
	"bellhop/internal/fleet/syntax"
	"bellhop/internal/fleet/template"
	"bellhop/internal/fleet/tree"
	"bellhop/internal/fleet/yaml"
	"bellhop/internal/unitfile"
)

// A renderKey tells renderings of one service apart. Host and fleet are set only when a
// template looked at them, so that hosts with equal settings share the work.
type renderKey struct {
	settings string
	host     *template.HostView
	fleet    *template.FleetView
}

// A rendered is a service with settings filled in: what it adds to a host's bundle, but for
// what depends on the host's other services and its architecture.
type rendered struct {
	svc      *service
	data     template.Scope
	keySpecs []keySpec // svc.keys, with the files of this host as sources
	files    []bundle.File
	links    []bundle.Link
	units    []bundle.Unit
	gates    map[string]*gate // by the unit's file name
	guessed  map[string]bool  // files whose group is that of their user, by path
	content  map[string]content
	logins   []logins
	problems problem.Problems
	judged   *bundle.Service  // nil: by the defaults
	own      problem.Problems // that refuse only the hosts which have this rendering
	refs     []unitRef        // of unit files that are templates
	needs    []SystemdNeed    // of the same
}

// content is where the bytes of a file come from: a blob of the repo, or right here.
type content struct {
	src  string
	data []byte
	text *sharedText // of a far fleet: what holds data
}

// render is s for one host. Equal inputs give the same pointer.
func (s *service) render(settings map[string]any, key string, host *template.HostView, fleet func() *template.FleetView, b *tree.Budget) *rendered {
	for _, k := range []renderKey{{settings: key}, {settings: key, host: host}} {
		r := s.renders[k]
		if r == nil {
			continue
		}
		if r.svc != nil {
			return r
		}
		// A marker: templates of this service look at host or fleet.
		if r.data.UsedFleet {
			full := renderKey{settings: key, host: host, fleet: fleet()}
			if r := s.renders[full]; r != nil {
				return r
			}
		}
	}
	r := s.renderNow(settings, host, fleet, b)
	mark := &rendered{data: template.Scope{UsedHost: r.data.UsedHost, UsedFleet: r.data.UsedFleet}}
	switch {
	case r.data.UsedFleet:
		s.renders[renderKey{settings: key}] = mark
		s.renders[renderKey{settings: key, host: host, fleet: r.data.Fleet}] = r
	case r.data.UsedHost:
		if s.renders[renderKey{settings: key}] == nil {
			s.renders[renderKey{settings: key}] = mark
		}
		s.renders[renderKey{settings: key, host: host}] = r
	default:
		s.renders[renderKey{settings: key}] = r
	}
	return r
}

func (s *service) usesTemplates() bool {
	return slices.ContainsFunc(s.files, func(f fileSpec) bool { return f.tmpl != nil }) ||
		slices.ContainsFunc(s.units, func(u unitSpec) bool { return u.tmpl != nil }) ||
		slices.ContainsFunc(s.probes, func(p probeSpec) bool { return p.command != nil && p.command.tmpl != nil }) ||
		slices.ContainsFunc(s.steps, func(b stepSpec) bool { return b.command.tmpl != nil })
}

func (s *service) renderNow(settings map[string]any, host *template.HostView, fleet func() *template.FleetView, b *tree.Budget) *rendered {
	r := &rendered{svc: s, gates: map[string]*gate{}, guessed: map[string]bool{}, content: map[string]content{}}
	r.data = template.Scope{Settings: settings, Host: host, Budget: b}
	defer func() { r.data.Budget = nil }()
	if s.usesTemplates() {
		r.data.Fleet = fleet()
	}
	r.sources()
	for i := range s.files {
		r.file(&s.files[i])
	}
	texts := make(map[string][]byte, len(s.units))
	for i := range s.units {
		u := &s.units[i]
		data, ok := u.blob.Data, true
		if u.tmpl != nil {
			if data, ok = r.fill(u.tmpl, u.blob); ok {
				if i := slices.Index(data, '\r'); i >= 0 {
					r.problems = append(r.problems, &problem.Problem{File: u.src, Message: "a carriage return came into the unit by a setting"})
				}
			}
		}
		texts[u.path] = data
		r.add(u.path, data, u.src, u.tmpl != nil, 0o644, "root", "root")
	}
	r.checkUnits(texts)
	r.keys()
	r.accounts()
	r.plan(texts)
	r.judge()
	return r
}

// add puts a file into the bundle. Bytes that stand in the repo are not kept.
func (r *rendered) add(p string, data []byte, src string, made bool, mode uint32, user, group string) {
	d := bundle.DigestBytes(data)
	r.files = append(r.files, bundle.File{Path: p, Digest: d, Size: int64(len(data)), Mode: mode, User: user, Group: group, Service: r.svc.name})
	if made {
		r.content[d] = content{data: data}
	} else {
		r.content[d] = content{src: src}
	}
}

func (r *rendered) file(f *fileSpec) {
	if f.guess {
		r.guessed[f.path] = true
	}
	switch {
	case f.target != "":
		r.links = append(r.links, bundle.Link{Path: f.path, Target: f.target, Service: r.svc.name})
	case f.tmpl == nil && f.blob != nil && strings.HasSuffix(f.src, ".tmpl"):
		// did not parse, which was told
	case f.tmpl == nil:
		r.files = append(r.files, bundle.File{Path: f.path, Digest: f.blob.Digest, Size: f.blob.Size, Mode: f.mode, User: f.user, Group: f.group, Service: r.svc.name})
		r.content[f.blob.Digest] = content{src: f.src}
		if syntax.IsLogins(f.path) {
			r.logins = append(r.logins, logins{f.path, f.src, f.blob.Data})
		}
	case f.tmpl.Secret:
		// A first turn with a stand-in for each value finds what is wrong with the template.
		if data, ok := r.fill(f.tmpl, f.blob); ok {
			clear(data)
		}
	default:
		if data, ok := r.fill(f.tmpl, f.blob); ok {
			r.add(f.path, data, "", true, f.mode, f.user, f.group)
			if syntax.IsLogins(f.path) {
				r.logins = append(r.logins, logins{f.path, f.src, data})
			}
		}
	}
}

// fill renders a template without any secret.
func (r *rendered) fill(t *template.Template, b *tree.Blob) ([]byte, bool) {
	r.data.Budget.At(t.File)
	data, err := t.Execute(&r.data, func(string) (string, error) { return "value", nil })
	if err != nil {
		at, msg := template.Explain(err)
		msg = strings.TrimPrefix(msg, "executing \""+t.File+"\" ")
		who := "service " + r.svc.name
		if r.data.UsedHost {
			who += " on host " + r.data.Host.Name
		}
		p := problem.At(t.File, b.Data, at, "%s: %s", who, msg)
		r.problems = append(r.problems, p)
		return nil, false
	}
	return data, true
}

// sources settles which age files the keys come from on this host.
func (r *rendered) sources() {
	s := r.svc
	r.keySpecs = slices.Clone(s.keys)
	for i := range r.keySpecs {
		k := &r.keySpecs[i]
		k.sources = slices.Clone(k.sources)
		for n, source := range k.sources {
			file, err := r.expand(source)
			if err != nil {
				r.own = append(r.own, problem.At(s.text.Name, s.text.Data, k.at, "key %s: source %q: %v", k.Name, source, err))
			}
			k.sources[n] = file
			if k.tmpl == nil {
				k.Source = file
			}
		}
	}
}

// expand is the age file that a source means here.
func (r *rendered) expand(source string) (string, error) {
	if !syntax.IsPattern(source) {
		return source, nil
	}
	if strings.Contains(source, "{"+syntax.HostWord+"}") {
		r.data.UsedHost = true
	}
	return syntax.ExpandSource(source, r.data.Host.Name, r.data.Settings)
}

// keySource is the age file of a key that a template names.
func (r *rendered) keySource(name string) string {
	file, _ := r.expand(r.svc.keySource(name)) // an error was told by sources
	return file
}

// keys adds the links that stand where a key is wanted.
func (r *rendered) keys() {
	for _, k := range r.svc.keys {
		if k.link != "" {
			r.links = append(r.links, bundle.Link{Path: k.link, Target: k.Path, Service: r.svc.name})
		}
	}
}

func (r *rendered) accounts() {
	u := r.svc.user
	if u == nil {
		return
	}
	r.add("/etc/sysusers.d/bellhop-"+r.svc.name+".conf", []byte(sysusersText(*u)), "", true, 0o644, "root", "root")
	if home := tmpfilesText(*u); home != "" {
		r.add("/etc/tmpfiles.d/bellhop-"+r.svc.name+".conf", []byte(home), "", true, 0o644, "root", "root")
	}
}

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
func (r *rendered) plan(texts map[string][]byte) {
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
func (r *rendered) collect(texts map[string][]byte) map[string]*unitPlan {
	plans := map[string]*unitPlan{}
	byFile := map[string]*unitPlan{}
	for i := range r.svc.units {
		u := &r.svc.units[i]
		if u.dropin {
			continue
		}
		p := &unitPlan{name: u.unit, file: u.unit, quadlet: u.quadlet, paths: []string{u.path}}
		p.text.Add(unitfile.Parse(texts[u.path]))
		if u.quadlet {
			p.name = p.text.Generated(u.unit)
		}
		plans[p.name], byFile[u.unit] = p, p
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
	for i := range r.svc.units {
		u := &r.svc.units[i]
		if u.dropin {
			p := get(u.unit)
			p.text.Add(unitfile.Parse(texts[u.path]))
			p.paths = append(p.paths, u.path)
		}
	}
	for name, rule := range r.svc.rules {
		get(name).rule = rule
	}
	for _, k := range r.svc.keys {
		for _, name := range slices.Concat(k.restart, k.reload) {
			if t := unitfile.TemplateOf(name); t == "" || plans[t] == nil {
				get(name)
			}
		}
	}
	return plans
}

// decide adds the units of one plan: itself, or its instances.
func (r *rendered) decide(p *unitPlan, plans map[string]*unitPlan) {
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
		u := bundle.Unit{Name: name, Service: r.svc.name, Enable: enable, Start: start, Foreign: !ours, Files: paths}
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
func (r *rendered) gate(p *unitPlan, kind string, started []string) {
	s := r.svc
	if kind != "service" && kind != "socket" || p.file == "" && p.rule == nil {
		return
	}
	if _, q := unitfile.SplitName(p.file); slices.Contains([]string{"volume", "network", "image", "build"}, q) {
		return
	}
	g := &gate{service: kind == "service", groups: slices.Clone(s.extraGroups), starts: started}
	if p.file == "" {
		g.groups = nil
	}
	slices.Sort(g.groups)
	for _, k := range s.keys {
		g.keys = append(g.keys, k.Key)
	}
	if g.text() != "" {
		r.gates[p.name] = g
	}
}

// triggers lists what acts on a running unit when it changes. What runs a program is moved by
// everything of its service; a timer, socket or mount only by its own files.
func (r *rendered) triggers(p *unitPlan, name string, u *bundle.Unit) []string {
	s := r.svc
	var ts []string
	for _, f := range u.Files {
		ts = append(ts, "file:"+f)
	}
	wanted := func(string) bool { return strings.HasSuffix(name, ".service") }
	named := slices.ContainsFunc(s.units, func(x unitSpec) bool { return x.unit == name }) || p.rule != nil
	if p.file == "" && !named {
		wanted = func(string) bool { return false } // here only because a key names it
	}
	if p.rule != nil && len(p.rule.Watch) > 0 {
		wanted = func(at string) bool { return watches(p.rule.Watch, at) }
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
	if s.pkg != nil && wanted(bundle.PackageDir+"/"+s.pkg.Name) {
		ts = append(ts, "package:"+s.pkg.Name)
	}
	for _, k := range s.keys {
		hit := wanted(k.Path)
		if len(k.restart)+len(k.reload) > 0 {
			hit = slices.Contains(k.restart, name) || slices.Contains(k.reload, name)
		}
		if hit {
			ts = append(ts, "key:"+k.Name)
		}
		does := ""
		switch {
		case slices.Contains(k.restart, name):
			does = bundle.Restart
		case slices.Contains(k.reload, name):
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

// watches tells whether a path is one of the list, below one, or matched by one.
func watches(l yaml.List, at string) bool {
	for _, w := range l {
		if syntax.Below(at, strings.TrimSuffix(w.S, "/")) {
			return true
		}
		if ok, err := path.Match(w.S, at); err == nil && ok {
			return true
		}
	}
	return false
}
