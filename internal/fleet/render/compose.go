package render

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet/problem"
	"bellhop/internal/fleet/service"
	"bellhop/internal/fleet/syntax"
	"bellhop/internal/fleet/tree"
	"bellhop/internal/unitfile"
)

// A Composition is what a set of rendered services comes to. Hosts with the same set share it, and
// their manifests share its lists.
type Composition struct {
	Manifest bundle.Manifest // without a host's name
	Digest   string
	Content  map[string]Content
	Keys     map[string]*service.Key
	Renders  map[string]*Rendering // of keys that are templates
	Problems problem.Problems
	IsFar    bool // made by another process: renders are not here
	Needs    []service.SystemdNeed

	claimed map[string][]string // services that claim a thing, where the manifest does not say it; nil once it does
	Broken  []Broken            // those of problems that keep one service away alone
	pulls   []string            // services that pull images
}

// Compose puts services together, and opens their keys for the digests.
func Compose(o *Opener, t *tree.Tree, rs []*Rendering, arch string) *Composition {
	st := &Composition{Content: map[string]Content{}, Keys: map[string]*service.Key{}, Renders: map[string]*Rendering{}, claimed: map[string][]string{}}
	m := &st.Manifest
	gates := map[string]*gate{}
	units := map[string]*bundle.Unit{}
	groups := groupsOf(rs)

	for _, r := range rs {
		if r.PullsImages() {
			st.pulls = append(st.pulls, r.Service.Name)
		}
	}

	for _, r := range rs {
		st.takeFiles(r, groups)
		st.accounts(r.Service)
		st.pack(r.Service, arch)
		st.needs(r)
		st.takeKeys(o, t, r, groups)
		if r.judged != nil {
			m.Services = append(m.Services, *r.judged)
		}

		for _, u := range r.units {
			joinUnit(units, u)
		}
		for name, g := range r.gates {
			joinGate(gates, name, g)
		}
	}

	st.gates(gates, units)
	st.claimUnits(units)

	for _, name := range slices.Sorted(maps.Keys(units)) {
		m.Units = append(m.Units, *units[name])
	}

	st.finish()
	return st
}

// groupsOf maps the users that the services make to their groups.
func groupsOf(rs []*Rendering) map[string]string {
	groups := map[string]string{}
	for _, r := range rs {
		if u := r.Service.User; u != nil {
			groups[u.Name] = u.Group
		}
	}

	return groups
}

// takeFiles adds a service's files and links. A file whose group nobody named has that of its user.
func (st *Composition) takeFiles(r *Rendering, groups map[string]string) {
	m := &st.Manifest
	for _, f := range r.files {
		if g := groups[f.User]; g != "" && r.guessed[f.Path] {
			f.Group = g
		}
		m.Files = append(m.Files, f)
	}

	m.Links = append(m.Links, r.links...)
	st.claimAll(r)

	for d, c := range r.content {
		st.Content[d] = c
	}
}

// needs adds what a service needs on its host: programs, and a systemd that is new enough.
func (st *Composition) needs(r *Rendering) {
	for _, n := range r.Service.Def.Needs {
		st.Manifest.Needs = append(st.Manifest.Needs, bundle.Need{Command: n.S, Service: r.Service.Name})
	}
	if r.project != nil {
		st.Manifest.Needs = append(st.Manifest.Needs, bundle.Need{Command: "docker", Service: r.Service.Name})
	}
	st.breaks(r.Service.Name, r.own...)
	st.needsSystemd(r)
}

// takeKeys adds a service's keys, unless something is wrong with the service: then the source of a key may
// be no file at all.
func (st *Composition) takeKeys(o *Opener, t *tree.Tree, r *Rendering, groups map[string]string) {
	if len(r.own) > 0 {
		return
	}
	for i := range r.KeySpecs {
		st.key(o, t, r, &r.KeySpecs[i], groups)
	}
}

func (st *Composition) add(p, text, service string) {
	d := bundle.DigestBytes([]byte(text))
	st.Content[d] = Content{Data: []byte(text)}
	st.Manifest.Files = append(st.Manifest.Files, bundle.File{Path: p, Digest: d, Size: int64(len(text)), Mode: 0o644, User: "root", Group: "root", Service: service})
}

func (st *Composition) accounts(s *service.Service) {
	m := &st.Manifest
	if s.User != nil {
		if !slices.ContainsFunc(m.Users, func(u bundle.User) bool { return u.Name == s.User.Name }) {
			m.Users = append(m.Users, *s.User)
		}
		m.Groups = append(m.Groups, s.User.Group)
	}

	for _, g := range s.ExtraGroups {
		if g != bundle.KeyGroup { // made with the place for keys
			m.Groups = append(m.Groups, g)
		}
	}
}

func (st *Composition) pack(s *service.Service, arch string) {
	if s.Package == nil {
		return
	}
	p, err := s.Package.ForArch(arch)
	if err != nil {
		st.breaks(s.Name, problem.At(s.Source.Name, s.Source.Data, s.Package.At, "%v", err))
		return
	}

	st.Manifest.Packages = append(st.Manifest.Packages, p)
}

