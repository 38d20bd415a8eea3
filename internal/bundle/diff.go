package bundle

import (
	"cmp"
	"reflect"
	"slices"
)

// What a Change does.
const (
	Add    = "add"
	Modify = "change"
	Remove = "remove"
)

// Kinds of things, in the order a plan shows them.
const (
	KindFile    = "file"
	KindLink    = "link"
	KindKey     = "key"
	KindUnit    = "unit"
	KindPackage = "package"
	KindAccount = "account"
	KindSystem  = "system"
	KindService = "service" // how a service is started and judged: nothing on the host is touched for it
)

// A Change is one thing that differs between two manifests. A unit file is a file; a
// change of kind unit is one of what systemd is asked to do.
type Change struct {
	Action  string `json:"action"`
	Kind    string `json:"kind"`
	Name    string `json:"name"` // path of a file or link, else the name
	Service string `json:"-"`
}

// Resource is the change's name as triggers and results write it: "file:/etc/x", "key:bot".
func (c Change) Resource() string { return c.Kind + ":" + c.Name }

// Diff lists what must happen to turn old into new, sorted by kind and name. Either may be
// the zero Manifest.
func Diff(old, new Manifest) []Change {
	var cs []Change
	cs = diffBy(cs, KindFile, old.Files, new.Files, func(f File) (string, string) { return f.Path, f.Service },
		func(f *File) { f.Service = "" })
	cs = diffBy(cs, KindLink, old.Links, new.Links, func(l Link) (string, string) { return l.Path, l.Service },
		func(l *Link) { l.Service = "" })
	cs = diffBy(cs, KindKey, old.Keys, new.Keys, func(k Key) (string, string) { return k.Name, k.Service },
		func(k *Key) { k.Service, k.Source = "", "" })
	cs = diffBy(cs, KindUnit, old.Units, new.Units, func(u Unit) (string, string) { return u.Name, u.Service },
		func(u *Unit) { u.Service = "" })
	cs = diffBy(cs, KindPackage, old.Packages, new.Packages, func(p Package) (string, string) { return p.Name, p.Service },
		func(p *Package) { p.Service, p.Source, p.URL, p.As, p.Size, p.Named = "", "", "", "", 0, false })
	cs = diffBy(cs, KindAccount, old.Users, new.Users, func(u User) (string, string) { return u.Name, u.Service },
		func(u *User) { u.Service = "" })
	cs = diffBy(cs, KindSystem, old.systems(), new.systems(), func(System) (string, string) { return SystemService, SystemService },
		func(s *System) { s.Action = s.Verb() })
	cs = diffBy(cs, KindService, old.Services, new.Services, func(s Service) (string, string) { return s.Name, s.Name },
		func(s *Service) { s.Digest = "" })
	order := []string{KindFile, KindLink, KindKey, KindUnit, KindPackage, KindAccount, KindSystem, KindService}
	slices.SortStableFunc(cs, func(a, b Change) int {
		return cmp.Or(cmp.Compare(slices.Index(order, a.Kind), slices.Index(order, b.Kind)), cmp.Compare(a.Name, b.Name))
	})

	return cs
}

func diffBy[T any](cs []Change, kind string, old, new []T, id func(T) (name, service string), plain func(*T)) []Change {
	was := make(map[string]T, len(old))
	for _, o := range old {
		name, _ := id(o)
		was[name] = o
	}

	for _, n := range new {
		name, service := id(n)
		o, had := was[name]
		delete(was, name)
		if !had {
			cs = append(cs, Change{Add, kind, name, service})
			continue
		}
		plain(&o)
		plain(&n)
		if !reflect.DeepEqual(o, n) {
			cs = append(cs, Change{Modify, kind, name, service})
		}
	}

	for name, o := range was {
		_, service := id(o)
		cs = append(cs, Change{Remove, kind, name, service})
	}

	return cs
}

// HowJudged is what people are told that a change of kind service is about.
func HowJudged(service string) string { return "how " + service + " is started and judged" }
