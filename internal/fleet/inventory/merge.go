package inventory

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"bellhop/internal/fleet/problem"
	"bellhop/internal/fleet/scalar"
	"bellhop/internal/fleet/syntax"
	"bellhop/internal/fleet/yaml"
)

// base is what all and the groups of some tags say together.
type base struct {
	user, arch, jump string
	services         map[string]merged
	vars             map[string]from
	enabled          []EnabledService // when the host itself says nothing
}

type merged struct {
	on   bool
	set  map[string]from
	onBy string // group that said on or off, "" for all
	onAt problem.Pos
}

type from struct {
	value any
	by    string // group, or "" for all
	at    problem.Pos
	clash *clash
}

// A clash is two groups that set one value differently; it is a problem when no line of the host decides.
type clash struct {
	a, b string
	at   problem.Pos
}

// base merges all and the groups of tags, once for each set of tags.
func (m *maker) base(tags []string) *base {
	key := strings.Join(tags, ",")
	if b, ok := m.bases[key]; ok {
		return b
	}
	all := &m.file.All
	b := &base{user: all.User.S, arch: all.Arch.S, jump: all.Jump.S, services: map[string]merged{}, vars: map[string]from{}}
	b.take("", all.Services)
	b.takeVars("", all.Vars)
	var userBy, archBy, jumpBy string
	pick := func(into *string, by *string, group string, s yaml.String, what string) {
		if s.S == "" {
			return
		}
		if *by != "" && *into != s.S {
			m.report(m.main, s.At, "groups %s and %s set %s differently; a host has both tags", *by, group, what)
		}
		*into, *by = s.S, group
	}

	for _, tag := range tags {
		if g, ok := m.groups[tag]; ok {
			pick(&b.user, &userBy, tag, g.User, "user")
			pick(&b.arch, &archBy, tag, g.Arch, "arch")
			pick(&b.jump, &jumpBy, tag, g.Jump, "jump")
			b.take(tag, g.Services)
			b.takeVars(tag, g.Vars)
		}
	}

	m.bases[key] = b
	return b
}

// take adds what group says (all is ""); where two groups differ, it notes the clash.
func (b *base) take(group string, es yaml.Entries[syntax.Switch]) {
	for _, e := range es {
		was, had := b.services[e.Key]
		now := merged{on: e.Value.On(), onBy: group, onAt: e.At, set: map[string]from{}}
		for k, v := range was.set {
			now.set[k] = v
		}
		if had && was.onBy != "" && was.on != now.on {
			now.set[syntax.EnableWord] = from{clash: &clash{was.onBy, group, e.At}}
		}
		for _, s := range e.Value.Set {
			f := from{value: s.Value.V, by: group, at: s.At}
			if w, ok := now.set[s.Key]; ok && w.by != "" && !sameValue(w.value, f.value) {
				f.clash = &clash{w.by, group, s.At}
			}
			now.set[s.Key] = f
		}

		b.services[e.Key] = now
	}
}

// decide settles which services the host has, its own lines winning.
func (m *maker) decide(t *yaml.File, at problem.Pos, f *syntax.Host, b *base, h *Facts) {
	if len(f.Services) == 0 {
		if b.enabled == nil {
			b.enabled = m.enabledServices(t, at, h.Host.Name, b.services, nil)
		}
		h.Enabled = b.enabled
		return
	}
	h.Enabled = m.enabledServices(t, at, h.Host.Name, b.services, f.Services)
}

func (m *maker) enabledServices(t *yaml.File, at problem.Pos, host string, services map[string]merged, own yaml.Entries[syntax.Switch]) []EnabledService {
	out := []EnabledService{}
	one := func(name string, on bool, base merged, set yaml.Entries[yaml.Value], decided bool) {
		if c := base.set[syntax.EnableWord].clash; c != nil && !decided {
			m.report(m.main, c.at, "groups %s and %s switch service %s differently, and host %s has both tags; its own line would decide", c.a, c.b, name, host)
		}
		if !on {
			return
		}
		w := EnabledService{Service: name}
		for k, v := range base.set {
			if k == syntax.EnableWord {
				continue
			}
			if _, ours := set.Get(k); ours {
				continue
			}
			if v.clash != nil {
				m.report(m.main, v.clash.at, "groups %s and %s set %s of service %s differently, and host %s has both tags; its own line would decide", v.clash.a, v.clash.b, k, name, host)
			}
			w.Set = append(w.Set, Setting{k, v.value})
		}

		for _, e := range set {
			w.Set = append(w.Set, Setting{e.Key, e.Value.V})
		}
		slices.SortFunc(w.Set, func(a, b Setting) int { return strings.Compare(a.Name, b.Name) })
		w.Key = settingsKey(w.Set)
		out = append(out, w)
	}

	for name, b := range services {
		if _, ours := own.Get(name); !ours {
			one(name, b.on, b, nil, false)
		}
	}

	for i := range own {
		e := &own[i]
		one(e.Key, e.Value.On(), services[e.Key], e.Value.Set, true)
	}

	slices.SortFunc(out, func(a, b EnabledService) int { return strings.Compare(a.Service, b.Service) })
	return out
}

// settingsKey is equal for equal settings, and only for them.
func settingsKey(set []Setting) string {
	if len(set) == 0 {
		return ""
	}
	var b strings.Builder
	for _, e := range set {
		fmt.Fprintf(&b, "%q=", e.Name)
		scalar.WriteKey(&b, e.Value)
	}

	return b.String()
}

func sameValue(a, b any) bool { return reflect.DeepEqual(a, b) }
