package privatefile

import (
	"errors"
	"io/fs"
	"os"

	"bellhop/internal/durable"
)

// Make writes what content gives into a file that is not there, for its owner alone. One that
// is there is never rewritten: fresh is false then. A crash leaves no half key, and two that start at
// once agree on one.
func Make(path string, content func() ([]byte, error)) (fresh bool, err error) {
	if _, err := os.Lstat(path); err == nil {
		return false, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}

	text, err := content()
	if err != nil {
		return false, err
	}
	defer clear(text)

	err = durable.WriteNew(path, text, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	return err == nil, err
}
