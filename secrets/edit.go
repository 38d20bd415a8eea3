package secrets

import (
	"bytes"
	"crypto/subtle"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"bellhop/secrets/agefile"
)

// Edit opens a secret in an editor and seals what comes back. The plaintext is in a folder in
// RAM that only we can enter, removed on every way out: success, error, signal, panic, SIGKILL. A value
// that did not change leaves the file as it is; an editor that fails, or an empty value, writes
// nothing. Whatever would stop the sealing is told before the editor starts.
func (s *Store) Edit(name string, e Editor) (*Written, error) {
	file, err := Path(name)
	if err != nil {
		return nil, err
	}
	w, err := s.edit(file, e)
	if err != nil {
		return nil, fmt.Errorf("edit %s: %w", file, err)
	}
	return w, nil
}

func (s *Store) edit(file string, e Editor) (*Written, error) {
	old, err := s.standing(file)
	if err != nil {
		return nil, bare(err)
	}
	// A rule that is missing or cannot be followed is told now, not after an hour of typing.
	if _, _, err := s.sealFor(file, nil, old); err != nil {
		return nil, err
	}
	var before []byte
	if old != nil {
		if before, err = s.open(file); err != nil {
			return nil, err
		}
	}
	defer clear(before)
	after, err := editInRAM(strings.TrimSuffix(filepath.Base(file), ".age"), before, e)
	if err != nil {
		return nil, err
	}
	defer clear(after)
	w := &Written{File: file}
	_, w.EndsInNewline = trimNewline(after)
	switch {
	case old != nil && subtle.ConstantTimeCompare(before, after) == 1:
		readers, err := s.Rules.Readers(file)
		w.Readers = readerNames(readers)
		return w, err
	case len(bytes.TrimSpace(after)) == 0:
		return nil, fmt.Errorf("%w; nothing was written", errEmpty)
	}

	w.Changed = true
	return w, s.put(w, after)
}

// editInRAM runs the editor on a copy in RAM and gives what it saved.
func editInRAM(name string, value []byte, e Editor) ([]byte, error) {
	// Signals first: from here on none may end us before the folder is gone.
	signals, release := catch()
	defer release()
	dir, err := newRAMDir()
	if err != nil {
		return nil, err
	}
	guard, err := startGuard(dir)
	if err != nil {
		os.Remove(dir)
		return nil, err
	}
	defer guard.release() // after the folder is wiped
	defer wipe(dir)

	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, value, 0o600); err != nil {
		return nil, fmt.Errorf("write the copy in RAM: %w", bare(err))
	}
	if err := e.run(dir, file, guard, signals); err != nil {
		return nil, err
	}
	select {
	case <-signals:
		return nil, ErrInterrupted
	default:
	}

	after, err := readHead(os.DirFS(dir), name, agefile.MaxValue+1)
	if err != nil {
		return nil, fmt.Errorf("read what the editor saved: %w", bare(err))
	}
	return after, nil
}
