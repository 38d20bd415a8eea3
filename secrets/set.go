package secrets

import (
	"errors"
	"fmt"
)

// SetOptions are the knobs of Set.
type SetOptions struct {
	TrimNewline bool // drop one newline at the end, as `echo` leaves it
	AllowEmpty  bool // an empty value is a mistake nearly always
}

// A Written says what became of a file.
type Written struct {
	File           string   `json:"file"`
	Created        bool     `json:"created"`          // it was not there before
	Changed        bool     `json:"changed"`          // false: nothing was written
	Readers        []string `json:"readers"`          // by name
	TrimmedNewline bool     `json:"trimmed_newline"`  // the newline at the end was dropped
	EndsInNewline  bool     `json:"ends_in_newline"`  // the value that was sealed ends in one
	Public         string   `json:"public,omitempty"` // the file of the public half, of what Generate made
}

// Set seals value, byte for byte, as the secret of that name. It needs no private key. With one that
// opens what is there, the same value, sealed for the readers of now, leaves the file as it is.
func (s *Store) Set(name string, value []byte, opt SetOptions) (*Written, error) {
	file, err := Path(name)
	if err != nil {
		return nil, err
	}

	w := &Written{File: file, Changed: true}
	if opt.TrimNewline {
		value, w.TrimmedNewline = trimNewline(value)
	}
	if len(value) == 0 && !opt.AllowEmpty {
		return nil, fmt.Errorf("set %s: %w", file, errEmpty)
	}
	_, w.EndsInNewline = trimNewline(value)
	if old, err := s.existing(file); err == nil && s.same(file, value, old) {
		readers, err := s.Rules.Readers(file)
		w.Changed, w.Readers = false, readerNames(readers)
		return w, err
	}

	if err := s.put(w, value); err != nil {
		return nil, fmt.Errorf("set %s: %w", file, err)
	}

	return w, nil
}

var errEmpty = errors.New("the value is empty")

// put seals and writes one value.
func (s *Store) put(w *Written, value []byte) error {
	old, err := s.existing(w.File)
	if err != nil {
		return bare(err)
	}
	w.Created = old == nil
	data, readers, err := s.sealFor(w.File, value, old)
	if err != nil {
		return err
	}
	w.Readers = readerNames(readers)
	return s.replace([]*write{{file: w.File, data: data, old: old}})
}

// Show gives the value of a secret. Whether it may be printed is the caller's to decide; the
// caller clears it.
func (s *Store) Show(name string) ([]byte, error) {
	file, err := Path(name)
	if err != nil {
		return nil, err
	}
	return s.open(file)
}
