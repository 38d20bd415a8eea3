package machine

import (
	"os"
	"path/filepath"
	"time"

	"bellhop/internal/host/owned"
)

// At is where a path of the host lies for this process.
func (m *Machine) At(path string) string { return filepath.Join(m.Root, path) }

// Now is the time of the wall clock.
func (m *Machine) Now() time.Time {
	if m.Clock == nil {
		return time.Now()
	}
	return m.Clock()
}

// NixOS says that the host is one: /etc/systemd/system can't be written there.
func (m *Machine) NixOS() bool {
	_, err := os.Stat(m.At("/etc/NIXOS"))
	return err == nil
}

// Mark tells whoever watches that a step ended.
func (m *Machine) Mark(step string) {
	if m.Reached != nil {
		m.Reached(step)
	}
}

// SyncTo is where files are synced to.
func (m *Machine) SyncTo() owned.Disk {
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

// Tree is the files of the host.
func (m *Machine) Tree() *owned.Tree {
	return &owned.Tree{Root: m.Root, Owners: m.Accounts, Disk: m.SyncTo()}
}

// Counting is m, with what is synced counted in n for the result.
func (m *Machine) Counting(n *int) *Machine {
	c := *m
	c.Disk = countingDisk{m.SyncTo(), n}
	return &c
}
