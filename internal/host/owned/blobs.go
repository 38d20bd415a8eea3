package owned

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

// Blobs holds file contents by digest: what bellhop installed, and what it replaced. A blob is
// read back only through its digest, so one that a power cut emptied is noticed.
type Blobs struct {
	Dir  string // root's alone
	Tree *Tree
}

// Path is where the blob of that digest lies.
func (b *Blobs) Path(digest string) string { return filepath.Join(b.Dir, digest) }

// Has reads the blob through, since a file of the right name proves nothing.
func (b *Blobs) Has(digest string) bool {
	f, err := os.Open(b.Path(digest))
	if err != nil {
		return false
	}
	defer f.Close()
	got, err := DigestOf(f, nil)
	return err == nil && got == digest
}

// A Digest is a SHA-256 on its way.
type Digest struct{ hash.Hash }

// NewDigest begins one.
func NewDigest() Digest { return Digest{sha256.New()} }

// Hex is the digest of what was written.
func (d Digest) Hex() string { return hex.EncodeToString(d.Sum(nil)) }

// buffers are what files are read through: io.Copy would make one for each of hundreds.
var buffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// DigestOf reads r through, and copies it to w unless that is nil.
func DigestOf(r io.Reader, w io.Writer) (string, error) {
	h := NewDigest()
	var to io.Writer = h
	if w != nil {
		to = io.MultiWriter(w, h)
	}

	buf := buffers.Get().(*[32 << 10]byte)
	defer buffers.Put(buf)

	_, err := io.CopyBuffer(to, struct{ io.Reader }{r}, buf[:]) // a File's own WriteTo has no use for a buffer
	return h.Hex(), err
}

// copyTo writes the blob to w, and fails if the bytes were not those of digest.
func (b *Blobs) copyTo(w io.Writer, digest string) error {
	f, err := os.Open(b.Path(digest))
	if err != nil {
		return err
	}
	defer f.Close()

	got, err := DigestOf(f, w)
	if err != nil {
		return err
	}
	if got != digest {
		return fmt.Errorf("blob %.12s holds other bytes", digest)
	}

	return nil
}

// add stores what r holds and returns its digest. It is not synced: who relies on it
// does that (Sync).
func (b *Blobs) add(r io.Reader) (string, error) {
	f, err := os.CreateTemp(b.Dir, ".new-")
	if err != nil {
		return "", err
	}

	digest, err := DigestOf(r, f)
	if err = errors.Join(err, f.Close()); err != nil {
		os.Remove(f.Name())
		return "", err
	}

	return digest, os.Rename(f.Name(), b.Path(digest))
}

// Keep stores the file that stands at path, no more than size bytes of it, and returns its
// digest.
func (b *Blobs) Keep(ctx context.Context, path string, size int64) (string, error) {
	dir, name, err := b.Tree.Parent(path, false)
	if err != nil {
		return "", err
	}
	defer dir.Close()

	f, _, err := OpenRegular(dir, name)
	if err != nil {
		return "", fmt.Errorf("keep %s: %w", path, err)
	}
	defer f.Close()

	return b.add(io.LimitReader(reader{ctx, f}, size))
}

// Size is how many bytes the blob has; -1 when the store has none.
func (b *Blobs) Size(digest string) int64 {
	if digest == "" {
		return -1
	}

	st, err := os.Stat(b.Path(digest))
	if err != nil {
		return -1
	}
	return st.Size()
}

// Sync makes sure that these blobs outlive a power cut.
func (b *Blobs) Sync(digests []string) error {
	if len(digests) == 0 {
		return nil
	}
	if len(digests) > fewFiles {
		d, err := os.Open(b.Dir)
		if err != nil {
			return err
		}
		defer d.Close()

		return b.Tree.Disk.Syncfs(d)
	}

	for _, digest := range digests {
		f, err := os.Open(b.Path(digest))
		if err != nil {
			return err
		}
		if err := errors.Join(b.Tree.Disk.Sync(f), f.Close()); err != nil {
			return err
		}
	}

	d, err := os.Open(b.Dir)
	if err != nil {
		return err
	}

	return errors.Join(b.Tree.Disk.Sync(d), d.Close())
}

// Read is the blob of that digest; nil where there is none.
func (b *Blobs) Read(digest string) []byte {
	p, _ := os.ReadFile(b.Path(digest))
	return p
}
