package fleet

import "bellhop/internal/fleet/inventory"

// A Named is what a selector knows of a host.
type Named = inventory.Named

// Choose returns the places in all of the hosts that expr names: names, globs, @tag, and ! to
// exclude, separated by commas. See inventory.Choose.
func Choose(all []Named, expr string) ([]int, error) { return inventory.Choose(all, expr) }

// Select lists the hosts that expr names, in the order of names. See Choose.
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
