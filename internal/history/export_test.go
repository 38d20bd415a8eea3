package history

import (
	"maps"
	"slices"
)

// Opened lists, by host, the runs that it is open in.
func (db *DB) Opened() map[string][]string {
	db.mu.Lock()
	defer db.mu.Unlock()
	runs := map[string][]string{}
	for host, os := range db.open {
		for _, o := range os {
			runs[host] = append(runs[host], o.run+" "+o.digest)
		}
	}
	return runs
}

// Kept lists what hosts keep, by host.
func (db *DB) Kept() map[string][]Generation {
	db.mu.Lock()
	defer db.mu.Unlock()
	return maps.Clone(db.kept)
}

// Ahead lists the hosts that runs are to push, by run.
func (db *DB) Ahead() map[string][]string {
	db.mu.Lock()
	defer db.mu.Unlock()
	ahead := map[string][]string{}
	for run, hosts := range db.ahead {
		if len(hosts) > 0 {
			ahead[run] = slices.Sorted(maps.Keys(hosts))
		}
	}
	return ahead
}
