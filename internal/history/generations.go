package history

import (
	"maps"
	"slices"
	"time"

	"bellhop/internal/bundle"
)

// A Generation is one that a host keeps, and the commit it came from.
type Generation struct {
	Generation int64
	Digest     string
	Commit     string
	At         time.Time
	// Origins are the commits of services that are not at Commit; "" for one that is not there.
	Origins []bundle.Origin

	row int64 // of generations.rows
}

// generations are those that hosts keep, the newest last.
type generations struct {
	byHost map[string][]Generation
	rows   *packedRows[generationEntry]
}

// A generationEntry is a generation as it is stored, in a row with others of its commit.
type generationEntry struct {
	Host       string `json:"host"`
	Generation int64  `json:"generation"`
	Digest     string `json:"digest"`
	At         int64  `json:"at"`

	Origins []bundle.Origin `json:"origins,omitempty"`
}

func (e generationEntry) host() string { return e.Host }

func entryOf(host string, g Generation) generationEntry {
	return generationEntry{Host: host, Generation: g.Generation, Digest: g.Digest, At: millis(g.At), Origins: g.Origins}
}

func newGenerations() *generations {
	g := &generations{byHost: map[string][]Generation{}}
	g.rows = newPackedRows("kept", "commit_id", g.entries)
	return g
}

// readGenerations reads them: a later entry of a host overrules those before it.
func readGenerations(q querier) (*generations, error) {
	gs := newGenerations()

	err := gs.rows.read(q, func(row int64, commit string, e generationEntry) {
		gs.rows.retain(row)
		g := Generation{Generation: e.Generation, Digest: e.Digest, Commit: commit, At: time.UnixMilli(e.At).UTC(), Origins: e.Origins, row: row}
		gs.byHost[e.Host], _ = follow(gs.byHost[e.Host], g, gs.rows.release)
	})
	return gs, err
}

// entries are the generations in rows that hosts still keep.
func (gs *generations) entries(rows map[int64]bool) map[int64][]generationEntry {
	found := map[int64][]generationEntry{}
	for host, kept := range gs.byHost {
		for _, g := range kept {
			if rows[g.row] {
				found[g.row] = append(found[g.row], entryOf(host, g))
			}
		}
	}
	return found
}

// follow is what a host keeps once g is its newest generation; release gets the rows of those of
// kept that it does not keep. It says whether the host went back: a generation with a higher
// number belongs to a life that the host has lost.
func follow(kept []Generation, g Generation, release func(row int64)) (now []Generation, back bool) {
	now = make([]Generation, 0, keepGenerations)
	for _, k := range kept {
		older := k.Generation < g.Generation
		recent := k.Generation > g.Generation-keepGenerations
		if older && recent {
			now = append(now, k)
			continue
		}
		back = back || k.Generation > g.Generation
		release(k.row)
	}
	return append(now, g), back
}

// add remembers that host holds g now. It is called inside a transaction, as the rest below is.
func (gs *generations) add(host string, g Generation) {
	g.row = gs.rows.add(g.Commit, entryOf(host, g))

	var back bool
	if gs.byHost[host], back = follow(gs.byHost[host], g, gs.rows.release); back {
		gs.rows.rewrite(host, g.row)
	}
}

// forget drops the generations of host.
func (gs *generations) forget(host string) {
	for _, g := range gs.byHost[host] {
		gs.rows.release(g.row)
	}
	delete(gs.byHost, host)
	gs.rows.rewrite(host)
}

// inherit gives heir the generations of host in place of its own.
func (gs *generations) inherit(host, heir string) {
	kept := gs.byHost[host]
	gs.forget(host)
	gs.forget(heir)
	for _, g := range kept {
		gs.add(heir, g)
	}
}

// Generations lists those that host keeps, newest first.
func (db *DB) Generations(host string) []Generation {
	db.mu.Lock()
	defer db.mu.Unlock()

	kept := slices.Clone(db.mem.generations.byHost[host])
	slices.Reverse(kept)
	return kept
}

// Commits lists the commits that kept generations came from: git must keep them.
func (db *DB) Commits() []string {
	db.mu.Lock()
	defer db.mu.Unlock()

	commits := map[string]bool{}
	for _, kept := range db.mem.generations.byHost {
		for _, g := range kept {
			commits[g.Commit] = true
			for _, o := range g.Origins {
				commits[o.Commit] = true
			}
		}
	}
	delete(commits, "")
	return slices.Sorted(maps.Keys(commits))
}
