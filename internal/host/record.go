package host

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"bellhop/internal/bundle"
	"bellhop/internal/host/owned"
	"bellhop/internal/host/packages"
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
	Owned    ownedList       `json:"owned"`
	Edited   []owned.Change  `json:"edited,omitempty"`  // what people changed by hand and the run put back; Was is theirs
	GaveUp   bool            `json:"gave_up,omitempty"` // the host was given back: nothing of this stays
	exists   bool
}

// An ownedPath is a path that bellhop put something at.
type ownedPath struct {
	Now      owned.Entry `json:"now"`
	Original owned.Entry `json:"original"` // what stood there before bellhop came; returns when it leaves
}

// An origin is how a unit did before bellhop came.
type origin struct {
	File   string `json:"file"` // enabled, disabled, …
	Active bool   `json:"active"`
}

func (o origin) enabled() bool { return o.File == "enabled" || o.File == "enabled-runtime" }

// An ownedList is what bellhop put on the host.
type ownedList struct {
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
	if err != nil {
		return s, fmt.Errorf("read %s: %w", path, err)
	}
	if err := json.Unmarshal(p, &s); err != nil {
		return s, fmt.Errorf("%s is damaged (%w): move it away on the host, and what stands there is compared with what the deployer remembers", path, err)
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

// prune forgets generations that are too old or too large, and then every blob and package
// that no record mentions. What stands is never touched. Records are not decoded for this: a
// host with hundreds of keys keeps six of a hundred kilobytes each, and any digest in one counts.
func (m *Machine) prune() error {
	keep := map[string]bool{}
	size, err := m.mentions(bundle.RecordPath, keep)
	if err != nil {
		return err
	}
	numbers, err := m.generations()
	if err != nil {
		return err
	}
	for i, n := range numbers {
		more := maps.Clone(keep)
		grows, err := m.mentions(generationPath(n), more)
		if err != nil {
			return err
		}
		if i >= keptGenerations || size+grows > keptBytes {
			if err := os.Remove(m.at(generationPath(n))); err != nil {
				return err
			}
			continue
		}
		size, keep = size+grows, more
	}
	return errors.Join(m.removeOthers(blobDir, keep), m.removeOthers(bundle.StoreDir, keep))
}

// generations are the numbers of those that are kept, the newest first.
func (m *Machine) generations() ([]int64, error) {
	names, err := os.ReadDir(m.at(genDir))
	if err != nil {
		return nil, err
	}
	var all []int64
	for _, e := range names {
		if n, err := strconv.ParseInt(e.Name(), 10, 64); err == nil {
			all = append(all, n)
		}
	}
	slices.SortFunc(all, func(a, b int64) int { return cmp.Compare(b, a) })
	return all, nil
}

// mentions adds every digest that a record mentions, and returns the bytes of the blobs that
// are new among them.
func (m *Machine) mentions(record string, digests map[string]bool) (size int64, err error) {
	p, err := os.ReadFile(m.at(record))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	for word := range bytes.SplitSeq(p, []byte{'"'}) {
		if len(word) != digestLen || digests[string(word)] || checkDigest(string(word)) != nil {
			continue
		}
		digests[string(word)] = true
		if st, err := os.Stat(m.blobs().Path(string(word))); err == nil {
			size += st.Size()
		}
	}
	return size, nil
}

const digestLen = 64 // hexadecimal digits of a SHA-256

func (m *Machine) removeOthers(dir string, keep map[string]bool) error {
	names, err := os.ReadDir(m.at(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range names {
		if !keep[e.Name()[:min(len(e.Name()), digestLen)]] { // a package says behind its digest how it was unpacked
			err = errors.Join(err, packages.RemoveTree(filepath.Join(m.at(dir), e.Name())))
		}
	}
	if strings.HasPrefix(dir, bundle.PackageDir) { // the store leaves with its last package; a folder that holds one stays
		os.Remove(m.at(dir))
		os.Remove(m.at(bundle.PackageDir))
	}
	return err
}
