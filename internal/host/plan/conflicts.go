package plan

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"bellhop/internal/bundle"
	"bellhop/internal/host/state"
)

// noteConflicts puts into the journal what systemd stops for a unit that the run starts, because of its
// Conflicts=, and what no bundle knows of: sshd, say. When the run is undone, that is started again.
func noteConflicts(ctx context.Context, w *Plan, new map[string]bundle.Unit) error {
	p := &w.Units
	var names []string
	for _, n := range slices.Concat(p.Start, p.Restart) {
		u, ok := new[n]
		if !ok || u.KeyUnit {
			continue
		}
		for _, other := range w.WantedUnit(u).Words("Unit", "Conflicts") {
			_, planned := p.Before[other]
			isName := strings.Contains(other, ".") && !strings.ContainsAny(other, "%/")
			if isName && !planned {
				names = append(names, other)
			}
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)

	states, err := w.m.Units(ctx, names)
	if err != nil {
		return fmt.Errorf("read units that others conflict with: %w", err)
	}
	for _, n := range names {
		if st := states[n]; st.Running() {
			p.Now = append(p.Now, state.UnitWas{Name: n, Ran: true, File: st.File, Life: st.Invocation})
		}
	}

	return nil
}
