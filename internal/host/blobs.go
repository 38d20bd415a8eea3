package host

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"sync"
)

// The blob store holds file contents by digest: what bellhop installed, and what it replaced.
// A blob is read back only through its digest, so one that a power cut emptied is noticed.

func (m *Machine) blob(digest string) string { return filepath.Join(m.at(blobDir), digest) }

// hasBlob reads the blob through, since a file of the right name proves nothing.
func (m *Machine) hasBlob(digest string) bool {
	f, err := os.Open(m.blob(digest))
	if err != nil {
		return false
	}
	defer f.Close()
	got, err := digestOf(f, nil)
	return err == nil && got == digest
}

// A digest is a SHA-256 on its way.
type digest struct{ hash.Hash }

func newDigest() digest { return digest{sha256.New()} }

func (d digest) hex() string { return hex.EncodeToString(d.Sum(nil)) }

// buffers are what files are read through: io.Copy would make one for each of hundreds.
var buffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// digestOf reads r through, and copies it to w unless that is nil.
func digestOf(r io.Reader, w io.Writer) (string, error) {
	h := newDigest()
	var to io.Writer = h
	if w != nil {
		to = io.MultiWriter(w, h)
	}
	buf := buffers.Get().(*[32 << 10]byte)
	defer buffers.Put(buf)
	_, err := io.CopyBuffer(to, struct{ io.Reader }{r}, buf[:]) // a File's own WriteTo has no use for a buffer
	return h.hex(), err
}

// copyBlob writes the blob to w, and fails if the bytes were not those of digest.
func (m *Machine) copyBlob(w io.Writer, digest string) error {
	f, err := os.Open(m.blob(digest))
	if err != nil {
		return err
	}
	defer f.Close()
	got, err := digestOf(f, w)
	if err != nil {
		return err
	}
	if got != digest {
		return fmt.Errorf("blob %.12s holds other bytes", digest)
	}
	return nil
}

// addBlob stores what r holds and returns its digest. It is not synced: who relies on it
// does that (syncBlobs).
func (m *Machine) addBlob(r io.Reader) (string, error) {
	f, err := os.CreateTemp(m.at(blobDir), ".new-")
	if err != nil {
		return "", err
	}
	digest, err := digestOf(r, f)
	if err = errors.Join(err, f.Close()); err != nil {
		os.Remove(f.Name())
		return "", err
	}
	return digest, os.Rename(f.Name(), m.blob(digest))
}

// keepBlob stores the file that stands at path, no more than size bytes of it, and returns its
// digest.
func (m *Machine) keepBlob(ctx context.Context, path string, size int64) (string, error) {
	dir, name, err := m.parent(path, false)
	if err != nil {
		return "", err
	}
	defer dir.Close()
	f, _, err := openRegular(dir, name)
	if err != nil {
		return "", fmt.Errorf("keep %s: %w", path, err)
	}
	defer f.Close()
	return m.addBlob(io.LimitReader(reader{ctx, f}, size))
}

// blobSize is how many bytes the blob has; -1 when the store has none.
func (m *Machine) blobSize(digest string) int64 {
	if digest == "" {
		return -1
	}
	st, err := os.Stat(m.blob(digest))
	if err != nil {
		return -1
	}
	return st.Size()
}

// syncBlobs makes sure that these blobs outlive a power cut.
func (m *Machine) syncBlobs(digests []string) error {
	if len(digests) == 0 {
		return nil
	}
	if len(digests) > fewFiles {
		d, err := os.Open(m.at(blobDir))
		if err != nil {
			return err
		}
		defer d.Close()
		return m.syncfs(d)
	}
	for _, digest := range digests {
		f, err := os.Open(m.blob(digest))
		if err != nil {
			return err
		}
		if err := errors.Join(m.sync(f), f.Close()); err != nil {
			return err
		}
	}
	return m.syncDir(blobDir)
}
