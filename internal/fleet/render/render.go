// Package render makes of services what a host holds: files, units, gates, keys.
//
// A Rendering is one service with the settings of a host filled in; hosts with equal settings share it,
// unless a template looked at the host. A Composition is all renderings of a host put together: the
// manifest of its bundle, and where the bytes come from. Key units and the drop-ins that make a unit
// wait for its keys are rendered here too.
package render

import (
	"bytes"
	"errors"
	"io/fs"
	"slices"
	"strings"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet/problem"
	"bellhop/internal/fleet/service"
	"bellhop/internal/fleet/syntax"
	"bellhop/internal/fleet/template"
	"bellhop/internal/fleet/tree"
)

// A renderKey is the key of one rendering of a service. Host and fleet are set only when a
// template looked at them, so that hosts with equal settings share the work.
type renderKey struct {
	settings string
	host     *template.HostView
	fleet    *template.FleetView
}

// A Rendering is a service with settings filled in: what it adds to a host's bundle, but for
// what depends on the host's other services and its architecture.
type Rendering struct {
	Service  *service.Service
	Scope    template.Scope
	KeySpecs []service.Key // svc.keys, with the files of this host as sources
	files    []bundle.File
	links    []bundle.Link
	units    []bundle.Unit
	gates    map[string]*gate // by the unit's file name
	guessed  map[string]bool  // files whose group is that of their user, by path
	content  map[string]Content
	Logins   []Logins
	Problems problem.Problems
	project  *stack                // of a compose service
	judged   *bundle.Service       // nil: by the defaults
	Unpinned problem.Problems      // images without a digest: how bad that is, the network says
	own      problem.Problems      // that refuse only the hosts which have this rendering
	Refs     []service.Ref         // of unit files that are templates
	needs    []service.SystemdNeed // of the same
}

// A Text is what a template made, held by all bundles that have the same text.
type Text struct{ Data []byte }

// Content is where the bytes of a file come from: a blob of the repo, or right here.
type Content struct {
	Source string
	Data   []byte
	Shared *Text // of a far fleet: what holds data
}

// A Renderer is a service with its renderings. It is used under the loader's lock.
type Renderer struct {
	svc  *service.Service
	made map[renderKey]*Rendering
}

func NewRenderer(s *service.Service) *Renderer {
	return &Renderer{svc: s, made: map[renderKey]*Rendering{}}
}

// Render is the service on one host. Equal inputs give the same pointer.
func (s *Renderer) Render(settings map[string]any, key string, host *template.HostView, fleet func() *template.FleetView, b *tree.Budget) *Rendering {
	for _, k := range []renderKey{{settings: key}, {settings: key, host: host}} {
		r := s.made[k]
		if r == nil {
			continue
		}
		if r.Service != nil {
			return r
		}
		// A marker: templates of this service look at host or fleet.
		if r.Scope.UsedFleet {
			full := renderKey{settings: key, host: host, fleet: fleet()}
			if r := s.made[full]; r != nil {
				return r
			}
		}
	}

	r := renderNow(s.svc, settings, host, fleet, b)
	mark := &Rendering{Scope: template.Scope{UsedHost: r.Scope.UsedHost, UsedFleet: r.Scope.UsedFleet}}
	switch {
	case r.Scope.UsedFleet:
		s.made[renderKey{settings: key}] = mark
		s.made[renderKey{settings: key, host: host, fleet: r.Scope.Fleet}] = r
	case r.Scope.UsedHost:
		if s.made[renderKey{settings: key}] == nil {
			s.made[renderKey{settings: key}] = mark
		}
		s.made[renderKey{settings: key, host: host}] = r

	default:
		s.made[renderKey{settings: key}] = r
	}

	return r
}

