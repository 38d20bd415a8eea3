package state

import (
	"fmt"
	"os"
	"path/filepath"

	"bellhop/internal/bundle"
	"bellhop/internal/durable"
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
	StepsPath   = bundle.StateDir + "/before"      // what came of the steps before services, in the newest deploy that had any
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

// replace writes a file of the state directory. It is there whole or not at all, also after a
// power cut. Whoever writes has the lock.
func (m Dir) replace(path string, p []byte) error {
	w := m.writer()
	w.Beside = filepath.Base(path) + ".new"
	if err := w.Write(m.At(path), p, 0o600); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// WriteSteps writes what came of steps.
func (m Dir) WriteSteps(p []byte) error { return m.replace(StepsPath, p) }

// SyncDir makes what was removed from a folder, or came to it, survive a power cut.
func (m Dir) SyncDir(path string) error { return m.writer().SyncDir(m.At(path)) }

func (m Dir) writer() durable.Writer { return durable.Writer{Sync: m.SyncTo().Sync} }

// Blobs is where file contents are kept.
func (m Dir) Blobs() *owned.Blobs { return &owned.Blobs{Dir: m.At(BlobDir), Tree: m.Tree()} }

// ReplaceFiles does what changes say. It may be done again after it was cut off.
func (m Dir) ReplaceFiles(changes []owned.Change, step owned.Step) error {
	return m.Tree().Replace(m.Blobs(), changes, step)
}

// Packages is where the host keeps packages.
func (m Dir) Packages() *packages.Store {
	return &packages.Store{Dir: m.At(bundle.StoreDir), Caps: m.Caps, Syncfs: m.SyncTo().Syncfs}
}

// Runs is what runs leave for those who watch.
func (m Dir) Runs() runs.Runs { return runs.Runs{Dir: m.At(runsDir), Now: m.Now, Polls: m.Polls} }
