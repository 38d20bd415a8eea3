package keyfiles

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"golang.org/x/sys/unix"

	"bellhop/internal/bundle"
	"bellhop/internal/mask"
)

// maxMasked is how much of all values together a mask takes in, bytes.
const maxMasked = 64 << 20

// Mask returns what takes the values of all keys out of a text: of those in place, those that came
// for a run, and those that it replaced. keys tell their names. What a unit wrote goes through it
// before bellhop writes it to disk. It returns an error where not all values are known: then nothing
// of such a text may be written.
func (m Store) Mask(keys ...bundle.Key) (func(string) string, error) {
	names := map[string]string{}
	for _, k := range keys {
		names[k.Path], names[FileName(k.Name)] = k.Name, k.Name
	}

	var f mask.Filter
	left := int64(maxMasked)
	root := m.At(bundle.KeyDir)
	err := filepath.WalkDir(root, func(file string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it left meanwhile, or there are no keys at all
		}
		if err != nil || !e.Type().IsRegular() {
			return err
		}

		value, err := readValue(file, left)
		if err != nil {
			return err
		}
		defer clear(value)

		left -= int64(len(value))
		place := bundle.KeyDir + file[len(root):]
		f.Add(nameOf(names, place), value)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the values of keys: %w", err)
	}

	f.Prepare()
	return f.Text, nil
}

// MaskOrWithhold is Mask for a text that has to be written in any case: where not all values are known, what it
// returns puts a sentence that says so in place of every text.
func (m Store) MaskOrWithhold(keys ...bundle.Key) func(string) string {
	take, err := m.Mask(keys...)
	if err == nil {
		return take
	}

	withheld := fmt.Sprintf("‹withheld: a key's value may stand here, and they can't be looked for: %v›", err)
	return func(string) string { return withheld }
}

// nameOf is the name of the key that stands, or waits, at place.
func nameOf(names map[string]string, place string) string {
	if name, ok := names[place]; ok {
		return name
	}
	if name, ok := names[path.Base(place)]; ok {
		return name
	}
	return path.Base(place)
}

// readValue reads a value of at most so many bytes; nothing when it is gone.
func readValue(file string, most int64) ([]byte, error) {
	f, err := os.OpenFile(file, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()

	value, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(value)) > most {
		err = fmt.Errorf("they are more than %d MiB", maxMasked>>20)
	}
	if err != nil {
		clear(value)
	}
	return value, err
}
