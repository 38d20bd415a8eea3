package forge

import (
	"maps"
	"slices"
	"sync"
)

// Troubles are what the forge refuses at the moment, for people who ask what is wrong. The zero Troubles is ready, and a nil one
// keeps nothing.
type Troubles struct {
	mu  sync.Mutex
	all map[string]string
}

// A Trouble is one thing that the forge refuses.
type Trouble struct {
	What  string `json:"what"` // commit statuses, deployments, plans of requests
	Error string `json:"error"`
}

// note keeps the error of what was tried last; nil: it went well.
func (t *Troubles) note(what string, err error) {
	if t == nil {
		return
	}

	t.mu.Lock()
	defer t.mu.Unlock()

	if err == nil {
		delete(t.all, what)
		return
	}
	if t.all == nil {
		t.all = map[string]string{}
	}
	t.all[what] = err.Error()
}

// Now are the troubles that there are, by name.
func (t *Troubles) Now() []Trouble {
	t.mu.Lock()
	defer t.mu.Unlock()

	out := []Trouble{}
	for _, what := range slices.Sorted(maps.Keys(t.all)) {
		out = append(out, Trouble{what, t.all[what]})
	}

	return out
}
