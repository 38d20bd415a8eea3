package gitsync

// The refs of the clone: small files, each replaced by rename.

import (
	"bytes"
	"os"
	"path/filepath"

	"github.com/go-git/go-git/v5/plumbing"

	"bellhop/internal/durable"
)

// ref is the head that was accepted last, or zero.
func (r *Repo) ref() plumbing.Hash { return readRef(r.cfg.Dir, "refs/heads/"+r.cfg.Branch) }

func readRef(dir, name string) plumbing.Hash {
	b, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
	if b = bytes.TrimSpace(b); err != nil || len(b) != 40 || !hex.Match(b) {
		return plumbing.ZeroHash
	}

	return plumbing.NewHash(string(b))
}

func refExists(dir, name string) bool { return !readRef(dir, name).IsZero() }

func writeRef(dir, name string, h plumbing.Hash) error {
	file := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	return durable.Write(file, []byte(h.String()+"\n"), 0o600)
}

func removeRef(dir, name string) error {
	return os.Remove(filepath.Join(dir, filepath.FromSlash(name)))
}

// keptRefs lists the commits below refs/bellhop.
func keptRefs(dir string) []plumbing.Hash {
	entries, _ := os.ReadDir(filepath.Join(dir, "refs", "bellhop"))
	var kept []plumbing.Hash
	for _, e := range entries {
		if len(e.Name()) == 40 && hex.MatchString(e.Name()) {
			kept = append(kept, plumbing.NewHash(e.Name()))
		}
	}

	return kept
}
