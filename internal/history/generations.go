package history

import (
	"maps"
	"slices"

	"bellhop/internal/history/generations"
)

// A Generation is one that a host keeps, and the commit it came from.
type Generation = generations.Generation

// Generations lists those that host keeps, newest first.
func (db *DB) Generations(host string) []Generation {
	db.mu.Lock()
	defer db.mu.Unlock()
	return db.mem.generations.Of(host)
}

// Commits lists the commits that kept generations, and what held hosts are to hold, came from: git must
// keep them.
func (db *DB) Commits() []string {
	db.mu.Lock()
	defer db.mu.Unlock()

	commits := map[string]bool{}
	for _, g := range db.mem.generations.All() {
		commits[g.Commit] = true
		for _, o := range g.Origins {
			commits[o.Commit] = true
		}
	}
	for _, hold := range db.mem.holds.All() {
		commits[hold.Commit] = true
		for _, o := range hold.Origins {
			commits[o.Commit] = true
		}
	}
	delete(commits, "")
	return slices.Sorted(maps.Keys(commits))
}
