package host

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"bellhop/internal/bundle"
)

// The state directory is bellhop's alone (root, below 0700 folders), so plain path calls are
// right inside it; everything else is walked by descriptor (walk.go).
const (
	journalPath = bundle.StateDir + "/journal"     // open while a run is at work
	lockPath    = bundle.StateDir + "/lock"        // flock: somebody is at work
	blobDir     = bundle.StateDir + "/blobs"       // file contents by digest
	genDir      = bundle.StateDir + "/generations" // former records, by number
	stagingDir  = bundle.StateDir + "/staging"     // what a session brought, by run
	runsDir     = bundle.StateDir + "/runs"        // events and result of each run
)

// ErrBusy says that another run is at work on this host.
var ErrBusy = errors.New("another run is at work")

// What reaches the disk; tests, which lose no power, count it and leave it out.
var (
	fsync  = (*os.File).Sync
	syncfs = unix.Syncfs
)

// at is where a path of the host lies for this process.
func (m *Machine) at(path string) string { return filepath.Join(m.Root, path) }

// makeState makes the state directory and its folders where they are missing.
func (m *Machine) makeState() error {
	if err := os.MkdirAll(m.at(bundle.StateDir), 0o711); err != nil {
		return err
	}
	for _, d := range []string{blobDir, genDir, stagingDir, runsDir} {
		if err := os.MkdirAll(m.at(d), 0o700); err != nil {
			return err
		}
	}
	return nil
}

// lock takes the lock of this host for the life of a run, waiting up to wait. It dies with
// its process. ErrBusy says that somebody else has it.
func (m *Machine) lock(wait time.Duration) (unlock func(), err error) {
	if err := m.makeState(); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(m.at(lockPath), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for end := time.Now().Add(wait); ; time.Sleep(5 * time.Millisecond) {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if err != unix.EWOULDBLOCK && err != unix.EINTR || time.Now().After(end) {
			break
		}
	}
	f.Close()
	if err == unix.EWOULDBLOCK {
		return nil, ErrBusy
	}
	return nil, fmt.Errorf("lock %s: %w", lockPath, err)
}

// replace writes a file of the state directory: beside, synced, renamed, folder synced. It is
// there whole or not at all, also after a power cut.
func (m *Machine) replace(path string, p []byte) error {
	tmp := m.at(path + ".new")
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(p)
	if err == nil {
		err = m.sync(f)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(tmp, m.at(path)); err != nil {
		return err
	}
	return m.syncDir(filepath.Dir(path))
}

func (m *Machine) syncDir(path string) error {
	d, err := os.Open(m.at(path))
	if err != nil {
		return err
	}
	defer d.Close()
	return m.sync(d)
}

func (m *Machine) sync(f *os.File) error {
	if m.Fsyncs != nil {
		m.Fsyncs()
	}
	return fsync(f)
}

// syncfs writes out everything on the filesystem that f lies on.
func (m *Machine) syncfs(f *os.File) error {
	if m.Fsyncs != nil {
		m.Fsyncs()
	}
	return syncfs(int(f.Fd()))
}

// killed gives a test the chance to die here.
func (m *Machine) killed(step string) {
	if m.Kill != nil {
		m.Kill(step)
	}
}
