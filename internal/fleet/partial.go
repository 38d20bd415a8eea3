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

	f.loader.mu.Lock()
	defer f.loader.mu.Unlock()
	s := f.slots[i]
	arch := f.archOf(s.host)
	st, ferr := f.composition(i, s, arch, true)
	if ferr != nil {
		return nil, ferr
	}
	if len(st.Broken) == 0 || len(st.Problems) > len(st.Broken) {
		return nil, err
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
