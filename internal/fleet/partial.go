package fleet

import (
	"bellhop/internal/bundle"
	"bellhop/internal/fleet/problem"
	"bellhop/internal/fleet/service"
	"bellhop/internal/fleet/syntax"
)

// A brokenService is a problem that keeps one service of a host away, and nothing else of it: a secret
// that does not open, no package for the host's architecture.
type brokenService struct {
	Service string
	Problem *problem.Problem
}

// breaks notes problems that are one service's alone.
func (st *stand) breaks(service string, ps ...*problem.Problem) {
	for _, p := range ps {
		st.problems = append(st.problems, p)
		st.broken = append(st.broken, brokenService{service, p})
	}
}

// needsSystemd notes what a service needs of systemd.
func (st *stand) needsSystemd(r *rendered) {
	for _, needs := range [][]service.SystemdNeed{r.svc.Needs, r.needs} {
		for _, n := range needs {
			n.Service = r.svc.Name
			st.needs = append(st.needs, n)
		}
	}
}

// claimAll notes what a service claims that others may claim too.
func (st *stand) claimAll(r *rendered) {
	s := r.svc
	claim := func(thing string) { st.claim(thing, s.Name) }
	for _, l := range r.links {
		claim(bundle.KindLink + ":" + l.Path)
	}
	for _, k := range r.keySpecs {
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
		claim(bundle.NeedThing(n.S))
	}
	for _, g := range s.ExtraGroups {
		claim(bundle.GroupThing(g))
	}
	if s.User != nil {
		claim(bundle.KindAccount + ":" + s.User.Name)
		claim(bundle.GroupThing(s.User.Group))
	}
}

func (st *stand) claim(thing, service string) { st.claimed[thing] = append(st.claimed[thing], service) }

// claimUnits has the services of a unit claim the drop-in that holds it back: it names the keys of all
// of them.
func (st *stand) claimUnits(units map[string]*bundle.Unit) {
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

// Partial is the bundle of a host some of whose services can't be made, as Broken tells. It is to be
// composed with another one: what it has of those services is not whole. The error is one that
// concerns the host as such.
func (f *Fleet) Partial(host string) (*Bundle, error) {
	whole, err := f.Bundle(host)
	i, known := f.find(host)
	if err == nil || !known {
		return whole, err
	}

	f.loader.mu.Lock()
	defer f.loader.mu.Unlock()
	s := f.slots[i]
	arch := f.archOf(s.host)
	st, ferr := f.standOf(i, s, arch, true)
	if ferr != nil {
		return nil, ferr
	}
	if len(st.broken) == 0 || len(st.problems) > len(st.broken) {
		return nil, err
	}
	return f.bundleOf(st, host, arch), nil
}

// Broken says why services of b can't be made, by service; it is empty for a whole bundle.
func (b *Bundle) Broken() map[string]problem.Problems {
	all := map[string]problem.Problems{}
	for _, bs := range b.st.broken {
		all[bs.Service] = append(all[bs.Service], forHost(bs.Problem, b.Host))
	}
	return all
}
