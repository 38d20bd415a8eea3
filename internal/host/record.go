package host

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"bellhop/internal/bundle"
)

// How many generations are kept beside the one that stands, and how large they may be
// together. Packages are kept by reference and not counted.
const (
	keptGenerations = 5
	keptBytes       = 2 << 30
)

// A standing is what stands on the host: the record that others read, and with it in one
// file the manifest and the owned list, so that one rename moves all of them. The file of a
// former standing, linked to its number, is a generation.
type standing struct {
	bundle.Record
	Run      string          `json:"run"` // that made it
	Manifest bundle.Manifest `json:"manifest"`
	Owned    owned           `json:"owned"`
	Edited   []put           `json:"edited,omitempty"`  // what people changed by hand and the run put back; Was is theirs
	GaveUp   bool            `json:"gave_up,omitempty"` // the host was given back: nothing of this stays
	exists   bool
}

// An ownedPath is a path that bellhop put something at.
type ownedPath struct {
	Now      thing `json:"now"`
	Original thing `json:"original"` // what stood there before bellhop came; returns when it leaves
}

// An origin is how a unit did before bellhop came.
type origin struct {
	File   string `json:"file"` // enabled, disabled, …
	Active bool   `json:"active"`
}

// owned is what bellhop put on the host.
type owned struct {
	Paths map[string]ownedPath `json:"paths,omitempty"`
	Dirs  []string             `json:"dirs,omitempty"`  // folders it made, which leave when empty
	Units map[string]origin    `json:"units,omitempty"` // units that were there before
}

// stands reads the record. A host without one has the zero standing.
func (m *Machine) stands() (standing, error) {
	return m.readStanding(bundle.RecordPath)
}

func (m *Machine) readStanding(path string) (standing, error) {
	var s standing
	p, err := os.ReadFile(m.at(path))
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		err = json.Unmarshal(p, &s)
	}
	if err != nil {
		return s, fmt.Errorf("read %s: %w", path, err)
	}
	s.exists = true
	return s, nil
}

// commit makes s what stands: the one moment at which a run becomes true. The former record
// becomes a generation when s is a new one.
func (m *Machine) commit(s standing, former standing) error {
	if former.exists && former.Generation != s.Generation {
		to := m.at(generationPath(former.Generation))
		if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := os.Link(m.at(bundle.RecordPath), to); err != nil {
			return fmt.Errorf("keep generation %d: %w", former.Generation, err)
		}
	}
	p, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return m.replace(bundle.RecordPath, p)
}

func generationPath(n int64) string { return filepath.Join(genDir, strconv.FormatInt(n, 10)) }

// generations reads the kept generations, the newest first.
func (m *Machine) generations() ([]standing, error) {
	names, err := os.ReadDir(m.at(genDir))
	if err != nil {
		return nil, err
	}
	var all []standing
	for _, e := range names {
		if n, err := strconv.ParseInt(e.Name(), 10, 64); err == nil {
			s, err := m.readStanding(generationPath(n))
			if err != nil {
				return nil, err
			}
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b standing) int { return int(b.Generation - a.Generation) })
	return all, nil
}

// prune forgets generations that are too old or too large, and then every blob and package
// that nothing refers to. What stands is never touched.
func (m *Machine) prune(now standing) error {
	kept, err := m.generations()
	if err != nil {
		return err
	}
	blobs, packages := map[string]bool{}, map[string]bool{}
	size := m.refer(now, blobs, packages)
	for i, g := range kept {
		more := map[string]bool{}
		grown := size + m.refer(g, more, nil)
		if i >= keptGenerations || grown > keptBytes {
			if err := os.Remove(m.at(generationPath(g.Generation))); err != nil {
				return err
			}
			continue
		}
		size = grown
		m.refer(g, blobs, packages)
	}
	return errors.Join(m.removeOthers(blobDir, blobs), m.removeOthers(bundle.StoreDir, packages))
}

// refer adds what s needs to be restored, and returns the bytes of the blobs it added.
func (m *Machine) refer(s standing, blobs, packages map[string]bool) (size int64) {
	add := func(t thing) {
		if t.Kind != aFile || blobs[t.Digest] {
			return
		}
		blobs[t.Digest] = true
		if st, err := os.Stat(m.blob(t.Digest)); err == nil {
			size += st.Size()
		}
	}
	for _, p := range s.Owned.Paths {
		add(p.Now)
		add(p.Original)
	}
	for _, p := range s.Edited {
		add(p.Was)
	}
	if packages != nil {
		for _, p := range s.Manifest.Packages {
			packages[storeName(p)] = true
		}
	}
	return size
}

func (m *Machine) removeOthers(dir string, keep map[string]bool) error {
	names, err := os.ReadDir(m.at(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range names {
		if !keep[e.Name()] {
			err = errors.Join(err, removeTree(filepath.Join(m.at(dir), e.Name())))
		}
	}
	if len(keep) == 0 && strings.HasPrefix(dir, bundle.PackageDir) {
		os.Remove(m.at(dir)) // the store leaves with its last package
		os.Remove(m.at(bundle.PackageDir))
	}
	return err
}
