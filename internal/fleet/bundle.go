package fleet

import (
	"io"

	"bellhop/internal/bundle"
)

// A Bundle is all that one host should hold. It is immutable; bytes are read from the tree
// when they are asked for, and secrets are opened anew each time.
type Bundle struct {
	bundle.Manifest
	Digest string  // of the manifest
	Probes []Probe // health checks of its services, not in the digest
}

// A Probe is one line of a service's health list, with the settings of the host filled in.
type Probe struct {
	Service string
	URL     string
}

// File returns the bytes of the file, template or snippet with that digest.
func (b *Bundle) File(digest string) ([]byte, error) { return nil, nil }

// Package opens the archive with that digest, if it is a blob of the repo.
func (b *Bundle) Package(digest string) (io.ReadCloser, int64, error) { return nil, 0, nil }

// Key opens the value of a key. The caller clears it.
func (b *Bundle) Key(name string) ([]byte, error) { return nil, nil }
