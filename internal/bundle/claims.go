package bundle

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// A Shared is a thing that several services claim, or a group or need that says itself whose it is in
// no other way. A thing that is not listed belongs to the service that it names. A manifest of a release before
// this list has none.
type Shared struct {
	Thing    string   `json:"thing"`    // as Change.Thing has it; "group:NAME" and "need:COMMAND" beside those
	Services []string `json:"services"` // sorted
}

// Kinds of things that have no Change of their own.
const (
	kindGroup = "group"
	kindNeed  = "need"
)

// ShareThings lists in m.Shared what others cannot tell from m alone. claimed are the services that
// claim a thing, by its name as in Shared.
func (m *Manifest) ShareThings(claimed map[string][]string) {
	m.Shared = nil
	plain := claimsOf(m)

	for _, thing := range slices.Sorted(maps.Keys(claimed)) {
		services := slices.Clone(claimed[thing])
		slices.Sort(services)
		services = slices.Compact(services)
		if _, there := plain.services[thing]; there && !slices.Equal(services, plain.of(thing)) {
			m.Shared = append(m.Shared, Shared{thing, services})
		}
	}
}

// ServiceNames lists the services that claim something of m, sorted.
func (m *Manifest) ServiceNames() []string {
	names := map[string]bool{}
	for _, services := range claimsOf(m).services {
		for _, s := range services {
			names[s] = true
		}
	}

	delete(names, "")
	return slices.Sorted(maps.Keys(names))
}

// claims are the services that claim the things of a manifest.
type claims struct {
	services map[string][]string // by thing, each sorted; "" is nobody
}

func (c claims) of(thing string) []string { return c.services[thing] }

func (c claims) add(thing string, services ...string) {
	all := slices.Concat(c.services[thing], services)
	slices.Sort(all)
	c.services[thing] = slices.Compact(all)
}

func fileThing(path string) string    { return KindFile + ":" + path }
func linkThing(path string) string    { return KindLink + ":" + path }
func keyThing(name string) string     { return KindKey + ":" + name }
func unitThing(name string) string    { return KindUnit + ":" + name }
func userThing(name string) string    { return KindAccount + ":" + name }
func packageThing(name string) string { return KindPackage + ":" + name }

// GroupThing names a group as Shared does.
func GroupThing(name string) string { return kindGroup + ":" + name }

// NeedThing names a needed command as Shared does.
func NeedThing(command string) string { return kindNeed + ":" + command }

// claimsOf tells whose the things of m are.
func claimsOf(m *Manifest) claims {
	c := claims{services: make(map[string][]string, m.Len())}
	for _, f := range m.Files {
		c.add(fileThing(f.Path), f.Service)
	}
	for _, l := range m.Links {
		c.add(linkThing(l.Path), l.Service)
	}
	for _, k := range m.Keys {
		c.add(keyThing(k.Name), k.Service)
	}
	for _, p := range m.Packages {
		c.add(packageThing(p.Name), cmp.Or(p.Service, p.Name))
	}
	for _, u := range m.Units {
		c.add(unitThing(u.Name), u.Service)
	}
	for _, n := range m.Needs {
		c.add(NeedThing(n.Command), n.Service)
	}
	for _, s := range m.Services {
		c.add(KindService+":"+s.Name, s.Name)
	}
	if m.System != nil {
		c.add(systemThing, SystemService)
	}
	c.accounts(m)

	for _, s := range m.Shared {
		if _, there := c.services[s.Thing]; there {
			c.services[s.Thing] = slices.Sorted(slices.Values(s.Services))
		}
	}

	return c
}

// GroupClaimants are the services whose users are to be in a group that must exist, by name; none where that is
// not known.
func (m *Manifest) GroupClaimants(group string) []string {
	c := claimsOf(m)
	return slices.DeleteFunc(slices.Clone(c.of(GroupThing(group))), func(s string) bool { return s == "" })
}

// accounts adds users, and groups: the group of a user is that of the user's service.
func (c claims) accounts(m *Manifest) {
	for _, g := range m.Groups {
		c.services[GroupThing(g)] = nil
	}

	for _, u := range m.Users {
		c.add(userThing(u.Name), u.Service)
		if _, there := c.services[GroupThing(u.Group)]; there {
			c.add(GroupThing(u.Group), u.Service)
		}
	}
}

