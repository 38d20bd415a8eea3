package host

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"bellhop/internal/bundle"
	"bellhop/internal/host/owned"
	"bellhop/internal/host/packages"
	"bellhop/internal/host/runs"
)

// The state directory is bellhop's alone (root, below 0700 folders), so plain path calls are
// right inside it; everything else is reached through owned.Tree.
const (
	journalPath = bundle.StateDir + "/journal"     // open while a run is at work
	lockPath    = bundle.StateDir + "/lock"        // flock: somebody is at work
	blobDir     = bundle.StateDir + "/blobs"       // file contents by digest
	genDir      = bundle.StateDir + "/generations" // former records, by number
	turnPath    = bundle.StateDir + "/turn"        // the session that claimed the host last; flock: it stages, or hands over
	stagingDir  = bundle.StateDir + "/staging"     // what a session brought, by run
	runsDir     = bundle.StateDir + "/runs"        // events and result of each run
)

// ErrBusy says that another run is at work on this host.
var ErrBusy = errors.New("another run is at work")

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

// turnWait is how long a session waits for the turn of another, which starts a unit within 30 s.
const turnWait = 35 * time.Second

// A line that breaks leaves a helper behind, which may have heard all it needs and go on when the
// deployer has long been back over another. So sessions take turns: one that began before the one
// that claimed the host last is void, and begins nothing any more.
type turn struct {
	BootID string `json:"boot_id"`
	Began  int64  `json:"began"` // of the session that claimed last, nanoseconds since boot
}

// sinceBoot tells sessions of one boot apart, by when they began.
func sinceBoot() int64 {
	var t unix.Timespec
	unix.ClockGettime(unix.CLOCK_BOOTTIME, &t)
	return t.Nano()
}

// claim waits for the turn of the session that began then. With first it claims the host; without,
// it must have, and no other since. A session that is void is refused as busy.
func (m *Machine) claim(began int64, first bool) (end func(), err error) {
	f, err := os.OpenFile(m.at(turnPath), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	end, err = flock(f, turnWait)
	if errors.Is(err, ErrBusy) {
		return nil, refuse(bundle.RefusedBusy, "another session takes its time: %w", err)
	}
	if err != nil {
		return nil, err
	}
	if err := m.claimed(f, began, first); err != nil {
		end()
		return nil, err
	}
	return end, nil
}

func (m *Machine) claimed(f *os.File, began int64, first bool) error {
	boot, err := m.BootID()
	if err != nil {
		return err
	}
	var last turn
	if json.NewDecoder(f).Decode(&last) != nil || last.BootID != boot { // none, torn, or of another boot
		last.Began = 0
	}
	if last.Began > began || !first && last.Began != began {
		return refuse(bundle.RefusedBusy, "another session came after this one")
	}
	if !first || last.Began == began {
		return nil
	}
	p, err := json.Marshal(turn{boot, began})
	if err != nil {
		return err
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err = f.WriteAt(p, 0)
	return err
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
	return flock(f, wait)
}

// flock locks f, which it closes when it can't, or when it is unlocked.
func flock(f *os.File, wait time.Duration) (unlock func(), err error) {
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
	return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
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
		err = m.disk().Sync(f)
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
	return m.disk().Sync(d)
}

// disk is where files are synced to.
func (m *Machine) disk() owned.Disk {
	if m.Disk == nil {
		return owned.RealDisk{}
	}
	return m.Disk
}

// A countingDisk counts in n what is synced.
type countingDisk struct {
	owned.Disk
	n *int
}

func (d countingDisk) Sync(f *os.File) error {
	*d.n++
	return d.Disk.Sync(f)
}

func (d countingDisk) Syncfs(f *os.File) error {
	*d.n++
	return d.Disk.Syncfs(f)
}

// tree is the files of the host.
func (m *Machine) tree() *owned.Tree {
	return &owned.Tree{Root: m.Root, Owners: m.Accounts, Disk: m.disk()}
}

// blobs is where file contents are kept.
func (m *Machine) blobs() *owned.Blobs { return &owned.Blobs{Dir: m.at(blobDir), Tree: m.tree()} }

// replaceAll does what changes say. It may be done again after it was cut off.
func (m *Machine) replaceAll(changes []owned.Change, step func(path string)) error {
	return m.tree().Replace(m.blobs(), changes, step)
}

// packages is where the host keeps packages.
func (m *Machine) packages() *packages.Store {
	return &packages.Store{Dir: m.at(bundle.StoreDir), Caps: m.Caps, Syncfs: m.disk().Syncfs}
}

// reached tells whoever watches that a step ended.
func (m *Machine) reached(step string) {
	if m.Reached != nil {
		m.Reached(step)
	}
}

// staged is where a session puts the bytes of digest for run.
func (m *Machine) staged(run, digest string) string {
	return filepath.Join(m.at(stagingDir), run, digest)
}

func (m *Machine) now() time.Time {
	if m.Clock == nil {
		return time.Now()
	}
	return m.Clock()
}

// runs is what runs leave for those who watch.
func (m *Machine) runs() runs.Runs { return runs.Runs{Dir: m.at(runsDir), Now: m.now} }
