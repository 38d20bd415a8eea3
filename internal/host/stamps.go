package host

import (
	"maps"

	"bellhop/internal/host/owned"
	"bellhop/internal/host/plan"
	"bellhop/internal/host/state"
)

// Stamps spare a look the reading of files. A run knows the bytes of every owned file: it read them when it
// was planned, or wrote them. They are saved when the run has ended, and a run that is killed before that
// leaves those of the run before, which fit none of the files that it replaced.

// stamper collects the stamps of files that are put in place.
type stamper map[string]owned.Stamp

// replaced notes what was put at a path.
func (s stamper) replaced(path string, is owned.Stamp) {
	if is != (owned.Stamp{}) {
		s[path] = is
	}
}

// replaced is told of each path that the run replaced.
func (r *run) replaced(path string, is owned.Stamp) {
	r.written.replaced(path, is)
	r.renamed(path)
}

// stampsOf are the stamps of what w leaves on the host, when a run has written some of it.
func stampsOf(w *plan.Plan, written stamper, before state.Stamps) state.Stamps {
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

// saveStamps saves the stamps of what w leaves, where they are others than before. Without them the next
// look reads more.
func saveStamps(m state.Dir, w *plan.Plan, written stamper) {
	before := m.Stamps()
	if now := stampsOf(w, written, before); !maps.Equal(now, before) {
		_ = m.SaveStamps(now)
	}
}

// saveUndone saves the stamps of files that were put back.
func saveUndone(m state.Dir, back []owned.Change, written stamper) {
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