// usesTemplates says whether rendering the service needs a view of the fleet at all.
func usesTemplates(s *service.Service) bool {
	inFiles := slices.ContainsFunc(s.Files, func(f service.File) bool { return f.Template != nil })
	inUnits := slices.ContainsFunc(s.Units, func(u service.Unit) bool { return u.Template != nil })
	if inFiles || inUnits {
		return true
	}

	inProbes := slices.ContainsFunc(s.Probes, func(p service.Probe) bool { return p.Run != nil && p.Run.Template != nil })
	inSteps := slices.ContainsFunc(s.Steps, func(b service.Step) bool { return b.Run.Template != nil })
	return inProbes || inSteps
}

func renderNow(s *service.Service, settings map[string]any, host *template.HostView, fleet func() *template.FleetView, b *tree.Budget) *Rendering {
	r := &Rendering{Service: s, gates: map[string]*gate{}, guessed: map[string]bool{}, content: map[string]Content{}}
	r.Scope = template.Scope{Settings: settings, Host: host, Budget: b}
	defer func() { r.Scope.Budget = nil }()
	if usesTemplates(s) {
		r.Scope.Fleet = fleet()
	}

	r.sources()
	r.readStack()

	for i := range s.Files {
		if r.travels(&s.Files[i]) {
			r.file(&s.Files[i])
		}
	}

	texts := make(map[string][]byte, len(s.Units))
	for i := range s.Units {
		u := &s.Units[i]
		texts[u.Path] = r.unitText(u)
		r.add(u.Path, texts[u.Path], u.Source, u.Template != nil, 0o644, "root", "root")
	}

	r.checkUnits(texts)

	r.keys()
	r.accounts()
	r.plan(texts)
	r.planStack()
	r.judge()
	return r
}

// unitText is the text of a unit file, rendered if it is a template.
func (r *Rendering) unitText(u *service.Unit) []byte {
	if u.Template == nil {
		return u.Blob.Data
	}

	data, ok := r.fill(u.Template, u.Blob)
	if ok && bytes.IndexByte(data, '\r') >= 0 {
		r.Problems = append(r.Problems, &problem.Problem{File: u.Source, Message: "a carriage return came into the unit by a setting"})
	}
	return data
}

// add puts a file into the bundle. Bytes that are those of a file of the repo are not kept.
func (r *Rendering) add(p string, data []byte, src string, made bool, mode uint32, user, group string) {
	d := bundle.DigestBytes(data)
	r.files = append(r.files, bundle.File{Path: p, Digest: d, Size: int64(len(data)), Mode: mode, User: user, Group: group, Service: r.Service.Name})
	if made {
		r.content[d] = Content{Data: data}
	} else {
		r.content[d] = Content{Source: src}
	}
}

func (r *Rendering) file(f *service.File) {
	if f.Guess {
		r.guessed[f.Path] = true
	}

	switch {
	case f.Target != "":
		r.links = append(r.links, bundle.Link{Path: f.Path, Target: f.Target, Service: r.Service.Name})
	case f.Template == nil && f.Blob != nil && strings.HasSuffix(f.Source, ".tmpl"):
		// it did not parse, which is a problem already
	case f.Template == nil:
		r.files = append(r.files, bundle.File{Path: f.Path, Digest: f.Blob.Digest, Size: f.Blob.Size, Mode: f.Mode, User: f.User, Group: f.Group, Service: r.Service.Name})
		r.content[f.Blob.Digest] = Content{Source: f.Source}
		if syntax.IsLogins(f.Path) {
			r.Logins = append(r.Logins, Logins{f.Path, f.Source, f.Blob.Data})
		}

	case f.Template.Secret:
		// Rendering it with a placeholder for each value finds what is wrong with the template.
		if data, ok := r.fill(f.Template, f.Blob); ok {
			clear(data)
		}

	default:
		if data, ok := r.fill(f.Template, f.Blob); ok {
			r.add(f.Path, data, "", true, f.Mode, f.User, f.Group)
			if syntax.IsLogins(f.Path) {
				r.Logins = append(r.Logins, Logins{f.Path, f.Source, data})
			}
		}
	}
}

