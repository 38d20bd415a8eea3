package fleet

import (
	"maps"
	"slices"

	"bellhop/internal/fleet/problem"
	"bellhop/internal/fleet/service"
	"bellhop/internal/fleet/tree"
)

// Secrets lists the age files that the services of f name, on whichever hosts they run, by
// name: also those that only a template names. Of a source that names hosts or settings they
// are the files of the hosts that switch the service on. Those of notify: and registries: are among them.
func (f *Fleet) Secrets() []string {
	used := map[string]bool{}
	for _, k := range f.KeyFiles() {
		used[k.File] = true
	}
	for _, n := range f.Notify {
		used[n.Source] = true
	}
	for _, r := range f.Registries {
		used[r.Source] = true
	}
	return slices.Sorted(maps.Keys(used))
}

// notifyFiles reports the age files of notify: that are not there, or that are none.
func (f *Fleet) notifyFiles() problem.Problems {
	var ps problem.Problems
	for _, n := range f.Notify {
		data, err := f.tree.Bytes(n.Source)
		bad := ""
		switch {
		case f.tree.Linked(n.Source):
			bad = tree.LinkTrouble
		case err != nil:
			bad = "no file " + n.Source + "; `bellhop secret set` makes it"
		default:
			bad = service.AgeTrouble(data)
		}

		if bad != "" {
			ps = append(ps, &problem.Problem{File: "bellhop.yaml", Line: n.Line, Message: "notify: " + n.Name + ": " + bad})
		}
	}
	return ps
}
