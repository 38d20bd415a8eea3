package state

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
	"bellhop/internal/host/check"
	"bellhop/internal/host/owned"
	"bellhop/internal/host/packages"
)

// How many generations are kept beside the current one, and how large they may be
// together. Packages are kept by reference and not counted.
const (
	KeptGenerations = 5
	keptBytes       = 2 << 30
)

// A Generation is what a host holds after one successful run: the record that a deployer reads, and
// with it in one file the manifest and the owned list, so that one rename moves all of them. The
// current one lies at bundle.RecordPath, former ones below GenDir by their number.
type Generation struct {
	bundle.Record
	Run      string          `json:"run"` // that made it
	Manifest bundle.Manifest `json:"manifest"`
	Owned    OwnedList       `json:"owned"`
	Edited   []owned.Change  `json:"edited,omitempty"`  // what people changed by hand and the run put back; Was is theirs
	Images   []ImageRan      `json:"images,omitempty"`  // that containers ran when the run was done
	GaveUp   bool            `json:"gave_up,omitempty"` // the host was given back: nothing of this stays
	Exists   bool            `json:"-"`                 // a record was read
}

// An OwnedPath is a path that bellhop put something at.
type OwnedPath struct {
	Now      owned.Entry `json:"now"`
	Original owned.Entry `json:"original"` // what stood there before bellhop came; returns when it leaves
}

// An Origin is how a unit was before bellhop came.
type Origin struct {
	File   string `json:"file"` // enabled, disabled, …
	Active bool   `json:"active"`
}

// Enabled says that the unit was enabled then.
func (o Origin) Enabled() bool { return o.File == "enabled" || o.File == "enabled-runtime" }

// An OwnedList is what bellhop put on the host.
type OwnedList struct {
	Paths map[string]OwnedPath `json:"paths,omitempty"`
	Dirs  []string             `json:"dirs,omitempty"`  // folders it made, which leave when empty
	Units map[string]Origin    `json:"units,omitempty"` // units that were there before
}

// Current reads the record. A host without one has the zero Generation.
func (m Dir) Current() (Generation, error) {
	return m.readGeneration(bundle.RecordPath)
}

// MayHaveGivenUp says that the record may be of a host that was given back, by its bytes alone: to decode
// one costs more than all else of a look whether there is anything to settle.
func (m Dir) MayHaveGivenUp() bool {
	p, err := os.ReadFile(m.At(bundle.RecordPath))
	return err == nil && bytes.Contains(p, []byte(`"gave_up"`))
}

func (m Dir) readGeneration(path string) (Generation, error) {
	var s Generation
	p, err := os.ReadFile(m.At(path))
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, fmt.Errorf("read %s: %w", path, err)
	}
	if err := json.Unmarshal(p, &s); err != nil {
		return s, fmt.Errorf("%s is damaged (%w): move it away on the host, and what stands there is compared with what the deployer remembers", path, err)
	}

	s.Exists = true
	return s, nil
}

// Commit makes s the current generation: the one moment at which a run becomes true. The former record
// becomes a generation when s is a new one.
func (m Dir) Commit(s Generation, former Generation) error {
	if err := m.keepFormer(s, former); err != nil {
		return err
	}
	return m.saveRecord(bundle.RecordPath, &s)
}

// keepFormer keeps the current record as a former generation when s is a new one.
func (m Dir) keepFormer(s, former Generation) error {
	if former.Exists && former.Generation != s.Generation {
		to := m.At(generationPath(former.Generation))
		if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := os.Link(m.At(bundle.RecordPath), to); err != nil {
			return fmt.Errorf("keep generation %d: %w", former.Generation, err)
		}
	}
	return nil
}

func (m Dir) saveRecord(path string, s *Generation) error {
	p, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return m.replace(path, p)
}

// nextPath holds what will stand when the run that waits is confirmed.
const nextPath = bundle.StateDir + "/record.next"

// ErrNextLost says that what SaveNext wrote is not there, which only a broken disk can bring about.
var ErrNextLost = errors.New("the record that it was to leave is lost")

// SaveNext writes, beside the record, what will stand when the run that waits is confirmed.
func (m Dir) SaveNext(s *Generation) error { return m.saveRecord(nextPath, s) }

// CommitNext makes what SaveNext wrote of run the current generation.
func (m Dir) CommitNext(run string, former Generation) error {
	next, err := m.Next(run)
	if err != nil {
		return err
	}
	if err := m.keepFormer(next, former); err != nil {
		return err
	}
	if err := os.Rename(m.At(nextPath), m.At(bundle.RecordPath)); err != nil {
		return err
	}

	return m.SyncDir(bundle.StateDir)
}

// Next is what SaveNext wrote of run; ErrNextLost when it is not there.
func (m Dir) Next(run string) (Generation, error) {
	next, err := m.readGeneration(nextPath)
	if err != nil || next.Run != run {
		return next, errors.Join(ErrNextLost, err)
	}
	return next, nil
}

