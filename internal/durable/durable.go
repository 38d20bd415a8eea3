// Package durable writes files that are whole after a crash.
//
// A file is written beside its place, synced, and then given its name; the folder is synced
// after that. Its promise: whoever opens the name sees the old bytes or the new ones, never a
// part, and after a nil error the new ones survive a power cut.
package durable

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Write puts data at path. A regular file that is there is replaced and keeps its mode; a new
// one gets mode, less the umask. What is there and is not a regular file is an error.
func Write(path string, data []byte, mode fs.FileMode) error {
	return inFolder(path, func(folder *os.Root, name string) error {
		temp, err := Stage(folder, name, data, mode)
		if err != nil {
			return err
		}
		if err := folder.Rename(temp, name); err != nil {
			return errors.Join(err, folder.Remove(temp))
		}
		return nil
	})
}

// WriteNew puts data at path, and never replaces what is there: then the error is fs.ErrExist.
// Of two that write at once, one succeeds.
func WriteNew(path string, data []byte, mode fs.FileMode) error {
	return inFolder(path, func(folder *os.Root, name string) error {
		if _, err := folder.Lstat(name); err == nil {
			return &fs.PathError{Op: "create", Path: path, Err: fs.ErrExist}
		}
		temp, err := Stage(folder, name, data, mode)
		if err != nil {
			return err
		}
		err = folder.Link(temp, name)
		return errors.Join(err, folder.Remove(temp))
	})
}

// inFolder opens the folder of path, lets do change it, and syncs it.
func inFolder(path string, do func(folder *os.Root, name string) error) error {
	dir := filepath.Dir(path)
	folder, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer folder.Close()

	if err := do(folder, filepath.Base(path)); err != nil {
		return err
	}
	return SyncDir(dir)
}

// Stage writes data, synced, to a new hidden file beside name below root, for a caller that
// renames several files at once, and removes it if it does not. The mode is that of Write.
func Stage(root *os.Root, name string, data []byte, mode fs.FileMode) (temp string, err error) {
	kept, err := standingMode(root, name)
	if err != nil {
		return "", err
	}
	if kept != 0 {
		mode = kept
	}

	temp = filepath.Join(filepath.Dir(name), "."+filepath.Base(name)+"."+randomHex(6))
	f, err := root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return "", err
	}
	_, err = f.Write(data)
	if kept != 0 {
		err = errors.Join(err, f.Chmod(kept)) // whatever the umask is now
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return "", errors.Join(err, root.Remove(temp))
	}
	return temp, nil
}

var errNotRegular = errors.New("what is there is not a regular file")

// standingMode is the mode of the regular file at name; 0 where there is none.
func standingMode(root *os.Root, name string) (fs.FileMode, error) {
	info, err := root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return 0, nil
	case err != nil:
		return 0, err
	case !info.Mode().IsRegular():
		return 0, &fs.PathError{Op: "replace", Path: name, Err: errNotRegular}
	}
	return info.Mode().Perm(), nil
}

// SyncDir makes renames, new names and removals in a folder survive a power cut.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func randomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}
