package keyfiles

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"golang.org/x/sys/unix"

	"bellhop/internal/bundle"
	"bellhop/internal/durable"
	"bellhop/internal/host/state"
)

// Return puts back what a run replaced. After a reboot the ramfs is empty, and the
// deployer brings the keys of the current generation.
func (m Store) Return(run string, moves []state.KeyMove, sameBoot bool) error {
	if len(moves) == 0 {
		return nil
	}

	var errs []error
	for _, k := range moves {
		if k.Seal {
			errs = append(errs, m.returnSealed(k.Name))
		}
	}

	if sameBoot {
		errs = append(errs, m.withRoot(func(r *Root) error {
			var errs []error
			for _, k := range moves {
				errs = append(errs, r.putBack(run, k))
			}

			return errors.Join(errs...)
		}))
	}

	return errors.Join(errs...)
}

// putBack puts back what a run replaced.
func (r *Root) putBack(run string, k state.KeyMove) error {
	dir, name, err := r.parent(k.Path, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.Close()

	for _, kept := range []string{r.before(run, k.Name), r.At(oldFolder(run) + "/" + FileName(k.Name))} {
		if _, err := os.Lstat(kept); err != nil {
			continue
		}
		if k.Was != nil {
			if err := r.own(kept, k.Path, *k.Was); err != nil {
				return fmt.Errorf("key %s: %w", k.Name, err)
			}
		}
		return unix.Renameat(unix.AT_FDCWD, kept, dir.FD(), name)
	}
	if k.Had {
		return nil // it is still in place
	}
	if err := unix.Unlinkat(dir.FD(), name, 0); err != unix.ENOENT {
		return err
	}

	return nil
}

func sealedBefore(name string) string { return bundle.SealedDir + "/.before-" + name }

func (m Store) returnSealed(name string) error {
	before, place := m.At(sealedBefore(name)), m.At(bundle.SealedDir+"/"+name)
	st, err := os.Stat(before)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the run had not come to it
	}
	if err == nil && st.Size() == 0 {
		os.Remove(place)
		return os.Remove(before)
	}

	return errors.Join(err, os.Rename(before, place))
}

// copyFile copies one file of the state directory, whole or not at all; of a missing one the copy is
// empty. It survives a power cut from here on: what it is a copy of is replaced next.
func (m Store) copyFile(from, to string) error {
	p, err := os.ReadFile(from)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	w := durable.Writer{Sync: m.SyncTo().Sync, Beside: ".new" + filepath.Base(to)}
	return w.Write(to, p, 0o600)
}

// Drop forgets what waits in RAM for a run that has ended. What can't be dropped is swept by
// a later session.
func (m Store) Drop(run string, moves []state.KeyMove) {
	var waits, folders []string
	for _, p := range []string{NewFolder(run), beforeFolder(run), oldFolder(run)} {
		if _, err := os.Lstat(m.At(p)); err == nil {
			waits = append(waits, p)
		}
	}

	for _, k := range moves {
		if k.Seal {
			os.Remove(m.At(sealedBefore(k.Name)))
		}
		if !k.Put {
			folders = append(folders, foldersAbove(k.Path)...)
		}
	}

	if len(waits)+len(folders) == 0 {
		return
	}

	m.withRoot(func(r *Root) error {
		for _, p := range waits {
			os.RemoveAll(r.At(p))
		}

		os.Remove(r.At(beforeDir)) // where it is empty
		r.removeFolders(folders)
		return nil
	})
}

// foldersAbove are those above a template's key, the nearest first. The run that removes it removes
// those that it leaves empty.
func foldersAbove(p string) (dirs []string) {
	for d := path.Dir(p); len(d) > len(bundle.KeyDir); d = path.Dir(d) {
		dirs = append(dirs, d)
	}
	return dirs
}