// DropNext forgets what SaveNext wrote.
func (m Dir) DropNext() error {
	if err := os.Remove(m.At(nextPath)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func generationPath(n int64) string { return filepath.Join(GenDir, strconv.FormatInt(n, 10)) }

// Prune forgets generations that are too old or too large, and then every blob and package
// that no record mentions. The current generation is never touched. Records are not decoded for this: a
// host with hundreds of keys keeps six of a hundred kilobytes each, and any digest in one counts.
func (m Dir) Prune() error {
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
		if i >= KeptGenerations || size+grows > keptBytes {
			if err := os.Remove(m.At(generationPath(n))); err != nil {
				return err
			}
			continue
		}

		size, keep = size+grows, more
	}

	return errors.Join(m.RemoveOthers(BlobDir, keep), m.RemoveOthers(bundle.StoreDir, keep))
}

// generations are the numbers of those that are kept, the newest first.
func (m Dir) generations() ([]int64, error) {
	names, err := os.ReadDir(m.At(GenDir))
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

// ImagesOf are the images that containers ran in the newest generation of that bundle; nil when none is kept that
// can be read.
func (m Dir) ImagesOf(digest string) ([]ImageRan, error) {
	numbers, err := m.generations()
	if err != nil {
		return nil, err
	}
	for _, n := range numbers {
		g, err := m.readGeneration(filepath.Join(GenDir, strconv.FormatInt(n, 10)))
		if err == nil && g.Digest == digest {
			return g.Images, nil
		}
	}
	return nil, nil
}

// mentions adds every digest that a record mentions, and returns the bytes of the blobs that
// are new among them.
func (m Dir) mentions(record string, digests map[string]bool) (size int64, err error) {
	p, err := os.ReadFile(m.At(record))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}

	for word := range bytes.SplitSeq(p, []byte{'"'}) {
		if len(word) != digestLen || digests[string(word)] || check.Digest(string(word)) != nil {
			continue
		}

		digests[string(word)] = true
		if st, err := os.Stat(m.Blobs().Path(string(word))); err == nil {
			size += st.Size()
		}
	}

	return size, nil
}

const digestLen = 64 // hexadecimal digits of a SHA-256

// RemoveOthers removes what is in dir, a store of files or folders by digest, but for keep.
func (m Dir) RemoveOthers(dir string, keep map[string]bool) error {
	names, err := os.ReadDir(m.At(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}

	for _, e := range names {
		if !keep[e.Name()[:min(len(e.Name()), digestLen)]] { // a package says behind its digest how it was unpacked
			err = errors.Join(err, packages.RemoveTree(filepath.Join(m.At(dir), e.Name())))
		}
	}

	if strings.HasPrefix(dir, bundle.PackageDir) { // the store leaves with its last package; a folder that holds one stays
		os.Remove(m.At(dir))
		os.Remove(m.At(bundle.PackageDir))
	}

	return err
}

// CheckBase says whether the offer may build on the current generation.
func CheckBase(o *bundle.Offer, now Generation) error {
	if !now.Exists {
		if o.Base != 0 {
			return check.Refuse(bundle.RefusedBase, "the host has no record, and the offer builds on generation %d", o.Base)
		}
		return nil
	}
	if o.Base != now.Generation {
		return check.Refuse(bundle.RefusedBase, "the host stands at generation %d, and the offer builds on %d", now.Generation, o.Base)
	}
	if o.TakeOver {
		return nil
	}
	if now.Deployer != o.Deployer {
		return check.Refuse(bundle.RefusedDeployer, "the host belongs to deployer %s", now.Deployer)
	}
	if now.Network != o.Manifest.Network {
		return check.Refuse(bundle.RefusedNetwork, "the host belongs to network %s", now.Network)
	}
	if now.Host != o.Manifest.Host && now.Host != o.Formerly {
		return check.Refuse(bundle.RefusedNetwork, "the host's record says that it is %s", now.Host)
	}

	return nil
}

// Systems are the NixOS systems that the record and the kept generations name.
func (m Dir) Systems() (systems []string, err error) {
	numbers, err := m.generations()
	if err != nil {
		return nil, err
	}

	records := []string{bundle.RecordPath}
	for _, n := range numbers {
		records = append(records, generationPath(n))
	}
	for _, r := range records {
		s, err := m.readGeneration(r)
		if err != nil {
			return nil, err
		}
		if s.Manifest.System != nil && !slices.Contains(systems, s.Manifest.System.Path) {
			systems = append(systems, s.Manifest.System.Path)
		}
	}
	return systems, nil
}

// AllEdits are the files that people edited and were told are kept: they are not bellhop's to throw
// away.
func (m Dir) AllEdits(now Generation) map[string]bool {
	all := []Generation{now}
	numbers, _ := m.generations()
	for _, n := range numbers {
		if s, err := m.readGeneration(generationPath(n)); err == nil {
			all = append(all, s)
		}
	}

	edits := map[string]bool{}
	for _, s := range all {
		for _, p := range s.Edited {
			if p.Was.Kind == owned.File {
				edits[p.Was.Digest] = true
			}
		}
	}

	return edits
}
