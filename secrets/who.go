package secrets

import (
	"context"
	"fmt"
	"slices"

	"bellhop/secrets/agefile"
)

// A State says how the readers of a file compare with its rule.
type State string

// The states of a file. Whatever is not Current is what rekey works on, or what it cannot mend.
const (
	StateCurrent State = "current" // exactly its readers can open it
	StateStale   State = "stale"   // a reader is missing, or someone can still open it
	StateUnknown State = "unknown" // sealed elsewhere: only the number of its readers shows
	StateNoRule  State = "no-rule" // no rule says who reads it
	StateBad     State = "bad"     // not an age file, damaged, or its rule cannot be followed
)

// An Item is one secret, and who can and should read it. All of it is known without a private key.
type Item struct {
	File    string   `json:"file"`
	State   State    `json:"state"`
	Rule    string   `json:"rule,omitempty"` // its pattern; empty: no rules, everybody
	Wanted  []string `json:"wanted"`         // who should read it, by name
	Readers []string `json:"readers"`        // who can, by name or fingerprint; empty when unknown
	Missing []string `json:"missing"`        // should, and cannot
	Extra   []string `json:"extra"`          // can, and should not
	Stanzas int      `json:"stanzas"`        // how many can
	Types   []string `json:"types"`          // the kinds of their keys
	Problem string   `json:"problem,omitempty"`
}

// Who says who can read one secret, and who should.
func (s *Store) Who(name string) (*Item, error) {
	file, err := Path(name)
	if err != nil {
		return nil, err
	}
	data, err := s.read(file)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, bare(err))
	}
	it := s.Rules.item(file, data)
	return &it, nil
}

// List gives every secret of the store.
func (s *Store) List() ([]Item, error) {
	files, findings := secretFiles(context.Background(), s.Tree())
	if len(findings) > 0 {
		return nil, fmt.Errorf("list secrets: %s cannot be read", findings[0].File)
	}

	items := []Item{}
	for _, f := range files {
		data, err := s.read(f)
		if err != nil {
			return nil, fmt.Errorf("list secrets: %s: %w", f, bare(err))
		}
		items = append(items, s.Rules.item(f, data))
	}

	return items, nil
}

// ReadableBy gives the items that a reader can open, by their name in the rules.
func ReadableBy(items []Item, name string) []Item {
	out := []Item{}
	for _, it := range items {
		if slices.Contains(it.Readers, name) {
			out = append(out, it)
		}
	}

	return out
}

func (r Rules) item(file string, data []byte) Item {
	it := Item{File: file, State: StateBad, Wanted: []string{}, Readers: []string{}, Missing: []string{}, Extra: []string{}, Types: []string{}}
	a, err := agefile.Readers(data)
	if err != nil {
		it.Problem = agefile.ClassOf(err).Cause()
		return it
	}

	it.Stanzas, it.Types = a.Stanzas, a.Types
	it.Readers = append(it.Readers, r.names(a.Readers)...)
	rule, err := r.Find(file)
	if err != nil {
		it.State, it.Problem = StateNoRule, ErrNoRule.Error()
		return it
	}

	if rule != nil {
		it.Rule = rule.Pattern
	}

	want, err := r.Readers(file)
	if err != nil {
		it.Problem = err.Error()
		return it
	}

	it.Wanted = readerNames(want)
	d := r.compare(want, a)
	it.Missing, it.Extra = append(it.Missing, d.missing...), append(it.Extra, d.extra...)
	switch {
	case slices.Contains(a.Types, "scrypt"):
		it.Problem = agefile.Passphrase.Cause()
	case d.unknown:
		it.State = StateUnknown
	case d.stale():
		it.State = StateStale
	default:
		it.State = StateCurrent
	}

	return it
}
