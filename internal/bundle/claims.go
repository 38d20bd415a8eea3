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
	Resource string   `json:"thing"`    // as Change.Resource has it; "group:NAME" and "need:COMMAND" beside those
	Services []string `json:"services"` // sorted
}

// Kinds of things that have no Change of their own.
const (
	kindGroup = "group"
	kindNeed  = "need"
)

// ShareResources lists in m.Shared what others cannot tell from m alone. claimed are the services that
// claim a thing, by its name as in Shared.
func (m *Manifest) ShareResources(claimed map[string][]string) {
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

func fileResource(path string) string    { return KindFile + ":" + path }
func linkResource(path string) string    { return KindLink + ":" + path }
func keyResource(name string) string     { return KindKey + ":" + name }
func unitResource(name string) string    { return KindUnit + ":" + name }
func userResource(name string) string    { return KindAccount + ":" + name }
func packageResource(name string) string { return KindPackage + ":" + name }

// GroupResource names a group as Shared does.
func GroupResource(name string) string { return kindGroup + ":" + name }

// NeedResource names a needed command as Shared does.
func NeedResource(command string) string { return kindNeed + ":" + command }

// claimsOf tells whose the things of m are.
func claimsOf(m *Manifest) claims {
	c := claims{services: make(map[string][]string, m.Len())}
	for _, f := range m.Files {
		c.add(fileResource(f.Path), f.Service)
	}
	for _, l := range m.Links {
		c.add(linkResource(l.Path), l.Service)
	}
	for _, k := range m.Keys {
		c.add(keyResource(k.Name), k.Service)
	}
	for _, p := range m.Packages {
		c.add(packageResource(p.Name), cmp.Or(p.Service, p.Name))
	}
	for _, u := range m.Units {
		c.add(unitResource(u.Name), u.Service)
	}
	for _, n := range m.Needs {
		c.add(NeedResource(n.Command), n.Service)
	}
	for _, s := range m.Services {
		c.add(KindService+":"+s.Name, s.Name)
	}
	if m.System != nil {
		c.add(systemResource, SystemService)
	}
	c.accounts(m)

	for _, s := range m.Shared {
		if _, there := c.services[s.Resource]; there {
			c.services[s.Resource] = slices.Sorted(slices.Values(s.Services))
		}
	}

	return c
}

// GroupClaimants are the services whose users are to be in a group that must exist, by name; none where that is
// not known.
func (m *Manifest) GroupClaimants(group string) []string {
	c := claimsOf(m)
	return slices.DeleteFunc(slices.Clone(c.of(GroupResource(group))), func(s string) bool { return s == "" })
}

// accounts adds users, and groups: the group of a user is that of the user's service.
func (c claims) accounts(m *Manifest) {
	for _, g := range m.Groups {
		c.services[GroupResource(g)] = nil
	}

	for _, u := range m.Users {
		c.add(userResource(u.Name), u.Service)
		if _, there := c.services[GroupResource(u.Group)]; there {
			c.add(GroupResource(u.Group), u.Service)
		}
	}
}

// pick is m with the things that keep accepts, by the services that claim them.
func (m *Manifest) pick(keep func(services []string) bool) Manifest {
	c := claimsOf(m)
	keeps := func(thing string) bool { return keep(c.of(thing)) }

	p := Manifest{Network: m.Network, Host: m.Host}
	p.Files = kept(m.Files, func(f File) bool { return keeps(fileResource(f.Path)) })
	p.Links = kept(m.Links, func(l Link) bool { return keeps(linkResource(l.Path)) })
	p.Keys = kept(m.Keys, func(k Key) bool { return keeps(keyResource(k.Name)) })
	p.Packages = kept(m.Packages, func(k Package) bool { return keeps(packageResource(k.Name)) })
	p.Groups = kept(m.Groups, func(g string) bool { return keeps(GroupResource(g)) })
	p.Users = kept(m.Users, func(u User) bool { return keeps(userResource(u.Name)) })
	p.Units = kept(m.Units, func(u Unit) bool { return keeps(unitResource(u.Name)) })
	p.Needs = kept(m.Needs, func(n Need) bool { return keeps(NeedResource(n.Command)) })
	p.Services = kept(m.Services, func(s Service) bool { return keeps(KindService + ":" + s.Name) })
	p.Shared = kept(m.Shared, func(s Shared) bool { return keeps(s.Resource) })
	if m.System != nil && keeps(systemResource) {
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
		put("path "+f.Path, fileResource(f.Path))
	}
	for _, l := range m.Links {
		put("path "+l.Path, linkResource(l.Path))
	}
	for _, k := range m.Keys {
		put("key "+k.Name, keyResource(k.Name))
		put("path "+k.Path, keyResource(k.Name))
	}
	for _, p := range m.Packages {
		put("package "+p.Name, packageResource(p.Name))
	}

	for _, u := range m.Units {
		put("unit "+u.Name, unitResource(u.Name))
		for _, p := range u.Files { // a drop-in that another service brings
			put("path "+p, unitResource(u.Name))
		}
	}

	for _, s := range m.Services {
		if s.Compose != nil {
			put("project "+s.Compose.Project, KindService+":"+s.Name)
		}
	}

	for _, g := range m.Groups {
		put("group "+g, GroupResource(g))
	}

	for _, u := range m.Users {
		put("user "+u.Name, userResource(u.Name))
		if u.UID != 0 {
			put("uid "+strconv.Itoa(int(u.UID)), userResource(u.Name))
		}
		if u.GID != 0 {
			put("gid "+strconv.Itoa(int(u.GID)), userResource(u.Name))
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
		put(f.User, f.Group, fileResource(f.Path))
	}
	for _, k := range m.Keys {
		put(k.User, k.Group, keyResource(k.Name))
	}
}
