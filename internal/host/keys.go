package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"bellhop/internal/bundle"
)

// Keys live on the ramfs and nowhere else. What a session brings waits there in a folder of
// its own, and so do the values that a run replaces, until it is done: both on the same
// filesystem, so a key is put in place, and back, by a rename.

func newKeys(run string) string { return bundle.KeyDir + "/.new-" + run }
func oldKeys(run string) string { return bundle.KeyDir + "/.old-" + run }

// pushedKeys holds an empty file for each key that was pushed since boot. A sealed key that
// stands without one came from its copy.
const pushedKeys = "/run/bellhop-pushed"

// notePushed notes what a run brought that is done. It is for people alone: where /run is
// full, the key matters more.
func (m *Machine) notePushed(moves []keyMove) {
	for _, k := range moves {
		mark := m.at(pushedKeys + "/" + keyFile(k.Name))
		if k.Put {
			os.MkdirAll(m.at(pushedKeys), 0o700)
			os.WriteFile(mark, nil, 0o600)
		} else {
			os.Remove(mark)
			os.Remove(m.at(pushedKeys)) // with the last
		}
	}
}

func (m *Machine) source(k bundle.Key) string {
	if !k.Seal {
		return "pushed"
	}
	if _, err := os.Lstat(m.at(pushedKeys + "/" + keyFile(k.Name))); err != nil {
		return "sealed"
	}
	return "pushed"
}

// keyFile is the name under which a key waits; a template's name may hold slashes.
func keyFile(name string) string { return bundle.DigestBytes([]byte(name))[:32] }

// A keyMove is a key that changes or leaves.
type keyMove struct {
	Name string `json:"name"`
	Path string `json:"path"`
	Had  bool   `json:"had"`  // something stands at Path
	Put  bool   `json:"put"`  // a new value comes; else the key leaves
	Seal bool   `json:"seal"` // a sealed copy comes or leaves
}

// planKeys finds what changes. Every key of the manifest must be there as wanted, or have come.
func (w *plan) planKeys(staged func(string) bool) error {
	paths := map[string]bool{}
	l := w.m.keyReader()
	defer l.close()
	for _, k := range w.offer.Manifest.Keys {
		paths[k.Path] = true
		if w.holds(k.Service) {
			continue
		}
		is, err := l.keyStands(k)
		if err != nil {
			return err
		}
		if staged(k.Name) {
			there, _ := w.m.exists(k.Path)
			w.keys = append(w.keys, keyMove{Name: k.Name, Path: k.Path, Had: there, Put: true, Seal: k.Seal})
			if !is || !w.m.sameValue(newKeys(w.offer.Run)+"/"+keyFile(k.Name), k.Path) {
				w.changed[bundle.KindKey+":"+k.Name] = true
			}
		} else if !is {
			return refuse(bundle.RefusedBundle, "key %s is not on the host, and its value did not come", k.Name)
		}
	}
	for _, k := range w.old.Manifest.Keys {
		if paths[k.Path] {
			continue
		}
		if there, _ := w.m.exists(k.Path); there || k.Seal {
			w.keys = append(w.keys, keyMove{Name: k.Name, Path: k.Path, Had: there, Seal: k.Seal})
			w.changed[bundle.KindKey+":"+k.Name] = true
		}
	}
	return nil
}

// planKeysOnly is the plan of a run that fills the ramfs again. A value that did not come, as
// when one secret does not open, keeps none of the others away.
func (m *Machine) planKeysOnly(o *bundle.Offer, now standing, staged func(string) bool) (*plan, error) {
	w := &plan{m: m, offer: o, old: now, changed: map[string]bool{}}
	l := m.keyReader()
	defer l.close()
	for _, k := range o.Manifest.Keys {
		is, err := l.keyStands(k)
		if err != nil {
			return nil, err
		}
		if staged(k.Name) {
			there, _ := m.exists(k.Path)
			w.keys = append(w.keys, keyMove{Name: k.Name, Path: k.Path, Had: there, Put: true, Seal: k.Seal})
		} else if !is {
			w.warnings = append(w.warnings, fmt.Sprintf("key %s is not on the host, and its value did not come", k.Name))
		}
	}
	return w, nil
}

// stagedKeys tells which keys a session brought for run.
func (m *Machine) stagedKeys(run string) func(string) bool {
	return func(name string) bool {
		_, err := os.Lstat(filepath.Join(m.at(newKeys(run)), keyFile(name)))
		return err == nil
	}
}

// placeKeys puts the new values in place: all get owner and mode first, then all are renamed.
// What they replace is kept beside, still in RAM.
func (m *Machine) placeKeys(ctx context.Context, o *bundle.Offer, moves []keyMove, step func(string)) error {
	if len(moves) == 0 {
		return nil
	}
	keys := map[string]bundle.Key{}
	for _, k := range o.Manifest.Keys {
		keys[k.Name] = k
	}
	root, err := m.openKeyRoot(ctx)
	if err != nil {
		return err
	}
	defer root.close()
	if err := os.MkdirAll(root.at(oldKeys(o.Run)), 0o700); err != nil {
		return err
	}
	for _, k := range moves {
		if err := root.prepare(ctx, o.Run, keys[k.Name], k); err != nil {
			return fmt.Errorf("key %s: %w", k.Name, err)
		}
	}
	for _, k := range moves {
		if err := root.move(o.Run, k); err != nil {
			return fmt.Errorf("key %s: %w", k.Name, err)
		}
		step(k.Path)
	}
	return nil
}

func (r *keyRoot) prepare(ctx context.Context, run string, k bundle.Key, move keyMove) error {
	if move.Had {
		if err := r.keep(move.Path, r.at(oldKeys(run)+"/"+keyFile(move.Name))); err != nil {
			return err
		}
	}
	if move.Seal {
		if err := copyFile(r.m.at(bundle.SealedDir+"/"+move.Name), r.m.at(sealedBefore(move.Name))); err != nil {
			return err
		}
	}
	if !move.Put {
		return nil
	}
	f, err := os.OpenFile(r.at(newKeys(run)+"/"+keyFile(move.Name)), os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if k.Seal {
		value, err := io.ReadAll(f)
		if err == nil {
			err = r.m.Mounts.Seal(ctx, k.Name, value)
		}
		clear(value)
		if err != nil {
			return err
		}
	}
	if err := r.m.Accounts.Chown(f, k.Path, k.User, k.Group); err != nil {
		return err
	}
	return unix.Fchmod(int(f.Fd()), k.Mode)
}

// keep keeps what stands at p under another name.
func (r *keyRoot) keep(p, kept string) error {
	dir, name, err := r.parent(p, false)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := os.Remove(kept); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return unix.Linkat(dir.FD(), name, unix.AT_FDCWD, kept, 0)
}

func (r *keyRoot) move(run string, k keyMove) error {
	dir, name, err := r.parent(k.Path, k.Put)
	if !k.Put && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	if k.Put {
		return unix.Renameat(unix.AT_FDCWD, r.at(newKeys(run)+"/"+keyFile(k.Name)), dir.FD(), name)
	}
	if k.Seal {
		os.Remove(r.m.at(bundle.SealedDir + "/" + k.Name))
	}
	if err := unix.Unlinkat(dir.FD(), name, 0); err != nil && err != unix.ENOENT {
		return err
	}
	return nil
}
