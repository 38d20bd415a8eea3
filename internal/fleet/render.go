package fleet

import (
	"errors"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet/problem"
	"bellhop/internal/fleet/service"
	"bellhop/internal/fleet/syntax"
	"bellhop/internal/fleet/template"
	"bellhop/internal/fleet/tree"
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
	svc      *service.Service
	data     template.Scope
	keySpecs []service.Key // svc.keys, with the files of this host as sources
	files    []bundle.File
	links    []bundle.Link
	units    []bundle.Unit
	gates    map[string]*gate // by the unit's file name
	guessed  map[string]bool  // files whose group is that of their user, by path
	content  map[string]content
	logins   []logins
	problems problem.Problems
	judged   *bundle.Service       // nil: by the defaults
	own      problem.Problems      // that refuse only the hosts which have this rendering
	refs     []service.Ref         // of unit files that are templates
	needs    []service.SystemdNeed // of the same
}

// content is where the bytes of a file come from: a blob of the repo, or right here.
type content struct {
	src  string
	data []byte
	text *sharedText // of a far fleet: what holds data
}

// A renderer is a service with its renderings. It is used under the loader's lock.
type renderer struct {
	svc  *service.Service
	made map[renderKey]*rendered
}

func newRenderer(s *service.Service) *renderer {
	return &renderer{svc: s, made: map[renderKey]*rendered{}}
}

// render is the service on one host. Equal inputs give the same pointer.
func (s *renderer) render(settings map[string]any, key string, host *template.HostView, fleet func() *template.FleetView, b *tree.Budget) *rendered {
	for _, k := range []renderKey{{settings: key}, {settings: key, host: host}} {
		r := s.made[k]
		if r == nil {
			continue
		}
		if r.svc != nil {
			return r
		}
		// A marker: templates of this service look at host or fleet.
		if r.data.UsedFleet {
			full := renderKey{settings: key, host: host, fleet: fleet()}
			if r := s.made[full]; r != nil {
				return r
			}
		}
	}
	r := renderNow(s.svc, settings, host, fleet, b)
	mark := &rendered{data: template.Scope{UsedHost: r.data.UsedHost, UsedFleet: r.data.UsedFleet}}
	switch {
	case r.data.UsedFleet:
		s.made[renderKey{settings: key}] = mark
		s.made[renderKey{settings: key, host: host, fleet: r.data.Fleet}] = r
	case r.data.UsedHost:
		if s.made[renderKey{settings: key}] == nil {
			s.made[renderKey{settings: key}] = mark
		}
		s.made[renderKey{settings: key, host: host}] = r
	default:
		s.made[renderKey{settings: key}] = r
	}
	return r
}

func usesTemplates(s *service.Service) bool {
	return slices.ContainsFunc(s.Files, func(f service.File) bool { return f.Template != nil }) ||
		slices.ContainsFunc(s.Units, func(u service.Unit) bool { return u.Template != nil }) ||
		slices.ContainsFunc(s.Probes, func(p service.Probe) bool { return p.Run != nil && p.Run.Template != nil }) ||
		slices.ContainsFunc(s.Steps, func(b service.Step) bool { return b.Run.Template != nil })
}

