package bundle

import (
	"cmp"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// A Composition is a manifest of which some services are as another manifest has them.
type Composition struct {
	Manifest Manifest
	Held     []HeldService // by name
}

// A HeldService is one that stays as the last good manifest has it, or away where that has nothing.
type HeldService struct {
	Name string
	// With is the failing service that it moves with, and By what ties it: "user app", "key db",
	// "path /etc/x". Both are "" for a service that fails itself.
	With, By string
}

// Holds says whether the service is held.
func (c *Composition) Holds(service string) bool {
	return slices.ContainsFunc(c.Held, func(h HeldService) bool { return h.Name == service })
}

// Compose is head with exactly what lastGood holds of the failing services, and of all that are tied
// to them: services that claim the same path, user, group, key, drop-in, unit or package, in either
// manifest or one in each, move together. The rest is as head has it, and what both hold alike ties
// nobody but those who claim it.
func Compose(head, lastGood Manifest, failing []string) Composition {
	held := tiedTo(&head, &lastGood, failing)
	isHeld := func(service string) bool { _, ok := held[service]; return ok }
	comes := func(services []string) bool { return len(services) == 0 || !slices.ContainsFunc(services, isHeld) }
	stays := func(services []string) bool { return slices.ContainsFunc(services, isHeld) }
	if len(held) == 0 {
		return Composition{Manifest: head}
	}

	m := head.pick(comes)
	m.join(lastGood.pick(stays))
	if m.Logins == "" {
		m.keepLogins(&lastGood)
	}
	m.composeNeeds(&head, &lastGood, isHeld)
	m.keepGroups(&lastGood)
	m.Sort()

	c := Composition{Manifest: m}
	for _, name := range slices.Sorted(maps.Keys(held)) {
		c.Held = append(c.Held, held[name])
	}

	return c
}

// join adds the things of o, none of which m has.
func (m *Manifest) join(o Manifest) {
	m.Files = slices.Concat(m.Files, o.Files)
	m.Links = slices.Concat(m.Links, o.Links)
	m.Keys = slices.Concat(m.Keys, o.Keys)
	m.Packages = slices.Concat(m.Packages, o.Packages)
	m.Groups = slices.Concat(m.Groups, o.Groups)
	m.Users = slices.Concat(m.Users, o.Users)
	m.Units = slices.Concat(m.Units, o.Units)
	m.Needs = slices.Concat(m.Needs, o.Needs)
	m.Services = slices.Concat(m.Services, o.Services)
	m.Shared = slices.Concat(m.Shared, o.Shared)
	m.System = cmp.Or(o.System, m.System)
	m.Logins = cmp.Or(m.Logins, o.Logins)
}

// keepLogins keeps the logins at registries, which are no service's: who stays may have to pull an image again.
func (m *Manifest) keepLogins(lastGood *Manifest) {
	i := slices.IndexFunc(lastGood.Keys, func(k Key) bool { return k.Path == lastGood.Logins })
	if i < 0 || slices.ContainsFunc(m.Keys, func(k Key) bool { return k.Name == lastGood.Keys[i].Name }) {
		return
	}
	m.Keys, m.Logins = append(m.Keys, lastGood.Keys[i]), lastGood.Logins
}

// composeNeeds lists the commands that services need: those that come, of head, and those that stay,
// of lastGood. A command is only looked for, so it ties nobody.
func (m *Manifest) composeNeeds(head, lastGood *Manifest, isHeld func(string) bool) {
	users := map[string][]string{}
	add := func(from *Manifest, needs func(service string) bool) {
		c := claimsOf(from)
		for _, n := range from.Needs {
			for _, s := range c.of(NeedResource(n.Command)) {
				if needs(s) {
					users[n.Command] = append(users[n.Command], s)
				}
			}
		}
	}

	add(head, func(s string) bool { return !isHeld(s) })
	add(lastGood, isHeld)

	m.Needs = nil
	m.Shared = kept(m.Shared, func(s Shared) bool { return !strings.HasPrefix(s.Resource, kindNeed+":") })
	for _, command := range slices.Sorted(maps.Keys(users)) {
		services := slices.Compact(slices.Sorted(slices.Values(users[command])))
		m.Needs = append(m.Needs, Need{Command: command, Service: services[0]})
		if len(services) > 1 {
			m.Shared = append(m.Shared, Shared{NeedResource(command), services})
		}
	}
}

// keepGroups adds the groups of lastGood of which it is not known who needs them.
func (m *Manifest) keepGroups(lastGood *Manifest) {
	c := claimsOf(lastGood)
	for _, g := range lastGood.Groups {
		if len(c.of(GroupResource(g))) == 0 {
			m.Groups = append(m.Groups, g)
		}
	}

	slices.Sort(m.Groups)
	m.Groups = slices.Compact(m.Groups)
}

// tiedTo is what moves with the failing services, by name, they among them.
func tiedTo(head, lastGood *Manifest, failing []string) map[string]HeldService {
	places := sharedPlaces(head, lastGood)
	placesOf := map[string][]string{}
	for _, place := range slices.SortedFunc(maps.Keys(places), plainestFirst) {
		for _, s := range places[place] {
			placesOf[s] = append(placesOf[s], place)
		}
	}

	held := map[string]HeldService{}
	queue := []HeldService{}
	for _, name := range slices.Sorted(slices.Values(failing)) {
		if _, twice := held[name]; !twice {
			held[name] = HeldService{Name: name}
			queue = append(queue, held[name])
		}
	}

	for len(queue) > 0 {
		from := queue[0]
		queue = queue[1:]
		with := from.With
		if with == "" {
			with = from.Name
		}
		for _, place := range placesOf[from.Name] {
			for _, s := range places[place] {
				if _, seen := held[s]; seen {
					continue
				}
				held[s] = HeldService{Name: s, With: with, By: place}
				queue = append(queue, held[s])
			}
		}
	}

	return held
}

// plainestFirst sorts places so that the tie which is told of is the one that people know best: a user
// rather than the user's group.
func plainestFirst(a, b string) int {
	order := []string{"user", "key", "unit", "project", "package", "path", "group", "uid", "gid"}
	rank := func(place string) int {
		kind, _, _ := strings.Cut(place, " ")
		return slices.Index(order, kind)
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), strings.Compare(a, b))
}

