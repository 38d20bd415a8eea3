package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"

	"bellhop/internal/bundle"
)

// madePath names the users that bellhop made on this host. It is a file beside the record, since
// accounts stay: also when their run is undone, or their service leaves.
const madePath = bundle.StateDir + "/accounts"

// MadeUsers are the users that bellhop made on this host, now or ever.
func (m Dir) MadeUsers() (map[string]bool, error) {
	names, err := readJSON[[]string](m.At(madePath))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", madePath, err)
	}

	made := map[string]bool{}
	if names != nil {
		for _, n := range *names {
			made[n] = true
		}
	}

	return made, nil
}

// SaveMadeUsers remembers the users that bellhop made on this host.
func (m Dir) SaveMadeUsers(made map[string]bool) error {
	p, err := json.Marshal(slices.Sorted(maps.Keys(made)))
	if err != nil {
		return err
	}
	return m.replace(madePath, p)
}

func readJSON[T any](path string) (*T, error) {
	p, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}

	v := new(T)
	return v, json.Unmarshal(p, v)
}