func renderNow(s *service.Service, settings map[string]any, host *template.HostView, fleet func() *template.FleetView, b *tree.Budget) *rendered {
	r := &rendered{svc: s, gates: map[string]*gate{}, guessed: map[string]bool{}, content: map[string]content{}}
	r.data = template.Scope{Settings: settings, Host: host, Budget: b}
	defer func() { r.data.Budget = nil }()
	if usesTemplates(s) {
		r.data.Fleet = fleet()
	}
	r.sources()
	for i := range s.Files {
		r.file(&s.Files[i])
	}
	texts := make(map[string][]byte, len(s.Units))
	for i := range s.Units {
		u := &s.Units[i]
		data, ok := u.Blob.Data, true
		if u.Template != nil {
			if data, ok = r.fill(u.Template, u.Blob); ok {
				if i := slices.Index(data, '\r'); i >= 0 {
					r.problems = append(r.problems, &problem.Problem{File: u.Source, Message: "a carriage return came into the unit by a setting"})
				}
			}
		}
		texts[u.Path] = data
		r.add(u.Path, data, u.Source, u.Template != nil, 0o644, "root", "root")
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
	r.files = append(r.files, bundle.File{Path: p, Digest: d, Size: int64(len(data)), Mode: mode, User: user, Group: group, Service: r.svc.Name})
	if made {
		r.content[d] = content{data: data}
	} else {
		r.content[d] = content{src: src}
	}
}

func (r *rendered) file(f *service.File) {
	if f.Guess {
		r.guessed[f.Path] = true
	}
	switch {
	case f.Target != "":
		r.links = append(r.links, bundle.Link{Path: f.Path, Target: f.Target, Service: r.svc.Name})
	case f.Template == nil && f.Blob != nil && strings.HasSuffix(f.Source, ".tmpl"):
		// did not parse, which was told
	case f.Template == nil:
		r.files = append(r.files, bundle.File{Path: f.Path, Digest: f.Blob.Digest, Size: f.Blob.Size, Mode: f.Mode, User: f.User, Group: f.Group, Service: r.svc.Name})
		r.content[f.Blob.Digest] = content{src: f.Source}
		if syntax.IsLogins(f.Path) {
			r.logins = append(r.logins, logins{f.Path, f.Source, f.Blob.Data})
		}
	case f.Template.Secret:
		// A first turn with a stand-in for each value finds what is wrong with the template.
		if data, ok := r.fill(f.Template, f.Blob); ok {
			clear(data)
		}
	default:
		if data, ok := r.fill(f.Template, f.Blob); ok {
			r.add(f.Path, data, "", true, f.Mode, f.User, f.Group)
			if syntax.IsLogins(f.Path) {
				r.logins = append(r.logins, logins{f.Path, f.Source, data})
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
		who := "service " + r.svc.Name
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
	r.keySpecs = slices.Clone(s.Keys)
	for i := range r.keySpecs {
		k := &r.keySpecs[i]
		k.Sources = slices.Clone(k.Sources)
		for n, source := range k.Sources {
			file, err := r.expand(source)
			if err != nil {
				r.own = append(r.own, problem.At(s.Source.Name, s.Source.Data, k.At, "key %s: source %q: %v", k.Name, source, err))
			}
			k.Sources[n] = file
			if k.File == nil {
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
	file, _ := r.expand(r.svc.KeySource(name)) // an error was told by sources
	return file
}

// keys adds the links that stand where a key is wanted.
func (r *rendered) keys() {
	for _, k := range r.svc.Keys {
		if k.Link != "" {
			r.links = append(r.links, bundle.Link{Path: k.Link, Target: k.Path, Service: r.svc.Name})
		}
	}
}

func (r *rendered) accounts() {
	u := r.svc.User
	if u == nil {
		return
	}
	r.add("/etc/sysusers.d/bellhop-"+r.svc.Name+".conf", []byte(sysusersText(*u)), "", true, 0o644, "root", "root")
	if home := tmpfilesText(*u); home != "" {
		r.add("/etc/tmpfiles.d/bellhop-"+r.svc.Name+".conf", []byte(home), "", true, 0o644, "root", "root")
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
	for i := range r.svc.Units {
		u := &r.svc.Units[i]
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
	for i := range r.svc.Units {
		u := &r.svc.Units[i]
		if u.IsDropin {
			p := get(u.Name)
			p.text.Add(unitfile.Parse(texts[u.Path]))
			p.paths = append(p.paths, u.Path)
		}
	}
	for name, rule := range r.svc.Rules {
		get(name).rule = rule
	}
	for _, k := range r.svc.Keys {
		for _, name := range slices.Concat(k.Restart, k.Reload) {
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
		u := bundle.Unit{Name: name, Service: r.svc.Name, Enable: enable, Start: start, Foreign: !ours, Files: paths}
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
func (r *rendered) triggers(p *unitPlan, name string, u *bundle.Unit) []string {
	s := r.svc
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

// checkUnits looks at the unit files that templates have a part in, as they are on this host.
func (r *rendered) checkUnits(texts service.UnitTexts) {
	if !slices.ContainsFunc(r.svc.Units, func(u service.Unit) bool { return u.Template != nil }) {
		return
	}

	c := r.svc.CheckUnits(texts, true)
	r.problems = append(r.problems, c.Problems...)
	r.refs, r.needs = c.Refs, c.Needs
}

// lacking is the problem of a key whose file for this host is not in the repo; nil when it is there.
// Only a pattern's files are looked for: one that every host gets was missed while loading.
func (r *rendered) lacking(t *tree.Tree, k *service.Key) *problem.Problem {
	i := slices.IndexFunc(r.svc.Keys, func(declared service.Key) bool { return declared.Name == k.Name })
	for n, file := range k.Sources {
		if !syntax.IsPattern(r.svc.Keys[i].Sources[n]) {
			continue
		}
		if _, err := fs.Stat(t.FS, file); errors.Is(err, fs.ErrNotExist) {
			return service.MissingFile(t, r.svc, *k, file)
		}
	}
	return nil
}

// prune forgets the renderings for hosts that look different now. current tells whether a view is one of
// now; used is how many hosts have the service.
func (s *renderer) prune(used int, fleet *template.FleetView, current func(*template.HostView) bool) {
	if len(s.made) <= 2*used+8 {
		return
	}

	for k := range s.made {
		if k.host == nil {
			continue
		}
		otherFleet := k.fleet != nil && k.fleet != fleet
		if otherFleet || !current(k.host) {
			delete(s.made, k)
		}
	}
}
