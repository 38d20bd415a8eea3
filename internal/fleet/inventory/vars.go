package inventory

import "bellhop/internal/fleet/yaml"

// Variables are values for templates that belong to hosts and not to a service: a domain, an address
// inside a tunnel. What a host says wins over its groups, and a group over all.

// takeVars adds the variables of group (all is ""); where two groups differ, it notes the clash.
func (b *base) takeVars(group string, vars yaml.Entries[yaml.Value]) {
	for _, e := range vars {
		now := from{value: e.Value.V, by: group, at: e.At}
		if was, ok := b.vars[e.Key]; ok && was.by != "" && !sameValue(was.value, now.value) {
			now.clash = &clash{was.by, group, e.At}
		}
		b.vars[e.Key] = now
	}
}

// vars are the variables of one host, its own lines winning.
func (m *maker) vars(host string, b *base, own yaml.Entries[yaml.Value]) map[string]any {
	out := make(map[string]any, len(b.vars)+len(own))
	for name, v := range b.vars {
		if _, ours := own.Get(name); v.clash != nil && !ours {
			m.report(m.main, v.clash.at, "groups %s and %s set the variable %s differently, and host %s has both tags; its own line would decide", v.clash.a, v.clash.b, name, host)
		}
		out[name] = v.value
	}

	for _, e := range own {
		out[e.Key] = e.Value.V
	}
	return out
}