// sharedPlaces are the places that more than one service claims, in either manifest or one in each.
func sharedPlaces(head, lastGood *Manifest) map[string][]string {
	h, l := claimsOf(head), claimsOf(lastGood)
	at := h.places(head)
	for place, services := range l.places(lastGood) {
		at[place] = append(at[place], services...)
	}

	differs := accountsThatDiffer(head, lastGood)
	h.owners(head, differs, at)
	l.owners(lastGood, differs, at)
	below(at)

	for place, services := range at {
		slices.Sort(services)
		services = slices.DeleteFunc(slices.Compact(services), func(s string) bool { return s == "" })
		if at[place] = services; len(services) < 2 {
			delete(at, place)
		}
	}

	return at
}

// accountsThatDiffer tells of a user or group, by its place, whether it is in one manifest alone or
// another one in each.
func accountsThatDiffer(head, lastGood *Manifest) func(place string) bool {
	accounts := func(m *Manifest) map[string]User {
		all := map[string]User{}
		for _, g := range m.Groups {
			all["group "+g] = User{}
		}
		for _, u := range m.Users {
			u.Service = ""
			all["user "+u.Name] = u
		}
		return all
	}

	now, was := accounts(head), accounts(lastGood)
	return func(place string) bool {
		a, inHead := now[place]
		b, inLast := was[place]
		return inHead != inLast || !reflect.DeepEqual(a, b)
	}
}
