package secrets

import (
	"errors"
	"fmt"
	"slices"

	"bellhop/secrets/agefile"
)

// A Rekeying says which files do not match their rules, and what became of them.
type Rekeying struct {
	Files   []Item   `json:"files"`   // stale and unknown ones, in order
	Current int      `json:"current"` // how many were left alone
	Rotate  []string `json:"rotate"`  // files that someone could read who should not: rotate their values
	Done    bool     `json:"done"`    // they were sealed again
}

// Stale finds what rekey would do, without a private key: `rekey --check` and `--dry-run`. No names
// means every secret. A file sealed elsewhere counts, since who reads it is not known; one rekey
// makes it known. Whatever would make the rekey fail later is an error now: a file without a rule,
// readers that cannot share a file, a file that is not age.
func (s *Store) Stale(names ...string) (*Rekeying, error) {
	items, err := s.pick(names)
	if err != nil {
		return nil, err
	}

	k := &Rekeying{Files: []Item{}, Rotate: []string{}}
	var errs []error
	for _, it := range items {
		switch it.State {
		case StateCurrent:
			k.Current++
		case StateStale, StateUnknown:
			k.Files = append(k.Files, it)
			if len(it.Extra) > 0 {
				k.Rotate = append(k.Rotate, it.File)
			}

		default:
			errs = append(errs, fmt.Errorf("%s: %s", it.File, it.Problem))
		}
	}

	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("rekey: %w", err)
	}

	return k, nil
}

func (s *Store) pick(names []string) ([]Item, error) {
	if len(names) == 0 {
		return s.List()
	}

	var items []Item
	for _, n := range names {
		it, err := s.Who(n)
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(items, func(o Item) bool { return o.File == it.File }) {
			items = append(items, *it)
		}
	}

	return items, nil
}

// Rekey seals every stale file for the readers of its rule, all of them or none: every file is
// opened and sealed before the first is written. Values do not change, and no host will notice.
func (s *Store) Rekey(names ...string) (*Rekeying, error) {
	k, err := s.Stale(names...)
	if err != nil || len(k.Files) == 0 {
		return k, err
	}

	var writes []*write
	var errs []error
	for _, it := range k.Files {
		w, err := s.reseal(it.File)
		if err != nil {
			errs = append(errs, err)
			if errors.Is(err, agefile.ErrNoIdentity) || agefile.ClassOf(err) == agefile.Locked {
				break // the same for every file, and asked for once
			}
			continue
		}

		writes = append(writes, w)
	}

	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("rekey: nothing was changed: %w", err)
	}
	if err := s.replace(writes); err != nil {
		return nil, fmt.Errorf("rekey: %w", err)
	}

	k.Done = true
	return k, nil
}

func (s *Store) reseal(file string) (*write, error) {
	old, err := s.read(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, bare(err))
	}

	ids, err := s.identities()
	if err != nil {
		return nil, err
	}

	value, err := ids.Open(file, old)
	if err != nil {
		return nil, s.Rules.Explain(err)
	}
	defer clear(value)
	data, _, err := s.sealFor(file, value, old)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}

	return &write{file: file, data: data, old: old}, nil
}
