package host

import (
	"bufio"
	"bytes"
	"context"
	"os"
	"time"
)

func init() {
	settleTime = 2 * time.Millisecond // nothing of a test's box dies later
	restTime = 10 * time.Millisecond
	fsync = func(*os.File) error { return nil }
	syncfs = func(int) error { return nil }
}

// Locked is what install says of an error.
var Locked = locked

// Unpack puts a package into the store from a file.
var Unpack = (*Machine).unpack

// StoreName is the folder of a package in the store.
var StoreName = storeName

// CapPackages lowers the caps on one archive until undo.
func CapPackages(bytes int64, entries int) (undo func()) {
	b, e := maxUnpacked, maxEntries
	maxUnpacked, maxEntries = bytes, entries
	return func() { maxUnpacked, maxEntries = b, e }
}

// Look says what is seen at a path.
func Look(m *Machine, path string) (kind, digest string, mode uint32, user string, err error) {
	is, err := m.look(context.Background(), path)
	return is.Kind, is.Digest, is.Mode, is.User, err
}

// CheckXz walks over an xz file.
func CheckXz(p []byte) error { return checkXz(bufio.NewReader(bytes.NewReader(p))) }

// NotStartable says what is wrong with a program.
func NotStartable(m *Machine, p string) string { return m.notStartable(p) }
