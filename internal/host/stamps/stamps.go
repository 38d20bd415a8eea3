// Package stamps remembers how the files that bellhop put in place looked when their bytes were known.
//
// Stamps spare a look the reading of files. A run knows the bytes of every owned file: it read them when it
// was planned, or wrote them. They are saved when the run has ended. A run that is killed before that leaves
// those of the run before, which fit none of the files that it replaced.
package stamps

import (
	"maps"

	"bellhop/internal/host/owned"
	"bellhop/internal/host/plan"
	"bellhop/internal/host/state"
)

// Written are the stamps of files that a run put in place, by path.
type Written map[string]owned.Stamp

// Note notes what was put at a path.
func (s Written) Note(path string, is owned.Stamp) {
	if is != (owned.Stamp{}) {
		s[path] = is
	}
}

// of gives the stamps of what w leaves on the host, when a run has written some of it.
func of(w *plan.Plan, written Written, before state.Stamps) state.Stamps {
	all := state.Stamps{}
	for p, o := range w.Next.Paths {
		if o.Now.Kind != owned.File {
			continue
		}

		is, known := written[p]
		if !known {
			is, known = w.Seen[p]
		}
		switch former, had := before[p]; {
		case known:
			all[p] = state.FileStamp{Stamp: is, Digest: o.Now.Digest}
		case had:
			all[p] = former
		}
	}
	return all
}

// Save saves the stamps of what w leaves, where they are others than before. Without them the next
// look reads more.
func Save(m state.Dir, w *plan.Plan, written Written) {
	before := m.Stamps()
	if now := of(w, written, before); !maps.Equal(now, before) {
		_ = m.SaveStamps(now)
	}
}

// SaveUndone saves the stamps of files that were put back.
func SaveUndone(m state.Dir, back []owned.Change, written Written) {
	if len(back) == 0 {
		return
	}

	all := m.Stamps()
	if all == nil {
		all = state.Stamps{}
	}

	for _, p := range back {
		if is, known := written[p.Path]; known {
			all[p.Path] = state.FileStamp{Stamp: is, Digest: p.Want.Digest}
		}
	}
	_ = m.SaveStamps(all)
}
