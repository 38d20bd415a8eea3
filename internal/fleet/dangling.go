package fleet

import (
	"maps"
	"slices"

	"bellhop/internal/fleet/problem"
	"bellhop/internal/fleet/service"
)

// dangling reports the names in unit files that nobody makes.
func (f *Fleet) dangling() problem.Problems {
	book := service.NewNames()
	for _, s := range f.services {
		book.Add(s.Service)
	}

	var ps problem.Problems
	for _, name := range slices.Sorted(maps.Keys(f.services)) {
		ps = append(ps, book.Missing(f.services[name].Refs)...)
	}

	for _, s := range f.slots {
		for _, r := range s.renders {
			ps = append(ps, book.Missing(r.Refs)...)
		}
	}

	return append(ps, f.unused()...)
}

// unused warns of services that no host has.
func (f *Fleet) unused() problem.Problems {
	var ps problem.Problems
	if len(f.Hosts) == 0 {
		return nil // a repo that only begins
	}

	for _, name := range slices.Sorted(maps.Keys(f.services)) {
		if name != "" && len(f.config.Users[name]) == 0 {
			ps = append(ps, &problem.Problem{File: "services/" + name, Warning: true, Message: "no host uses this service"})
		}
	}

	return ps
}
