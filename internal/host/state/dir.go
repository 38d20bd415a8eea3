package state

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"bellhop/internal/bundle"
	"bellhop/internal/host/machine"
	"bellhop/internal/host/owned"
	"bellhop/internal/host/packages"
	"bellhop/internal/host/runs"
)

// Where the state directory keeps what.
const (
	journalPath = bundle.StateDir + "/journal"     // open while a run is at work
	lockPath    = bundle.StateDir + "/lock"        // flock: somebody is at work
	BlobDir     = bundle.StateDir + "/blobs"       // file contents by digest
	GenDir      = bundle.StateDir + "/generations" // former records, by number
	claimPath   = bundle.StateDir + "/turn"        // the session that claimed the host last; flock: it stages, or hands over
	StagingDir  = bundle.StateDir + "/staging"     // what a session brought, by run
	runsDir     = bundle.StateDir + "/runs"        // events and result of each run
)

// A Dir is the state directory of a machine.
type Dir struct{ *machine.Machine }

// Of is the state directory of a machine.
func Of(m *machine.Machine) Dir { return Dir{m} }

// Make makes the state directory and its folders where they are missing.
func (m Dir) Make() error {
	if err := os.MkdirAll(m.At(bundle.StateDir), 0o711); err != nil {
		return err
	}
	for _, d := range []string{BlobDir, GenDir, StagingDir, runsDir} {
		if err := os.MkdirAll(m.At(d), 0o700); err != nil {
			return err
		}
	}
	return nil
}

// replace writes a file of the state directory: beside, synced, renamed, folder synced. It is
// there whole or not at all, also after a power cut.
func (m Dir) replace(path string, p []byte) error {
	tmp := m.At(path + ".new")
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(p)
	if err == nil {
		err = m.SyncTo().Sync(f)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(tmp, m.At(path)); err != nil {
		return err
	}
	return m.SyncDir(filepath.Dir(path))
}

func (m Dir) SyncDir(path string) error {
	d, err := os.Open(m.At(path))
	if err != nil {
		return err
	}
	defer d.Close()
	return m.SyncTo().Sync(d)
}

// Blobs is where file contents are kept.
func (m Dir) Blobs() *owned.Blobs { return &owned.Blobs{Dir: m.At(BlobDir), Tree: m.Tree()} }

// ReplaceFiles does what changes say. It may be done again after it was cut off.
func (m Dir) ReplaceFiles(changes []owned.Change, step func(path string)) error {
	return m.Tree().Replace(m.Blobs(), changes, step)
}

// Packages is where the host keeps packages.
func (m Dir) Packages() *packages.Store {
	return &packages.Store{Dir: m.At(bundle.StoreDir), Caps: m.Caps, Syncfs: m.SyncTo().Syncfs}
}

// Runs is what runs leave for those who watch.
func (m Dir) Runs() runs.Runs { return runs.Runs{Dir: m.At(runsDir), Now: m.Now} }
