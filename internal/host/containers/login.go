package containers

import (
	"errors"
	"os"
	"path/filepath"
)

// LinkLogin makes a folder for docker's own settings, with the file of logins as its config.json. One that is there
// already stays.
func LinkLogin(dir, login string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	err := os.Symlink(login, filepath.Join(dir, "config.json"))
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	return err
}
