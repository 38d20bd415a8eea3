package history

import (
	"maps"
	"slices"
	"time"
)

// A Generation is one that a host keeps, and the commit it came from.
type Generation struct {
	Generation int64
	Digest     string
	Commit     string
	At         time.Time

	row int64 // of db.keptRows
}

// A keptEntry is a generation as it is stored, in a row with others of its commit.
type keptEntry struct {
	Host       string `json:"host"`
	Generation int64  `json:"generation"`
	Digest     string `json:"digest"`
	At         int64  `json:"at"`
}

func (k keptEntry) name() string { return k.Host }

// readKept reads the generations that hosts keep: a later entry overrules those before it.
func (db *DB) readKept(q querier) error {
	kept := map[string][]Generation{}
	rows := newLists("kept", "commit_id", db.countKept)
	err := rows.read(q, func(seq int64, commit string, k keptEntry) {
		rows.have(seq)
		g := Generation{k.Generation, k.Digest, commit, time.UnixMilli(k.At).UTC(), seq}
		kept[k.Host], _ = follow(kept[k.Host], g, rows.drop)
	})
	if err != nil {
		return err
	}
	db.kept, db.keptRows = kept, rows
	return nil
}

// countKept are the generations in rows that hosts still keep.
func (db *DB) countKept(rows map[int64]bool) map[int64][]keptEntry {
	count := map[int64][]keptEntry{}
	for host, gs := range db.kept {
		for _, g := range gs {
			if rows[g.row] {
				count[g.row] = append(count[g.row], keptEntry{host, g.Generation, g.Digest, millis(g.At)})
			}
		}
	}
	return count
}

// follow is what a host keeps when g comes to stand there; drop gets the rows of what it does not keep
// of kept. It says whether the host went back: a number above the one that stands is of a life that it
// has lost.
func follow(kept []Generation, g Generation, drop func(row int64)) (now []Generation, back bool) {
	now = make([]Generation, 0, keepGenerations)
	for _, k := range kept {
		if k.Generation < g.Generation && k.Generation > g.Generation-keepGenerations {
			now = append(now, k)
			continue
		}
		back = back || k.Generation > g.Generation
		drop(k.row)
	}
	return append(now, g), back
}

// stands remembers that g stands on host. It is called inside write.
func (db *DB) stands(host string, g Generation) {
	g.row = db.keptRows.add(g.Commit, keptEntry{host, g.Generation, g.Digest, millis(g.At)})
	var back bool
	if db.kept[host], back = follow(db.kept[host], g, db.keptRows.drop); back {
		db.keptRows.cleanse(host, g.row)
	}
}

// unkeep forgets the generations of host. It is called inside write.
func (db *DB) unkeep(host string) {
	for _, g := range db.kept[host] {
		db.keptRows.drop(g.row)
	}
	delete(db.kept, host)
	db.keptRows.cleanse(host)
}

// inherit gives heir the generations of host, for its own. It is called inside write.
func (db *DB) inherit(host, heir string) {
	gs := db.kept[host]
	db.unkeep(host)
	db.unkeep(heir)
	for _, g := range gs {
		db.stands(heir, g)
	}
}

// Generations lists those that host keeps, newest first.
func (db *DB) Generations(host string) []Generation {
	db.mu.Lock()
	defer db.mu.Unlock()
	gs := slices.Clone(db.kept[host])
	slices.Reverse(gs)
	return gs
}

// Commits lists the commits that kept generations came from: git must keep them.
func (db *DB) Commits() []string {
	db.mu.Lock()
	defer db.mu.Unlock()
	commits := map[string]bool{}
	for _, gs := range db.kept {
		for _, g := range gs {
			commits[g.Commit] = true
		}
	}
	delete(commits, "")
	return slices.Sorted(maps.Keys(commits))
}
