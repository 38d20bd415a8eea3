package host

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"golang.org/x/sys/unix"

	"bellhop/internal/bundle"
	"bellhop/internal/host/owned"
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
func (w *work) planKeys(staged func(string) bool) error {
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
func (m *Machine) planKeysOnly(o *bundle.Offer, now standing, staged func(string) bool) (*work, error) {
	w := &work{m: m, offer: o, old: now, changed: map[string]bool{}}
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

// A keyReader looks at keys. It holds the folder that it opened last.
type keyReader struct {
	m    *Machine
	look *owned.Looker
}

func (m *Machine) keyReader() *keyReader {
	return &keyReader{m, m.tree().Looker(context.Background())}
}

func (l *keyReader) close() { l.look.Close() }

// keyStands says whether a regular file with the key's owner and mode is in its place.
func (l *keyReader) keyStands(k bundle.Key) (bool, error) {
	f, _, err := l.standingKey(k)
	if f == nil {
		return false, err
	}
	return true, f.Close()
}

// standingKey opens a key that is in its place, with its owner and mode; nil when it is not.
func (l *keyReader) standingKey(k bundle.Key) (*os.File, unix.Stat_t, error) {
	f, st, err := l.openKey(k.Path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ELOOP) {
		return nil, st, nil
	}
	if err != nil {
		return nil, st, err
	}
	user, group, err := l.m.Accounts.Owner(f, &st)
	if err != nil || st.Mode&0o7777 != k.Mode || user != k.User || group != k.Group {
		f.Close()
		return nil, st, err
	}
	return f, st, nil
}

func (l *keyReader) openKey(p string) (*os.File, unix.Stat_t, error) {
	dir, err := l.look.Parent(p)
	if err != nil {
		return nil, unix.Stat_t{}, err
	}
	return owned.OpenRegular(dir, path.Base(p))
}

// sameValue says that the value that came is the one that stands: it was sent only to be sealed
// again, and restarts nothing.
func (m *Machine) sameValue(came, stands string) bool {
	l := m.keyReader()
	defer l.close()
	read := func(p string) ([]byte, error) {
		f, _, err := l.openKey(p)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return io.ReadAll(io.LimitReader(f, bundle.MaxKey+1))
	}
	a, err := read(came)
	b, err2 := read(stands)
	defer clear(a)
	defer clear(b)
	return err == nil && err2 == nil && subtle.ConstantTimeCompare(a, b) == 1
}

// keyMAC answers the nonce for a key that stands; nil for one that does not.
func (l *keyReader) keyMAC(k bundle.Key, nonce []byte) []byte {
	f, st, err := l.standingKey(k)
	if err != nil || f == nil {
		return nil
	}
	defer f.Close()
	if st.Size > bundle.MaxKey {
		return nil
	}
	value := make([]byte, st.Size)
	defer clear(value)
	if _, err := io.ReadFull(f, value); err != nil {
		return nil
	}
	if k.Seal && !l.m.Mounts.Opens(context.Background(), k.Name, value) {
		return nil // the sealed copy is lost or dead: the value must come again
	}
	return bundle.KeyMAC(nonce, value)
}

func (m *Machine) exists(p string) (bool, error) {
	dir, name, err := m.tree().Parent(p, false)
	if err != nil {
		return false, err
	}
	defer dir.Close()
	var st unix.Stat_t
	err = unix.Fstatat(dir.FD(), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	return err == nil, err
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

// keyStates tells how the keys of the standing generation do.
func (m *Machine) keyStates(ctx context.Context, now *standing) []bundle.KeyState {
	var units []string
	b := &now.Manifest
	for _, k := range b.Keys {
		units = append(units, k.Name+"-key.service")
	}
	if len(units) == 0 {
		return nil
	}
	states, _ := m.glance(ctx, units)
	var out []bundle.KeyState
	l := m.keyReader()
	defer l.close()
	for _, k := range b.Keys {
		s := bundle.KeyState{Name: k.Name, Unit: states[k.Name+"-key.service"].Active}
		if f, st, err := l.standingKey(k); err == nil && f != nil {
			s.Present, s.Since, s.Source = true, int64(st.Ctim.Sec), m.source(k)
			f.Close()
		}
		out = append(out, s)
	}
	return out
}
