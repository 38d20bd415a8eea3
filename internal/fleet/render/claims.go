package render

import (
	"bellhop/internal/bundle"
	"bellhop/internal/fleet/problem"
	"bellhop/internal/fleet/service"
	"bellhop/internal/fleet/syntax"
)

// A Broken is a problem that keeps one service of a host away, and nothing else of it: a secret
// that does not open, no package for the host's architecture.
type Broken struct {
	Service string
	Problem *problem.Problem
}

// breaks notes problems that are one service's alone. Those of the logins at registries, which are no
// service's, are those of each service that pulls images.
func (st *Composition) breaks(service string, ps ...*problem.Problem) {
	names := []string{service}
	if service == "" {
		names = st.pulls
	}

	for _, p := range ps {
		st.Problems = append(st.Problems, p)
		for _, name := range names {
			st.Broken = append(st.Broken, Broken{name, p})
		}
	}
}

// needsSystemd notes what a service needs of systemd.
func (st *Composition) needsSystemd(r *Rendering) {
	for _, needs := range [][]service.SystemdNeed{r.Service.Needs, r.needs} {
		for _, n := range needs {
			n.Service = r.Service.Name
			st.Needs = append(st.Needs, n)
		}
	}
}

// claimAll notes what a service claims that others may claim too.
func (st *Composition) claimAll(r *Rendering) {
	s := r.Service
	claim := func(thing string) { st.claim(thing, s.Name) }
	for _, l := range r.links {
		claim(bundle.KindLink + ":" + l.Path)
	}

	for _, k := range r.KeySpecs {
		claim(bundle.KindKey + ":" + k.Name)
		unit := syntax.KeyUnitName(k.Name)
		claim(bundle.KindUnit + ":" + unit)
		claim(bundle.KindFile + ":" + bundle.UnitDir + "/" + unit)
	}

	for _, u := range r.units {
		claim(bundle.KindUnit + ":" + u.Name)
	}

	for name := range r.gates {
		claim(bundle.KindFile + ":" + syntax.GatePath(name))
	}

	for _, n := range s.Def.Needs {
		claim(bundle.NeedResource(n.S))
	}

	if r.project != nil {
		claim(bundle.NeedResource("docker"))
	}

	for _, g := range s.ExtraGroups {
		claim(bundle.GroupResource(g))
	}
	if s.User != nil {
		claim(bundle.KindAccount + ":" + s.User.Name)
		claim(bundle.GroupResource(s.User.Group))
	}
}

func (st *Composition) claim(thing, service string) {
	st.claimed[thing] = append(st.claimed[thing], service)
}

// claimUnits has the services of a unit claim the drop-in that holds it back: it names the keys of all
// of them.
func (st *Composition) claimUnits(units map[string]*bundle.Unit) {
	for _, u := range units {
		for _, p := range u.Files {
			thing := bundle.KindFile + ":" + p
			if st.claimed[thing] == nil {
				continue // a file of one service
			}
			for _, s := range st.claimed[bundle.KindUnit+":"+u.Name] {
				st.claim(thing, s)
			}
		}
	}
}
