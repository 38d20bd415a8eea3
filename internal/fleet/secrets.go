package fleet

import (
	"maps"
	"slices"
)

// Secrets lists the age files that the services of f name, on whichever hosts they run, by
// name: also those that only a template names. Of a source that names hosts or settings they
// are the files of the hosts that switch the service on.
func (f *Fleet) Secrets() []string {
	used := map[string]bool{}
	for _, k := range f.KeyFiles() {
		used[k.File] = true
	}
	return slices.Sorted(maps.Keys(used))
}
