package bundle

import (
	"slices"
	"strings"
)

// ServiceDigest names what m asks of its host for the service name: 64 hex digits. It is made of the
// lines of Manifest.Digest for what the service brings, and for what it shares with others:
//
//   - the things that its units name as their files and triggers,
//   - the units that name a thing of the service so,
//   - the users and groups that own its files and keys.
//
// So it differs when one of these does, and a change of another service alone leaves it as it is.
func ServiceDigest(m *Manifest, name string) string {
	part := m.partOf(name)
	return part.Digest()
}

// partOf is the part of m that ServiceDigest is about, in the order of m.
func (m *Manifest) partOf(name string) Manifest {
	p := part{name: name, things: map[string]bool{}, units: map[string]bool{}, users: map[string]bool{}, groups: map[string]bool{}}
	p.own(m)
	p.shared(m)

	var out Manifest
	for _, f := range m.Files {
		out.Files = keep(out.Files, f, f.Service == name || p.things[KindFile+":"+f.Path])
	}
	for _, l := range m.Links {
		out.Links = keep(out.Links, l, l.Service == name || p.things[KindLink+":"+l.Path])
	}
	for _, k := range m.Keys {
		out.Keys = keep(out.Keys, k, k.Service == name || p.things[KindKey+":"+k.Name])
	}
	for _, k := range m.Packages {
		out.Packages = keep(out.Packages, k, k.Service == name || p.things[KindPackage+":"+k.Name])
	}
	for _, g := range m.Groups {
		out.Groups = keep(out.Groups, g, p.groups[g])
	}
	for _, u := range m.Users {
		out.Users = keep(out.Users, u, u.Service == name || p.users[u.Name])
	}
	for _, u := range m.Units {
		out.Units = keep(out.Units, u, u.Service == name || p.units[u.Name])
	}
	for _, n := range m.Needs {
		out.Needs = keep(out.Needs, n, n.Service == name)
	}
	for _, s := range m.Services {
		out.Services = keep(out.Services, s, s.Name == name)
	}
	if name == SystemService {
		out.System = m.System
	}

	return out
}

func keep[T any](out []T, v T, is bool) []T {
	if is {
		return append(out, v)
	}
	return out
}

// A part collects what belongs to one service of a manifest, by name.
type part struct {
	name          string
	things        map[string]bool // as Change.Resource writes them
	units         map[string]bool // of other services
	users, groups map[string]bool
}

// own notes what has the service's name.
func (p *part) own(m *Manifest) {
	owner := func(user, group string) { p.users[user], p.groups[group] = true, true }
	for _, f := range m.Files {
		if f.Service == p.name {
			p.things[KindFile+":"+f.Path] = true
			owner(f.User, f.Group)
		}
	}

	for _, l := range m.Links {
		if l.Service == p.name {
			p.things[KindLink+":"+l.Path] = true
		}
	}

	for _, k := range m.Keys {
		if k.Service == p.name {
			p.things[KindKey+":"+k.Name] = true
			owner(k.User, k.Group)
		}
	}

	for _, k := range m.Packages {
		if k.Service == p.name {
			p.things[KindPackage+":"+k.Name] = true
		}
	}

	for _, u := range m.Users {
		if u.Service == p.name {
			owner(u.Name, u.Group)
		}
	}

	for _, s := range m.Shared {
		if slices.Contains(s.Services, p.name) {
			p.claim(s.Resource)
		}
	}
}

// claim notes a thing that the service has together with others.
func (p *part) claim(thing string) {
	kind, name, _ := strings.Cut(thing, ":")
	switch kind {
	case KindUnit:
		p.units[name] = true
	case KindAccount:
		p.users[name] = true
	case kindGroup:
		p.groups[name] = true
	default:
		p.things[thing] = true
	}
}

// shared notes the units that name a thing of the service, and then what the service's units name.
func (p *part) shared(m *Manifest) {
	var named []string
	for _, u := range m.Units {
		things := slices.Clone(u.Triggers)
		for _, f := range u.Files {
			things = append(things, KindFile+":"+f, KindLink+":"+f)
		}
		if u.Service == p.name {
			named = append(named, things...)
		} else if slices.ContainsFunc(things, func(t string) bool { return p.things[t] }) {
			p.units[u.Name] = true
		}
	}

	for _, t := range named {
		p.things[t] = true
	}
}
