package host

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"golang.org/x/sys/unix"

	"bellhop/internal/bundle"
)

// returnKeys puts back what a run replaced. After a reboot the ramfs is empty, and the
// deployer brings the keys of the generation that stands.
func (m *Machine) returnKeys(run string, moves []keyMove, sameBoot bool) error {
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
		errs = append(errs, m.withKeyRoot(func(r *keyRoot) error {
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
func (r *keyRoot) putBack(run string, k keyMove) error {
	dir, name, err := r.parent(k.Path, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	kept := r.at(oldKeys(run) + "/" + keyFile(k.Name))
	if _, err := os.Lstat(kept); err == nil {
		return unix.Renameat(unix.AT_FDCWD, kept, dir.FD(), name)
	}
	if k.Had {
		return nil // it stands there yet
	}
	if err := unix.Unlinkat(dir.FD(), name, 0); err != unix.ENOENT {
		return err
	}
	return nil
}

func sealedBefore(name string) string { return bundle.SealedDir + "/.before-" + name }

func (m *Machine) returnSealed(name string) error {
	before, place := m.at(sealedBefore(name)), m.at(bundle.SealedDir+"/"+name)
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

// copyFile copies one file of the state directory; of a missing one the copy is empty.
func copyFile(from, to string) error {
	p, err := os.ReadFile(from)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	return os.WriteFile(to, p, 0o600)
}

// dropKeys forgets what waits in RAM for a run that has ended. What can't be dropped is swept by
// a later session.
func (m *Machine) dropKeys(run string, moves []keyMove) {
	var waits, folders []string
	for _, p := range []string{newKeys(run), oldKeys(run)} {
		if _, err := os.Lstat(m.at(p)); err == nil {
			waits = append(waits, p)
		}
	}
	for _, k := range moves {
		if k.Seal {
			os.Remove(m.at(sealedBefore(k.Name)))
		}
		if !k.Put {
			folders = append(folders, keyFolders(k.Path)...)
		}
	}
	if len(waits)+len(folders) == 0 {
		return
	}
	m.withKeyRoot(func(r *keyRoot) error {
		for _, p := range waits {
			os.RemoveAll(r.at(p))
		}
		r.removeFolders(folders)
		return nil
	})
}

// keyFolders are those above a template's key, the nearest first. The run that removes it removes
// those that it leaves empty.
func keyFolders(p string) (dirs []string) {
	for d := path.Dir(p); len(d) > len(bundle.KeyDir); d = path.Dir(d) {
		dirs = append(dirs, d)
	}
	return dirs
}
