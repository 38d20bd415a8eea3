package host

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
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
	h := sha256.New()
	_, err = io.Copy(h, f)
	return err == nil && hex.EncodeToString(h.Sum(nil)) == digest
}

// copyBlob writes the blob to w, and fails if the bytes were not those of digest.
func (m *Machine) copyBlob(w io.Writer, digest string) error {
	f, err := os.Open(m.blob(digest))
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(io.MultiWriter(w, h), f); err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != digest {
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
	h := sha256.New()
	_, err = io.Copy(io.MultiWriter(f, h), r)
	if err = errors.Join(err, f.Close()); err != nil {
		os.Remove(f.Name())
		return "", err
	}
	digest := hex.EncodeToString(h.Sum(nil))
	return digest, os.Rename(f.Name(), m.blob(digest))
}

// keepBlob stores the file that stands at path, and returns its digest.
func (m *Machine) keepBlob(path string) (string, error) {
	dir, name, err := m.parent(path, false)
	if err != nil {
		return "", err
	}
	defer dir.Close()
	f, err := openRegular(dir, name)
	if err != nil {
		return "", fmt.Errorf("keep %s: %w", path, err)
	}
	defer f.Close()
	return m.addBlob(f)
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
