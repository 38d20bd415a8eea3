package push

import (
	"bytes"
	"fmt"
	"io"
	"sync"

	"bellhop/internal/bundle"
	"bellhop/internal/bundle/wire"
	"bellhop/internal/fleet"
)

// Shared holds what is worked out once for all hosts of a plan that are of one kind: a push to a
// thousand web servers encodes one manifest, and the difference of two. It is for many
// goroutines, and the zero Shared is ready.
type Shared struct {
	mu        sync.Mutex
	manifests map[any][]byte    // frames, by kind of bundle
	deltas    map[step][]byte   // the same as what differs
	unasked   map[step][]string // digests of files that go with an optimistic offer
	blobs     map[string][]byte // small files as they travel, by digest
	held      int               // bytes in blobs
}

// What is held of files, bytes: of one, and of all. A change of a fleet is mostly a few small
// files on many hosts, and each would be read from git and hashed for each host.
const (
	maxSharedFile = 64 << 10
	maxShared     = 4 << 20
)

// A step leads from one manifest to a bundle of one kind.
type step struct {
	from string // digest
	to   any
}

// manifest is the frame of b's manifest as it goes before an offer, without the host's name.
func (s *Shared) manifest(b *fleet.Bundle) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.manifests[b.Kind()]; f != nil {
		return f, nil
	}
	m := b.Manifest.WithoutKeyDigests()
	m.Host = ""
	var f bytes.Buffer
	if err := wire.WriteFrame(&f, bundle.FrameManifest, m); err != nil {
		return nil, err
	}
	if s.manifests == nil {
		s.manifests = map[any][]byte{}
	}
	s.manifests[b.Kind()] = f.Bytes()
	return f.Bytes(), nil
}

// delta is the frame that makes b's manifest of old, whose digest is from; or the whole manifest,
// where that is shorter. See bundle.Delta for what that is worth.
func (s *Shared) delta(from string, old *bundle.Manifest, b *fleet.Bundle) ([]byte, error) {
	whole, err := s.manifest(b)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	at := step{from, b.Kind()}
	if f := s.deltas[at]; f != nil {
		return f, nil
	}
	d, err := bundle.NewDelta(*old, b.Manifest)
	if err != nil {
		return nil, err
	}
	var f bytes.Buffer
	if err := wire.WriteFrame(&f, bundle.FrameDelta, d); err != nil {
		return nil, err
	}
	shorter := f.Bytes()
	if len(whole) <= len(shorter) {
		shorter = whole
	}
	if s.deltas == nil {
		s.deltas = map[step][]byte{}
	}
	s.deltas[at] = shorter
	return shorter, nil
}

// lacking are the digests of files that are in b and not in old, whose digest is from: as many as may go
// unasked.
func (s *Shared) lacking(from string, old *bundle.Manifest, b *fleet.Bundle) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := step{from, b.Kind()}
	digests, ok := s.unasked[at]
	if !ok {
		digests = lacking(old, &b.Manifest)
		if s.unasked == nil {
			s.unasked = map[step][]string{}
		}
		s.unasked[at] = digests
	}

	return digests
}

// writeFile writes a file of b as it travels.
func (s *Shared) writeFile(out io.Writer, b source, digest string) error {
	s.mu.Lock()
	f := s.blobs[digest]
	s.mu.Unlock()
	if f != nil {
		_, err := out.Write(f)
		return err
	}
	p, err := b.File(digest)
	if err != nil {
		return refused(fmt.Errorf("read file %.12s: %w", digest, err))
	}
	blob := bundle.Blob{Kind: bundle.BlobFile, Name: digest, Size: int64(len(p))}
	if len(p) > maxSharedFile {
		return wire.WriteBlob(out, blob, bytes.NewReader(p))
	}
	var frames bytes.Buffer
	if err := wire.WriteBlob(&frames, blob, bytes.NewReader(p)); err != nil {
		return err
	}
	s.hold(digest, frames.Bytes())
	_, err = out.Write(frames.Bytes())
	return err
}

// hold keeps a file as it travels while there is room.
func (s *Shared) hold(digest string, frames []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.blobs[digest] != nil || s.held+len(frames) > maxShared {
		return
	}
	if s.blobs == nil {
		s.blobs = map[string][]byte{}
	}
	s.blobs[digest] = frames
	s.held += len(frames)
}
