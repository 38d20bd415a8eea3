package simulator

import (
	"strings"
	"sync"
	"testing"

	"modernc.org/sqlite"
)

// A disk is where the database of one world is. Each commit of a transaction asks it, by SQLite's commit
// hook, so that bellhop can be killed at any of them, or a write can fail.
type disk struct {
	path string

	mu      sync.Mutex
	writes  int    // asked for since it was plugged in
	fails   int    // this many of the next ones fail
	killAt  int    // bellhop is killed at that write; 0: at none
	isAfter bool   // and that write is in the file still
	killed  func() // called then
	isGone  bool   // nothing is written any more
}

var (
	disks    sync.Map // *disk by path
	plugHook = sync.OnceFunc(func() {
		sqlite.RegisterConnectionHook(func(conn sqlite.ExecQuerierContext, name string) error {
			path, _, _ := strings.Cut(strings.TrimPrefix(name, "file:"), "?")
			d, ok := disks.Load(path)
			hooks, can := conn.(sqlite.HookRegisterer)
			if ok && can {
				hooks.RegisterCommitHook(d.(*disk).commit)
			}
			return nil
		})
	})
)

// newDisk is forgotten when t ends: it holds its whole world, and ten thousand of them fill a machine.
func newDisk(t *testing.T, path string) *disk {
	plugHook()
	d := &disk{path: path}
	disks.Store(path, d)
	t.Cleanup(func() { disks.Delete(path) })
	return d
}

// plugIn lets a new bellhop write, which calls killed when it is to die.
func (d *disk) plugIn(killed func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.writes, d.fails, d.killAt, d.killed, d.isGone = 0, 0, 0, killed, false
}

// unplug lets nothing be written any more.
func (d *disk) unplug() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.isGone = true
}

// killIn has bellhop killed at the write that comes after n others.
func (d *disk) killIn(n int, isAfter bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.killAt, d.isAfter = d.writes+n+1, isAfter
}

// failNext lets the next n writes fail.
func (d *disk) failNext(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fails = n
}

// commit is the hook: anything but 0 makes a rollback of the commit.
func (d *disk) commit() int32 {
	d.mu.Lock()
	defer d.mu.Unlock()

	if d.isGone {
		return 1
	}
	d.writes++
	if d.killAt == d.writes {
		d.isGone = true
		d.killed()
		if d.isAfter {
			return 0
		}
		return 1
	}
	if d.fails > 0 {
		d.fails--
		return 1
	}
	return 0
}
