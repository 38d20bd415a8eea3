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
	return Writer{}.Write(path, data, mode)
}

// A Writer writes as Write does, where a caller needs more. The zero Writer is Write.
type Writer struct {
	// Sync makes what is open, a file or a folder, survive a power cut; nil is its own Sync.
	Sync func(*os.File) error
	// Beside is the name that the file has until it is whole; "" makes up a new one. A killed
	// writer leaves it behind, and the next one by the same name overwrites it, so files do not
	// pile up. Only one may write at a time.
	Beside string
}

// Write is the function Write.
func (w Writer) Write(path string, data []byte, mode fs.FileMode) error {
	return w.WriteProven(path, data, mode, nil)
}

// WriteProven is Write, and asks prove whether the file is good before it gets its name: temp is its
// path until then. When prove fails, what stood at path stays.
func (w Writer) WriteProven(path string, data []byte, mode fs.FileMode, prove func(temp string) error) error {
	return w.inFolder(path, func(folder *os.Root, name string) error {
		temp, err := w.stage(folder, name, data, mode)
		if err != nil {
			return err
		}

		if prove != nil {
			err = prove(filepath.Join(filepath.Dir(path), temp))
		}
		if err == nil {
			err = folder.Rename(temp, name)
		}
		if err != nil {
			return errors.Join(err, folder.Remove(temp))
		}
		return nil
	})
}

// WriteNew puts data at path, and never replaces what is there: then the error is fs.ErrExist.
// Of two that write at once, one succeeds.
func WriteNew(path string, data []byte, mode fs.FileMode) error {
	return Writer{}.inFolder(path, func(folder *os.Root, name string) error {
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

// Name gives a file that was written beside path its name, once it is synced with its mode; path is
// replaced. It is for what is too large to be in memory whole. The file stays open.
func Name(f *os.File, path string, mode fs.FileMode) error {
	if err := errors.Join(f.Chmod(mode), f.Sync()); err != nil {
		return err
	}

	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// inFolder opens the folder of path, lets do change it, and syncs it.
func (w Writer) inFolder(path string, do func(folder *os.Root, name string) error) error {
	dir := filepath.Dir(path)
	folder, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer folder.Close()

	if err := do(folder, filepath.Base(path)); err != nil {
		return err
	}
	return w.SyncDir(dir)
}

// Stage writes data, synced, to a new hidden file beside name below root, for a caller that
// renames several files at once, and removes it if it does not. The mode is that of Write.
func Stage(root *os.Root, name string, data []byte, mode fs.FileMode) (temp string, err error) {
	return Writer{}.stage(root, name, data, mode)
}

func (w Writer) stage(root *os.Root, name string, data []byte, mode fs.FileMode) (temp string, err error) {
	kept, err := standingMode(root, name)
	if err != nil {
		return "", err
	}
	if kept != 0 {
		mode = kept
	}

	beside, once := w.Beside, os.O_TRUNC
	if beside == "" {
		beside, once = "."+filepath.Base(name)+"."+randomHex(6), os.O_EXCL
	}

	temp = filepath.Join(filepath.Dir(name), beside)
	f, err := root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|once, mode)
	if err != nil {
		return "", err
	}

	_, err = f.Write(data)
	if kept != 0 {
		err = errors.Join(err, f.Chmod(kept)) // whatever the umask is now
	}
	if err = errors.Join(err, w.sync(f), f.Close()); err != nil {
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
func SyncDir(dir string) error { return Writer{}.SyncDir(dir) }

// SyncDir is the function SyncDir.
func (w Writer) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(w.sync(d), d.Close())
}

func (w Writer) sync(f *os.File) error {
	if w.Sync == nil {
		return f.Sync()
	}
	return w.Sync(f)
}

func randomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}
