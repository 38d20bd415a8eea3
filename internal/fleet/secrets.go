package fleet

import (
	"maps"
	"slices"
)

// Secrets lists the age files that the services of f name, on whichever hosts they run, by
// name: also those that only a template names.
func (f *Fleet) Secrets() []string {
	used := map[string]bool{}
	for _, s := range f.services {
		for _, k := range s.keys {
			for _, src := range k.sources {
				used[src] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(used))
}
