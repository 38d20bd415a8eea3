package bare

// The refs of a repository: small files, each replaced by rename.

import (
	"bytes"
	"os"
	"path/filepath"

	"github.com/go-git/go-git/v5/plumbing"

	"bellhop/internal/durable"
)

// ReadRef is what a ref holds, zero when there is none of that name.
func ReadRef(dir, name string) plumbing.Hash {
	b, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
	if b = bytes.TrimSpace(b); err != nil || !IsID(string(b)) {
		return plumbing.ZeroHash
	}

	return plumbing.NewHash(string(b))
}

// HasRef says whether there is a ref of that name.
func HasRef(dir, name string) bool { return !ReadRef(dir, name).IsZero() }

// WriteRef has a ref hold h.
func WriteRef(dir, name string, h plumbing.Hash) error {
	file := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	return durable.Write(file, []byte(h.String()+"\n"), 0o600)
}

// RemoveRef removes a ref.
func RemoveRef(dir, name string) error {
	return os.Remove(filepath.Join(dir, filepath.FromSlash(name)))
}

// KeptRefs lists the commits below refs/bellhop.
func KeptRefs(dir string) []plumbing.Hash {
	entries, _ := os.ReadDir(filepath.Join(dir, "refs", "bellhop"))
	var kept []plumbing.Hash
	for _, e := range entries {
		if IsID(e.Name()) {
			kept = append(kept, plumbing.NewHash(e.Name()))
		}
	}

	return kept
}
