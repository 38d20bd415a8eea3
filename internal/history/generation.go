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

	row int64 // of db.keeps
}

// A keep is a generation as it is stored, in a row with others of its commit.
type keep struct {
	Host       string `json:"host"`
	Generation int64  `json:"generation"`
	Digest     string `json:"digest"`
	At         int64  `json:"at"`
}

// readKept reads the generations that hosts keep: a later entry overrules those before it.
func (db *DB) readKept(q querier) error {
	db.kept = map[string][]Generation{}
	db.keeps = newLists("kept", "commit_id", db.keptIn)
	return db.keeps.read(q, func(seq int64, commit string, k keep) {
		db.keeps.have(seq)
		db.follow(k.Host, Generation{k.Generation, k.Digest, commit, time.UnixMilli(k.At).UTC(), seq})
	})
}

// keptIn are the generations of a row that hosts still keep.
func (db *DB) keptIn(row int64) []keep {
	var ks []keep
	for _, host := range slices.Sorted(maps.Keys(db.kept)) {
		for _, g := range db.kept[host] {
			if g.row == row {
				ks = append(ks, keep{host, g.Generation, g.Digest, millis(g.At)})
			}
		}
	}
	return ks
}

// follow has g stand on host, after those that it keeps. It says whether that host went back: a number
// above the one that stands is of a life that it has lost.
func (db *DB) follow(host string, g Generation) (back bool) {
	kept := db.kept[host]
	stay := make([]Generation, 0, keepGenerations)
	for _, k := range kept {
		if back = back || k.Generation > g.Generation; k.Generation < g.Generation && k.Generation > g.Generation-keepGenerations {
			stay = append(stay, k)
		} else {
			db.keeps.drop(k.row)
		}
	}
	db.kept[host] = append(stay, g)
	return back
}

// keep remembers that g stands on host. It is called inside write.
func (db *DB) keep(tx *tx, host string, g Generation) error {
	g.row = db.keeps.add(g.Commit, keep{host, g.Generation, g.Digest, millis(g.At)})
	if db.follow(host, g) {
		return db.keeps.cleanse(tx, host)
	}
	return nil
}

// unkeep forgets the generations of host, or gives them to another. It is called inside write.
func (db *DB) unkeep(tx *tx, host, heir string) error {
	if heir != "" {
		if err := db.unkeep(tx, heir, ""); err != nil {
			return err
		}
		for _, g := range db.kept[host] {
			if err := db.keep(tx, heir, g); err != nil {
				return err
			}
		}
	}
	for _, g := range db.kept[host] {
		db.keeps.drop(g.row)
	}
	delete(db.kept, host)
	return db.keeps.cleanse(tx, host)
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
