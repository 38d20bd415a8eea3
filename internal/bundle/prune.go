package bundle

import (
	"maps"
	"slices"
)

// A Loss is how much of what a host has would leave with a change.
type Loss struct {
	Gone, Of int      // things
	Services []string // that would leave whole, sorted
}

// PruneGuard tells of an accident: more than half of a host's things would leave, and at least two
// services. It is nil when there is none. Deployer and host ask it alike.
func PruneGuard(was, want Manifest) *Loss {
	l := &Loss{}
	stays := things(want)
	for t := range things(was) {
		l.Of++
		if !stays[t] {
			l.Gone++
		}
	}

	gone := services(was)
	for s := range services(want) {
		delete(gone, s)
	}

	if l.Gone*2 <= l.Of || len(gone) < 2 {
		return nil
	}

	l.Services = slices.Sorted(maps.Keys(gone))
	return l
}

// held lists what a host has of m, as what came to it. How a service is judged is nothing that it has.
func held(m Manifest) []Change {
	m.Services = nil
	return Diff(Manifest{}, m)
}

func things(m Manifest) map[string]bool {
	ts := map[string]bool{}
	for _, c := range held(m) {
		ts[c.Resource()] = true
	}

	return ts
}

func services(m Manifest) map[string]bool {
	ss := map[string]bool{}
	for _, c := range held(m) {
		if c.Service != "" {
			ss[c.Service] = true
		}
	}

	return ss
}
