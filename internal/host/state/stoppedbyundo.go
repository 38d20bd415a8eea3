package state

import (
	"context"
	"encoding/json"
	"maps"
	"os"

	"bellhop/internal/bundle"
	"bellhop/internal/host/machine"
)

// stoppedByUndoPath is written when a run is undone, and holds for the boot of that run.
const stoppedByUndoPath = bundle.StateDir + "/left-down"

// A StoppedUnit is a unit that did not run when a run began although nobody had stopped it, and that the
// undo of that run stopped again. To systemd it looks like one that was stopped by hand.
type StoppedUnit struct {
	Life string `json:"life"` // its invocation, as the undo left it
	Why  string `json:"why"`  // why it did not run: see UnitWas.Down
}

type stoppedByUndoFile struct {
	BootID string             `json:"boot_id"`
	Units  UnitsStoppedByUndo `json:"units"`
}

// UnitsStoppedByUndo are such units by name.
type UnitsStoppedByUndo map[string]StoppedUnit

// Why is why a unit did not run before a run that was undone, when nobody has touched it since then; ""
// else.
func (l UnitsStoppedByUndo) Why(name string, is machine.UnitState) string {
	left, ok := l[name]
	if !ok || is.Active != "inactive" || is.Invocation != left.Life {
		return ""
	}
	return left.Why
}

// StoppedByUndo reads what KeepStoppedByUndo wrote during this boot.
func (m Dir) StoppedByUndo() UnitsStoppedByUndo {
	p, err := os.ReadFile(m.At(stoppedByUndoPath))
	if err != nil {
		return nil
	}

	var f stoppedByUndoFile
	boot, err := m.BootID()
	if err != nil || json.Unmarshal(p, &f) != nil || f.BootID != boot {
		return nil
	}
	return f.Units
}

// KeepStoppedByUndo remembers the units that failed, or waited for something, before the run j, and that are
// stopped now that it is undone. Otherwise the next run would take each for one that a person stopped,
// and never start it again: so it does where this can't be written. Whoever writes has the lock.
func (m Dir) KeepStoppedByUndo(ctx context.Context, j *Journal) {
	boot, err := m.BootID()
	if err != nil || boot != j.BootID {
		return // boot starts what should run
	}
	now, err := m.Units(ctx, j.UnitNames())
	if err != nil {
		return
	}

	former := m.StoppedByUndo()
	left := UnitsStoppedByUndo{}
	maps.Copy(left, former)
	for _, w := range j.Units {
		s := now[w.Name]
		delete(left, w.Name)
		looksStopped := s.Active == "inactive" && s.Invocation != ""
		if w.Down != "" && looksStopped {
			left[w.Name] = StoppedUnit{Life: s.Invocation, Why: w.Down}
		}
	}
	if maps.Equal(left, former) {
		return
	}

	if p, err := json.Marshal(stoppedByUndoFile{boot, left}); err == nil {
		m.replace(stoppedByUndoPath, p)
	}
}

// ForgetUndone forgets what undone runs left: units that are down, and stacks that are owed.
func (m Dir) ForgetUndone() {
	os.Remove(m.At(stoppedByUndoPath))
	os.Remove(m.At(owedPath))
}
