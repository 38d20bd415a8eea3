//go:build !linux

package secrets

// Undumpable does nothing here: servers run on Linux.
func Undumpable() error { return nil }

// Unswappable does nothing here.
func Unswappable() {}
