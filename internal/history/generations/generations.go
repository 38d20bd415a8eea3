// Package generations remembers which generations each host keeps, and where they came from.
//
// A generation is what a host held after one successful run. What several hosts keep since one
// transaction is one row of the table kept (package packedrows).
package generations

import (
	"iter"
	"slices"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/history/packedrows"
	"bellhop/internal/history/store"
)

// A Generation is one that a host keeps, and the commit it came from.
type Generation struct {
	Generation int64
	Digest     string
	Commit     string
	At         time.Time
	// Origins are the commits of services that are not at Commit; "" for one that is not there.
	Origins []bundle.Origin

	Row int64 // that has it, of the table
}

// most is how many a host keeps: the one on the host and five before it.
const most = 6

// Kept are the generations that hosts keep. Its caller serializes the calls.
type Kept struct {
	Rows   *packedrows.Table[Entry] // of the table kept
	byHost map[string][]Generation  // the newest last
}

// An Entry is a generation as it is stored, in a row with others of its commit.
type Entry struct {
	Host       string `json:"host"`
	Generation int64  `json:"generation"`
	Digest     string `json:"digest"`
	At         int64  `json:"at"`

	Origins []bundle.Origin `json:"origins,omitempty"`
}

// OfHost is the host that keeps it.
func (e Entry) OfHost() string { return e.Host }

func entryOf(host string, g Generation) Entry {
	return Entry{Host: host, Generation: g.Generation, Digest: g.Digest, At: store.Millis(g.At), Origins: g.Origins}
}

// New is a Kept of no generations.
func New() *Kept {
	g := &Kept{byHost: map[string][]Generation{}}
	g.Rows = packedrows.New("kept", "commit_id", g.entries)
	return g
}

// Read reads them: a later entry of a host overrules those before it.
func Read(q store.Querier) (*Kept, error) {
	gs := New()

	err := gs.Rows.Read(q, func(row int64, commit string, e Entry) {
		gs.Rows.Retain(row)
		g := Generation{Generation: e.Generation, Digest: e.Digest, Commit: commit, At: store.Time(e.At), Origins: e.Origins, Row: row}
		gs.byHost[e.Host], _ = follow(gs.byHost[e.Host], g, gs.Rows.Release)
	})
	return gs, err
}

// entries are the generations in rows that hosts still keep.
func (gs *Kept) entries(rows map[int64]bool) map[int64][]Entry {
	found := map[int64][]Entry{}
	for host, kept := range gs.byHost {
		for _, g := range kept {
			if rows[g.Row] {
				found[g.Row] = append(found[g.Row], entryOf(host, g))
			}
		}
	}
	return found
}

// follow is what a host keeps once g is its newest generation; release gets the rows of those of
// kept that it does not keep. It says whether the host went back: a generation with a higher
// number belongs to a life that the host has lost.
func follow(kept []Generation, g Generation, release func(row int64)) (now []Generation, back bool) {
	now = make([]Generation, 0, most)
	for _, k := range kept {
		older := k.Generation < g.Generation
		recent := k.Generation > g.Generation-most
		if older && recent {
			now = append(now, k)
			continue
		}
		back = back || k.Generation > g.Generation
		release(k.Row)
	}
	return append(now, g), back
}

// Add remembers that host holds g now. It is called inside a transaction, as the rest below is.
func (gs *Kept) Add(host string, g Generation) {
	g.Row = gs.Rows.Add(g.Commit, entryOf(host, g))

	var back bool
	if gs.byHost[host], back = follow(gs.byHost[host], g, gs.Rows.Release); back {
		gs.Rows.Rewrite(host, g.Row)
	}
}

// Forget drops the generations of host.
func (gs *Kept) Forget(host string) {
	for _, g := range gs.byHost[host] {
		gs.Rows.Release(g.Row)
	}
	delete(gs.byHost, host)
	gs.Rows.Rewrite(host)
}

// Inherit gives heir the generations of host in place of its own.
func (gs *Kept) Inherit(host, heir string) {
	kept := gs.byHost[host]
	gs.Forget(host)
	gs.Forget(heir)
	for _, g := range kept {
		gs.Add(heir, g)
	}
}

// Of lists the generations that host keeps, newest first.
func (gs *Kept) Of(host string) []Generation {
	kept := slices.Clone(gs.byHost[host])
	slices.Reverse(kept)
	return kept
}

// All goes over the generations of all hosts, those of one host from the oldest on.
func (gs *Kept) All() iter.Seq2[string, Generation] {
	return func(yield func(string, Generation) bool) {
		for host, kept := range gs.byHost {
			for _, g := range kept {
				if !yield(host, g) {
					return
				}
			}
		}
	}
}
