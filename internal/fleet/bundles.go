package fleet

import (
	"fmt"
	"strings"

	"bellhop/internal/fleet/inventory"
	"bellhop/internal/fleet/problem"
	"bellhop/internal/fleet/render"
)

// Bundle is what the host of that name should hold. The error is Problems that concern this
// host alone. While nothing changes that the host depends on, the same Loader gives the same
// pointer.
func (f *Fleet) Bundle(host string) (*Bundle, error) {
	i, ok := f.find(host)
	if !ok {
		return nil, fmt.Errorf("no host %q in the fleet", host)
	}
	b, err := f.ofServices(i, host)
	if err != nil || f.Hosts[i].NixOS == nil {
		return b, err
	}
	return f.withSystem(i, b)
}

// ofServices is what the services of a host come to.
func (f *Fleet) ofServices(i int, host string) (*Bundle, error) {
	s := f.slots[i]
	if m := s.made.Load(); m != nil && (!s.asksArch || m.arch == f.archOf(s.host)) {
		return m.bundle, nil
	}
	f.loader.mu.Lock()
	defer f.loader.mu.Unlock()
	arch := f.archOf(s.host)
	if m := s.made.Load(); m != nil && (!s.asksArch || m.arch == arch) {
		return m.bundle, nil
	}

	st, err := f.composition(i, s, arch, false)
	if err != nil {
		return nil, err
	}
	if len(st.Problems) > 0 {
		var ps problem.Problems
		for _, p := range st.Problems {
			ps = append(ps, forHost(p, host))
		}
		return nil, ps.Sort()
	}

	b := f.bundleOf(st, host, arch)
	s.made.Store(&madeBundle{b, arch})
	return b, nil
}

func (f *Fleet) bundleOf(st *render.Composition, host, arch string) *Bundle {
	b := &Bundle{Manifest: st.Manifest, Digest: st.Digest, st: st, loader: f.loader, tree: f.tree.FS, fleet: f, arch: arch}
	b.Network, b.Host = f.Network, host
	return b
}

func forHost(p *problem.Problem, host string) *problem.Problem {
	q := *p
	q.Host = host
	return &q
}

// composition is what the services of a host come to, made here or by the process that loaded f.
func (f *Fleet) composition(i int, s *slot, arch string, partial bool) (*render.Composition, error) {
	if f.far == nil {
		return f.compose(s, arch), nil
	}
	st, err := f.farComposition(i, s, arch, partial)
	s.base = nil
	return st, err
}

func (f *Fleet) archOf(h *inventory.Host) string {
	if h.Arch == "" && f.loader.Arch != nil {
		return f.loader.Arch(h.Name)
	}
	return h.Arch
}

// compose is what the slot's services come to, shared by all hosts that have the same.
func (f *Fleet) compose(s *slot, arch string) *render.Composition {
	var key strings.Builder
	if s.asksArch {
		key.WriteString(arch)
	}

	for i, r := range s.renders {
		fmt.Fprintf(&key, " %p %p", r, s.states[i])
	}

	st := f.compositions[key.String()]
	if st == nil {
		st = render.Compose(f.loader.opener(), f.tree, s.renders, arch)
		f.compositions[key.String()] = st
	}

	return st
}
