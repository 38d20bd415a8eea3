package state

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"bellhop/internal/bundle"
	"bellhop/internal/host/machine"
	"bellhop/internal/host/owned"
)

// A Journal is there while a run is at work. Its first line, synced before anything is
// touched, holds all that is needed to undo; the lines after it say how far the run came,
// and what it found different from what the first line said. A torn last line counts as
// not written.
type Journal struct {
	Run      string                  `json:"run"`
	BootID   string                  `json:"boot_id"`
	Started  int64                   `json:"started"` // Unix milliseconds
	Puts     []owned.Change          `json:"puts,omitempty"`
	Dirs     []string                `json:"dirs,omitempty"`     // folders that the run makes
	Accounts []machine.Account       `json:"accounts"`           // accounts it changes, as they were
	Keys     []KeyMove               `json:"keys,omitempty"`     // keys it changes or removes
	Units    []UnitWas               `json:"units,omitempty"`    // every unit it may touch, as it was
	Reload   bool                    `json:"reload,omitempty"`   // unit files change
	Made     []string                `json:"made,omitempty"`     // accounts it makes, which stay
	System   *SystemMove             `json:"system,omitempty"`   // of a NixOS host; nil: its system stays
	Stacks   []StackWas              `json:"stacks,omitempty"`   // compose projects that it touches, as they were
	Quadlets []StackWas              `json:"quadlets,omitempty"` // what the units of quadlets that it touches ran, by service
	Steps    map[string]bool         `json:"-"`                  // reached, from the later lines
	found    map[string]owned.Change `json:"-"`                  // what stood at a path when it was kept, from the later lines
	Cause    string                  `json:"-"`                  // why the run goes back, from the later lines; "" when it was killed
	Outcome  string                  `json:"-"`                  // of the run that goes back, with Cause; "" in journals of older helpers
	Failing  []string                `json:"-"`                  // services that this is due to, from the later lines
	Evidence []bundle.Evidence       `json:"-"`                  // of what failed, from the later lines
}

// A JournalLine is one of the later lines.
type JournalLine struct {
	Step    string        `json:"step,omitempty"`
	Put     *owned.Change `json:"put,omitempty"`
	Cause   string        `json:"cause,omitempty"`   // with the step "undo"
	Outcome string        `json:"outcome,omitempty"` // with the step "undo"
	// With the step "blame".
	Failing  []string          `json:"failing,omitempty"`
	Evidence []bundle.Evidence `json:"evidence,omitempty"`
}

// UnitNames are the names of the units that the run may touch.
func (j *Journal) UnitNames() (names []string) {
	for _, w := range j.Units {
		names = append(names, w.Name)
	}
	return names
}

// OpenJournal opens the journal.
func (m Dir) OpenJournal(j *Journal) error {
	p, err := json.Marshal(j)
	if err != nil {
		return err
	}
	return m.replace(journalPath, append(p, '\n'))
}

// Note adds a line to the journal. Only what must outlive a power cut is synced: after one,
// nothing runs that a step could have changed.
func (m Dir) Note(l JournalLine, sync bool) error {
	p, err := json.Marshal(l)
	if err != nil {
		return err
	}

	f, err := os.OpenFile(m.At(journalPath), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}

	_, err = f.Write(slices.Concat([]byte{'\n'}, p, []byte{'\n'})) // the line before may be torn
	if err == nil && sync {
		err = m.SyncTo().Sync(f)
	}

	return errors.Join(err, f.Close())
}

// ReadJournal reads the journal; nil when there is none.
func (m Dir) ReadJournal() (*Journal, error) {
	p, err := os.ReadFile(m.At(journalPath))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}

	first, rest, _ := bytes.Cut(p, []byte{'\n'})
	j := &Journal{Steps: map[string]bool{}, found: map[string]owned.Change{}}
	if err := json.Unmarshal(first, j); err != nil {
		return nil, fmt.Errorf("%s is damaged (%w): move it away on the host, and bellhop deploy --retry puts in order what the run that was cut off left", journalPath, err)
	}

	for line := range bytes.Lines(rest) {
		var l JournalLine
		if json.Unmarshal(line, &l) != nil {
			continue // empty, or torn: as if it was not written
		}
		if l.Put != nil {
			j.found[l.Put.Path] = *l.Put
		} else {
			j.Steps[l.Step] = true
			j.Cause += l.Cause
			j.Outcome = cmp.Or(j.Outcome, l.Outcome)
			j.Failing, j.Evidence = append(j.Failing, l.Failing...), append(j.Evidence, l.Evidence...)
		}
	}

	for i := range j.Puts {
		if p, ok := j.found[j.Puts[i].Path]; ok {
			j.Puts[i].Was, j.Puts[i].Shared = p.Was, p.Shared
		}
	}

	return j, nil
}

// CloseJournal ends the run. If a power cut brings the journal back, the record names the
// run, which says that it was done.
func (m Dir) CloseJournal() error {
	err := os.Remove(m.At(journalPath))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// A SystemMove is how the NixOS system of a host changes.
type SystemMove struct {
	Path   string `json:"path"`          // store path of the system that comes
	Action string `json:"action"`        // as switch-to-configuration has it: switch, boot or test
	Why    string `json:"why,omitempty"` // why Action is boot, where the bundle says switch

	// What was there before.
	Profile string   `json:"profile"` // store path of the system profile
	Number  int64    `json:"number"`  // of its generation
	Newest  int64    `json:"newest"`  // the highest number of a generation
	Current string   `json:"current"` // store path of what ran
	Failed  []string `json:"failed,omitempty"`
}

// A KeyMove is a key that changes or leaves.
type KeyMove struct {
	Name string `json:"name"`
	Path string `json:"path"`
	Had  bool   `json:"had"`  // something stands at Path
	Put  bool   `json:"put"`  // a new value comes; else the key leaves
	Seal bool   `json:"seal"` // a sealed copy comes or leaves

	Was *KeyOwner `json:"was,omitempty"` // of what stands at Path; nil: no file, or of a former release
}

// A KeyOwner is whose a key is.
type KeyOwner struct {
	User  string `json:"user"`
	Group string `json:"group"`
	Mode  uint32 `json:"mode"`
}

// DownWaits says that a unit did not run since a condition or a key was not there, or since nothing had
// started it since boot.
const DownWaits = "waits"

// A UnitWas is a unit as it was before the run.
type UnitWas struct {
	Name    string `json:"name"`
	Ran     bool   `json:"ran"`
	File    string `json:"file"`              // its enablement
	Acted   bool   `json:"acted,omitempty"`   // the run starts, restarts or reloads it
	Reload  bool   `json:"reload,omitempty"`  // it only reloads it
	Life    string `json:"life,omitempty"`    // its invocation
	Key     bool   `json:"key,omitempty"`     // a key unit
	New     bool   `json:"new,omitempty"`     // it comes with this run
	Start   bool   `json:"start,omitempty"`   // something that boot starts
	Install bool   `json:"install,omitempty"` // its [Install] changes
	Quiet   bool   `json:"quiet,omitempty"`   // it must not run while its user changes

	// Down is why it did not run though nobody had stopped it: the Result of its last life, else DownWaits. "" otherwise.
	Down string `json:"down,omitempty"`

	Replaced bool `json:"replaced,omitempty"` // it starts another compose project, or one in place of a process: each file stops its own
}