// fill renders a template without any secret.
func (r *Rendering) fill(t *template.Template, b *tree.Blob) ([]byte, bool) {
	r.Scope.Budget.At(t.File)
	data, err := t.Execute(&r.Scope, func(string) (string, error) { return "value", nil })
	if err != nil {
		at, msg := template.Explain(err)
		msg = strings.TrimPrefix(msg, "executing \""+t.File+"\" ")
		who := "service " + r.Service.Name
		if r.Scope.UsedHost {
			who += " on host " + r.Scope.Host.Name
		}
		p := problem.At(t.File, b.Data, at, "%s: %s", who, msg)
		r.Problems = append(r.Problems, p)
		return nil, false
	}

	return data, true
}

// sources settles which age files the keys come from on this host.
func (r *Rendering) sources() {
	s := r.Service
	r.KeySpecs = slices.Clone(s.Keys)
	for i := range r.KeySpecs {
		k := &r.KeySpecs[i]
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
func (r *Rendering) expand(source string) (string, error) {
	if !syntax.IsPattern(source) {
		return source, nil
	}
	if strings.Contains(source, "{"+syntax.HostWord+"}") {
		r.Scope.UsedHost = true
	}
	return syntax.ExpandSource(source, r.Scope.Host.Name, r.Scope.Settings)
}

// keySource is the age file of a key that a template names.
func (r *Rendering) keySource(name string) string {
	file, _ := r.expand(r.Service.KeySource(name)) // sources has reported an error
	return file
}

// keys adds the links at the paths where a key is wanted.
func (r *Rendering) keys() {
	for _, k := range r.Service.Keys {
		if k.Link != "" {
			r.links = append(r.links, bundle.Link{Path: k.Link, Target: k.Path, Service: r.Service.Name})
		}
	}
}

func (r *Rendering) accounts() {
	u := r.Service.User
	if u == nil {
		return
	}

	r.add("/etc/sysusers.d/bellhop-"+r.Service.Name+".conf", []byte(sysusersText(*u)), "", true, 0o644, "root", "root")
	if home := tmpfilesText(*u); home != "" {
		r.add("/etc/tmpfiles.d/bellhop-"+r.Service.Name+".conf", []byte(home+quadletFolders(r.Service)), "", true, 0o644, "root", "root")
	}
	if user := r.Service.LingersAs(); user != "" {
		r.add(bundle.LingerDir+"/"+user, nil, "", true, 0o644, "root", "root")
	}
}

// checkUnits looks at the unit files that templates have a part in, as they are on this host.
func (r *Rendering) checkUnits(texts service.UnitTexts) {
	if !slices.ContainsFunc(r.Service.Units, func(u service.Unit) bool { return u.Template != nil }) {
		return
	}

	c := r.Service.CheckUnits(texts, true)
	r.Problems = append(r.Problems, c.Problems...)
	r.Refs, r.needs = c.Refs, c.Needs
}

// lacking is the problem of a key whose file for this host is not in the repo; nil when it is there.
// Only a pattern's files are looked for: one that every host gets was missed while loading.
func (r *Rendering) lacking(t *tree.Tree, k *service.Key) *problem.Problem {
	i := slices.IndexFunc(r.Service.Keys, func(declared service.Key) bool { return declared.Name == k.Name })
	for n, file := range k.Sources {
		if !syntax.IsPattern(r.Service.Keys[i].Sources[n]) {
			continue
		}
		if _, err := fs.Stat(t.FS, file); errors.Is(err, fs.ErrNotExist) {
			return service.MissingFile(t, r.Service, *k, file)
		}
	}

	return nil
}

// Prune forgets the renderings for hosts that look different now. current says whether a view is one of
// now; used is how many hosts have the service.
func (s *Renderer) Prune(used int, fleet *template.FleetView, current func(*template.HostView) bool) {
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
