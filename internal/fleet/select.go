package fleet

import "bellhop/internal/fleet/inventory"

// Select lists the hosts that expr names, in the order of names. See inventory.Choose.
func (f *Fleet) Select(expr string) ([]*inventory.Host, error) {
	all := make([]inventory.Named, len(f.Hosts))
	for i, h := range f.Hosts {
		all[i] = inventory.Named{Name: h.Name, Tags: h.Tags}
	}

	in, err := inventory.Choose(all, expr)
	if err != nil {
		return nil, err
	}

	out := make([]*inventory.Host, len(in))
	for i, at := range in {
		out[i] = f.Hosts[at]
	}

	return out, nil
}
