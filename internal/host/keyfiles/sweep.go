package keyfiles

import (
	"os"
	"strings"

	"bellhop/internal/bundle"
	"bellhop/internal/host/state"
)

// HandOver gives the values that session id brought the name of its run.
func (m Store) HandOver(id, run string) error {
	_, came := os.Lstat(m.At(NewFolder(id)))
	_, stale := os.Lstat(m.At(NewFolder(run)))
	if came != nil && stale != nil {
		return nil
	}
	return m.withRoot(func(r *Root) error {
		os.RemoveAll(r.At(NewFolder(run)))
		if came != nil {
			return nil
		}
		return os.Rename(r.At(NewFolder(id)), r.At(NewFolder(run)))
	})
}

// Sweep drops values in RAM that nothing on disk knows of: who brought or kept them was
// killed between the one and the other. An open journal still needs what its run replaced.
func (m Store) Sweep(live map[string]bool) {
	if j, err := m.ReadJournal(); j != nil || err != nil {
		return
	}

	var dead []string
	names, _ := os.ReadDir(m.At(bundle.KeyDir))
	for _, e := range names {
		id, waits := strings.CutPrefix(e.Name(), ".new-")
		if !waits {
			id, waits = strings.CutPrefix(e.Name(), ".old-")
		}
		if waits && !live[state.RunOf(id)] {
			dead = append(dead, bundle.KeyDir+"/"+e.Name())
		}
	}

	names, _ = os.ReadDir(m.At(beforeDir))
	for _, e := range names {
		if !live[state.RunOf(e.Name())] {
			dead = append(dead, beforeFolder(e.Name()))
		}
	}
	if len(dead) == 0 {
		return
	}

	m.withRoot(func(r *Root) error {
		for _, p := range dead {
			os.RemoveAll(r.At(p))
		}
		os.Remove(r.At(beforeDir)) // where it is empty
		return nil
	})
}
