package secrets

import (
	"bytes"
	"crypto/subtle"
	"fmt"
	"path/filepath"
	"strings"

	"bellhop/secrets/agefile"
	"bellhop/secrets/edit"
)

// Edit opens a secret in an editor and seals what comes back. The plaintext is in a folder in
// RAM that only we can enter, removed on every way out: success, error, signal, panic, SIGKILL. A value
// that did not change leaves the file as it is; an editor that fails, or an empty value, writes
// nothing. Whatever would stop the sealing is an error before the editor starts.
func (s *Store) Edit(name string, e edit.Editor) (*Written, error) {
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

func (s *Store) edit(file string, e edit.Editor) (*Written, error) {
	old, err := s.existing(file)
	if err != nil {
		return nil, bare(err)
	}
	// A rule that is missing or cannot be followed is an error now, not after an hour of typing.
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
	after, err := edit.InRAM(strings.TrimSuffix(filepath.Base(file), ".age"), before, agefile.MaxValue, e)
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