// key adds a key, unless another service named it already.
func (st *Composition) key(o *Opener, t *tree.Tree, r *Rendering, k *service.Key, groups map[string]string) {
	if was := st.Keys[k.Name]; was != nil {
		st.keyTwice(r.Service, k, was)
		return
	}

	st.Keys[k.Name] = k
	st.Renders[k.Name] = r
	out := k.Key
	out.Service = r.Service.Name
	if g := groups[k.User]; g != "" && k.Guess {
		out.Group = g // the user is another service's
	}
	if lacks := r.lacking(t, k); lacks != nil {
		st.breaks(r.Service.Name, lacks)
		return
	}

	digest, err := o.keyed(t, r, k)
	if err != nil {
		st.breaks(r.Service.Name, &problem.Problem{File: k.Source, Message: fmt.Sprintf("key %s: %v", k.Name, err)})
	}
	if k.Registries != nil {
		if err != nil {
			return // who pulls images stays away, and nobody else is to wait for a key without a value
		}
		st.Manifest.Logins = k.Path
	}

	out.Digest = digest
	st.Manifest.Keys = append(st.Manifest.Keys, out)
}

// keyTwice adds a problem if two services have a key of one name from different sources.
func (st *Composition) keyTwice(s *service.Service, k, was *service.Key) {
	if k.Registries != nil {
		p := problem.At(s.Source.Name, s.Source.Data, k.At, "registries: the key %s of service %s has the name of the key that is made of them: give it another one", k.Name, st.Renders[k.Name].Service.Name)
		st.Problems = append(st.Problems, p)
		return
	}
	if slices.Equal(was.Sources, k.Sources) {
		return
	}

	p := problem.At(s.Source.Name, s.Source.Data, k.At, "services %s and %s both have the key %s, which comes from %s here and from %s there",
		st.Renders[k.Name].Service.Name, s.Name, k.Name, strings.Join(k.Sources, ", "), strings.Join(was.Sources, ", "))
	st.Problems = append(st.Problems, p)
}

// joinUnit adds a unit; one that several services name is one unit.
func joinUnit(units map[string]*bundle.Unit, u bundle.Unit) {
	was := units[u.Name]
	if was == nil {
		units[u.Name] = &u
		return
	}

	if was.Foreign && !u.Foreign {
		*was, u = u, *was // the service that brings the unit decides
	}

	j := *was
	j.Triggers = union(was.Triggers, u.Triggers)
	j.Files = union(was.Files, u.Files)
	j.On = joinOn(was.On, u.On)
	if was.Foreign && u.Foreign {
		j.Enable, j.Start = was.Enable || u.Enable, was.Start || u.Start
		if was.OnChange != u.OnChange {
			j.OnChange = bundle.Restart // the stronger one does for both
		}
	}

	*was = j
}

// joinOn holds what two services say that keys do; a key of both does the stronger.
func joinOn(a, b map[string]string) map[string]string {
	if len(b) == 0 {
		return a
	}

	out := maps.Clone(b)
	for t, does := range a {
		if out[t] != bundle.Restart {
			out[t] = does
		}
	}

	return out
}

func union(a, b []string) []string {
	out := slices.Concat(a, b)
	slices.Sort(out)
	return slices.Compact(out)
}

func joinGate(gates map[string]*gate, name string, g *gate) {
	j := gates[name]
	if j == nil {
		j = &gate{service: g.service}
		gates[name] = j
	}

	j.keys = slices.Concat(j.keys, g.keys)
	j.groups = union(j.groups, g.groups)
	j.starts = union(j.starts, g.starts)
}

// gates writes the drop-ins that hold units back, and the key units they wait for.
func (st *Composition) gates(gates map[string]*gate, units map[string]*bundle.Unit) {
	wants := map[string][]string{}
	for _, name := range slices.Sorted(maps.Keys(gates)) {
		g := gates[name]
		p := syntax.GatePath(name)
		st.add(p, g.text(), "")
		f := &st.Manifest.Files[len(st.Manifest.Files)-1]
		for _, u := range units {
			if u.Name == name || unitfile.TemplateOf(u.Name) == name {
				u.Files = append(u.Files, p)
				u.Triggers = union(u.Triggers, []string{"file:" + p})
				f.Service = u.Service
			}
		}

		for _, k := range g.keys {
			wants[k.Name] = union(wants[k.Name], g.starts)
		}
	}

	for _, k := range st.Manifest.Keys {
		unit := syntax.KeyUnitName(k.Name)
		p := bundle.UnitDir + "/" + unit
		st.add(p, keyUnitText(k, wants[k.Name]), k.Service)
		units[unit] = &bundle.Unit{Name: unit, Service: k.Service, Start: true, OnChange: bundle.None, KeyUnit: true, Files: []string{p}}
	}
}

// finish sorts, drops what is there twice, and takes the digests.
func (st *Composition) finish() {
	m := &st.Manifest
	slices.Sort(m.Groups)
	m.Groups = slices.Compact(m.Groups)
	// Of what two services bring alike, the first one's stays: stable, so that it is always the same.
	slices.SortStableFunc(m.Links, func(a, b bundle.Link) int { return strings.Compare(a.Path, b.Path) })
	m.Links = slices.CompactFunc(m.Links, func(a, b bundle.Link) bool { return a.Path == b.Path })
	slices.SortStableFunc(m.Needs, func(a, b bundle.Need) int { return strings.Compare(a.Command, b.Command) })
	m.Needs = slices.CompactFunc(m.Needs, func(a, b bundle.Need) bool { return a.Command == b.Command })
	m.Sort()

	for i := range m.Units {
		slices.Sort(m.Units[i].Files)
	}

	m.ShareResources(st.claimed)
	st.claimed = nil

	for i := range m.Services {
		if s := &m.Services[i]; len(s.Before) > 0 {
			s.Digest = bundle.ServiceDigest(m, s.Name)
		}
	}

	st.Digest = m.Digest()
}
