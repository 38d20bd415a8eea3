package fleet

import "bellhop/internal/fleet/problem"

// Partial is the bundle of a host some of whose services can't be made, which Broken lists. It is to be
// composed with another one: what it has of those services is not whole. The error is one that
// concerns the host as such.
func (f *Fleet) Partial(host string) (*Bundle, error) {
	whole, err := f.Bundle(host)
	i, known := f.find(host)
	if err == nil || !known {
		return whole, err
	}

	b, perr := f.partialOf(i, host)
	switch {
	case perr != nil:
		return nil, perr
	case b == nil:
		return nil, err
	case f.Hosts[i].NixOS == nil:
		return b, nil
	}
	return f.withSystem(i, b)
}

// partialOf is what those services of a host come to that can be made; nil when that is none of them, or all.
func (f *Fleet) partialOf(i int, host string) (*Bundle, error) {
	f.loader.mu.Lock()
	defer f.loader.mu.Unlock()
	s := f.slots[i]
	arch := f.archOf(s.host)
	st, err := f.composition(i, s, arch, true)
	if err != nil {
		return nil, err
	}
	of := map[*problem.Problem]bool{} // of services: one may be that of several
	for _, b := range st.Broken {
		of[b.Problem] = true
	}
	if len(of) == 0 || len(st.Problems) > len(of) {
		return nil, nil
	}

	return f.bundleOf(st, host, arch), nil
}

// Broken says why services of b can't be made, by service; it is empty for a whole bundle.
func (b *Bundle) Broken() map[string]problem.Problems {
	all := map[string]problem.Problems{}
	for _, bs := range b.st.Broken {
		all[bs.Service] = append(all[bs.Service], forHost(bs.Problem, b.Host))
	}
	return all
}