// pick is m with the things that keep accepts, by the services that claim them.
func (m *Manifest) pick(keep func(services []string) bool) Manifest {
	c := claimsOf(m)
	keeps := func(thing string) bool { return keep(c.of(thing)) }

	p := Manifest{Network: m.Network, Host: m.Host}
	p.Files = kept(m.Files, func(f File) bool { return keeps(fileThing(f.Path)) })
	p.Links = kept(m.Links, func(l Link) bool { return keeps(linkThing(l.Path)) })
	p.Keys = kept(m.Keys, func(k Key) bool { return keeps(keyThing(k.Name)) })
	p.Packages = kept(m.Packages, func(k Package) bool { return keeps(packageThing(k.Name)) })
	p.Groups = kept(m.Groups, func(g string) bool { return keeps(GroupThing(g)) })
	p.Users = kept(m.Users, func(u User) bool { return keeps(userThing(u.Name)) })
	p.Units = kept(m.Units, func(u Unit) bool { return keeps(unitThing(u.Name)) })
	p.Needs = kept(m.Needs, func(n Need) bool { return keeps(NeedThing(n.Command)) })
	p.Services = kept(m.Services, func(s Service) bool { return keeps(KindService + ":" + s.Name) })
	p.Shared = kept(m.Shared, func(s Shared) bool { return keeps(s.Thing) })
	if m.System != nil && keeps(systemThing) {
		p.System = m.System
	}
	if slices.ContainsFunc(p.Keys, func(k Key) bool { return k.Path == m.Logins }) { // logins are nothing without their key
		p.Logins = m.Logins
	}

	return p
}

func kept[T any](all []T, keep func(T) bool) (some []T) {
	for _, v := range all {
		if keep(v) {
			some = append(some, v)
		}
	}
	return some
}

// places are the things of m by what they take on the host: two services that take one place, in
// two manifests, can't move one without the other. A needed command takes none.
func (c claims) places(m *Manifest) map[string][]string {
	at := map[string][]string{}
	put := func(place, thing string) { at[place] = append(at[place], c.of(thing)...) }

	for _, f := range m.Files {
		put("path "+f.Path, fileThing(f.Path))
	}
	for _, l := range m.Links {
		put("path "+l.Path, linkThing(l.Path))
	}
	for _, k := range m.Keys {
		put("key "+k.Name, keyThing(k.Name))
		put("path "+k.Path, keyThing(k.Name))
	}
	for _, p := range m.Packages {
		put("package "+p.Name, packageThing(p.Name))
	}

	for _, u := range m.Units {
		put("unit "+u.Name, unitThing(u.Name))
		for _, p := range u.Files { // a drop-in that another service brings
			put("path "+p, unitThing(u.Name))
		}
	}

	for _, s := range m.Services {
		if s.Compose != nil {
			put("project "+s.Compose.Project, KindService+":"+s.Name)
		}
	}

	for _, g := range m.Groups {
		put("group "+g, GroupThing(g))
	}

	for _, u := range m.Users {
		put("user "+u.Name, userThing(u.Name))
		if u.UID != 0 {
			put("uid "+strconv.Itoa(int(u.UID)), userThing(u.Name))
		}
		if u.GID != 0 {
			put("gid "+strconv.Itoa(int(u.GID)), userThing(u.Name))
		}
	}

	return at
}

// below has each service whose path lies below the path of another, as when a file became a folder,
// claim that path too.
func below(at map[string][]string) {
	for place, services := range at {
		p, isPath := strings.CutPrefix(place, "path ")
		if !isPath {
			continue
		}
		for i := strings.LastIndexByte(p, '/'); i > 0; i = strings.LastIndexByte(p[:i], '/') {
			if up := "path " + p[:i]; at[up] != nil {
				at[up] = append(at[up], services...)
			}
		}
	}
}

// owners has each service that gives a file or key to a user or group claim that account too, where
// it is not the same in both manifests: without it the file can't stand there.
func (c claims) owners(m *Manifest, differs func(place string) bool, at map[string][]string) {
	put := func(user, group, thing string) {
		for _, place := range []string{"user " + user, "group " + group} {
			if at[place] != nil && differs(place) {
				at[place] = append(at[place], c.of(thing)...)
			}
		}
	}

	for _, f := range m.Files {
		put(f.User, f.Group, fileThing(f.Path))
	}
	for _, k := range m.Keys {
		put(k.User, k.Group, keyThing(k.Name))
	}
}
