package deploy

import (
	"bytes"
	"fmt"
	"io"
	"sync"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet"
	"bellhop/internal/history"
)

// kinds holds what is worked out once for all hosts of a plan that are of one kind: a push to
// a thousand web servers holds one manifest against one other, and encodes one.
type kinds struct {
	changes map[step]*change // while planning

	mu     sync.Mutex
	frames map[any][]byte    // manifests as they travel, by kind of bundle
	deltas map[step][]byte   // the same as what differs
	ahead  map[step][]string // digests of files that go unasked
	blobs  map[string][]byte // small files as they travel, by digest
	held   int               // bytes in blobs
}

// What a run holds of files, bytes: of one, and of all. A change of a fleet is mostly a few
// small files on many hosts, and each would be read from git and hashed for each host.
const (
	mostBlob  = 64 << 10
	mostBlobs = 4 << 20
)

// A step leads from one manifest to a bundle of one kind.
type step struct {
	from string // digest
	to   any
}

// A change is what a step does to a host.
type change struct {
	changes []bundle.Change
	units   UnitPlan
	guard   string // why it needs consent
}

// change holds b against old, whose digest is from; nil is nothing.
func (k *kinds) change(from string, old *bundle.Manifest, b *fleet.Bundle) *change {
	s := step{from, b.Kind()}
	if c := k.changes[s]; c != nil {
		return c
	}
	var was bundle.Manifest
	if old != nil {
		was = *old
	}
	c := &change{changes: bundle.Diff(was, b.Manifest), guard: pruneGuard(was, b.Manifest)}
	c.units = unitPlan(was, b.Manifest, c.changes)
	if k.changes == nil {
		k.changes = map[step]*change{}
	}
	k.changes[s] = c
	return c
}

// frame is b's manifest as it goes ahead of an offer, without the host's name.
func (k *kinds) frame(b *fleet.Bundle) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if f := k.frames[b.Kind()]; f != nil {
		return f, nil
	}
	m := b.Manifest.WithoutKeyDigests()
	m.Host = ""
	var f bytes.Buffer
	if err := bundle.WriteFrame(&f, bundle.FrameManifest, m); err != nil {
		return nil, err
	}
	if k.frames == nil {
		k.frames = map[any][]byte{}
	}
	k.frames[b.Kind()] = f.Bytes()
	return f.Bytes(), nil
}

// delta is the frame that makes b's manifest of old, whose digest is from; or that of frame, where
// it is shorter.
func (k *kinds) delta(from string, old *bundle.Manifest, b *fleet.Bundle) ([]byte, error) {
	whole, err := k.frame(b)
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	s := step{from, b.Kind()}
	if f := k.deltas[s]; f != nil {
		return f, nil
	}
	d, err := bundle.NewDelta(*old, b.Manifest)
	if err != nil {
		return nil, err
	}
	var f bytes.Buffer
	if err := bundle.WriteFrame(&f, bundle.FrameDelta, d); err != nil {
		return nil, err
	}
	shorter := f.Bytes()
	if len(whole) <= len(shorter) {
		shorter = whole
	}
	if k.deltas == nil {
		k.deltas = map[step][]byte{}
	}
	k.deltas[s] = shorter
	return shorter, nil
}

// lacking are the digests of files that are in b and not in old, whose digest is from: as many as may go
// unasked.
func (k *kinds) lacking(from string, old *bundle.Manifest, b *fleet.Bundle) []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := step{from, b.Kind()}
	digests, ok := k.ahead[s]
	if !ok {
		digests = lacking(old, &b.Manifest)
		if k.ahead == nil {
			k.ahead = map[step][]string{}
		}
		k.ahead[s] = digests
	}
	return digests
}

// writeFile writes a file of b as it travels.
func (k *kinds) writeFile(out io.Writer, b *fleet.Bundle, digest string) error {
	k.mu.Lock()
	f := k.blobs[digest]
	k.mu.Unlock()
	if f != nil {
		_, err := out.Write(f)
		return err
	}
	p, err := b.File(digest)
	if err != nil {
		return errFinal{fmt.Errorf("read file %s: %w", short(digest), err), history.Refused}
	}
	blob := bundle.Blob{Kind: bundle.BlobFile, Name: digest, Size: int64(len(p))}
	if len(p) > mostBlob {
		return bundle.WriteBlob(out, blob, bytes.NewReader(p))
	}
	var frames bytes.Buffer
	if err := bundle.WriteBlob(&frames, blob, bytes.NewReader(p)); err != nil {
		return err
	}
	k.hold(digest, frames.Bytes())
	_, err = out.Write(frames.Bytes())
	return err
}

// hold keeps a file as it travels while there is room.
func (k *kinds) hold(digest string, frames []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.blobs[digest] != nil || k.held+len(frames) > mostBlobs {
		return
	}
	if k.blobs == nil {
		k.blobs = map[string][]byte{}
	}
	k.blobs[digest] = frames
	k.held += len(frames)
}
