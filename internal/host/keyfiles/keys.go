package keyfiles

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
	"bellhop/internal/host/state"
)

// A Store is the keys of a host: those that stand, those that wait, and those that were replaced.
type Store struct{ state.Dir }

// Of is the keys of the host whose state directory m is.
func Of(m state.Dir) Store { return Store{m} }

// NewFolder is where the values that came for a run, or a session, wait.
func NewFolder(run string) string { return bundle.KeyDir + "/.new-" + run }

// Now is where the value of a key is that a run brings, or leaves as it is: it may wait yet.
func (m Store) Now(run string, k bundle.Key) string {
	waits := m.At(NewFolder(run) + "/" + FileName(k.Name))
	if _, err := os.Lstat(waits); err == nil {
		return waits
	}
	return m.At(k.Path)
}

// beforeDir is where the values that a run replaces or removes are kept until it has ended, root's
// alone, in a folder of the run's own: what a former run left is nothing to go back to.
const beforeDir = bundle.KeyDir + "/.before"

func beforeFolder(run string) string { return beforeDir + "/" + run }

// oldFolder is where helpers of former releases kept them.
func oldFolder(run string) string { return bundle.KeyDir + "/.old-" + run }

// before is where a run keeps the key of that name.
func (r *Root) before(run, key string) string {
	return r.At(beforeFolder(run) + "/" + FileName(key))
}

// pushedKeys holds an empty file for each key that was pushed since boot. A sealed key that
// is there without such a file came from its copy.
const pushedKeys = "/run/bellhop-pushed"

// NotePushed notes what a run brought that is done. It is for people alone: where /run is
// full, the key matters more.
func (m Store) NotePushed(moves []state.KeyMove) {
	for _, k := range moves {
		mark := m.At(pushedKeys + "/" + FileName(k.Name))
		if k.Put {
			os.MkdirAll(m.At(pushedKeys), 0o700)
			os.WriteFile(mark, nil, 0o600)
		} else {
			os.Remove(mark)
			os.Remove(m.At(pushedKeys)) // with the last
		}
	}
}

func (m Store) source(k bundle.Key) string {
	if !k.Seal {
		return "pushed"
	}
	if _, err := os.Lstat(m.At(pushedKeys + "/" + FileName(k.Name))); err != nil {
		return "sealed"
	}
	return "pushed"
}

// FileName is the name under which a key waits; a template's name may hold slashes.
func FileName(name string) string { return bundle.DigestBytes([]byte(name))[:32] }

// Staged tells which keys a session brought for run.
func (m Store) Staged(run string) func(string) bool {
	return func(name string) bool {
		_, err := os.Lstat(filepath.Join(m.At(NewFolder(run)), FileName(name)))
		return err == nil
	}
}

// Place puts the new values in place: all get owner and mode first, then all are renamed.
// What they replace is kept beside, still in RAM.
func (m Store) Place(ctx context.Context, o *bundle.Offer, moves []state.KeyMove, step func(string)) error {
	if len(moves) == 0 {
		return nil
	}

	keys := map[string]bundle.Key{}
	for _, k := range o.Manifest.Keys {
		keys[k.Name] = k
	}

	root, err := m.OpenRoot(ctx)
	if err != nil {
		return err
	}
	defer root.Close()

	if err := os.MkdirAll(root.At(beforeFolder(o.Run)), 0o700); err != nil {
		return err
	}

	for _, k := range moves {
		if err := root.prepare(ctx, o.Run, keys[k.Name], k); err != nil {
			return fmt.Errorf("key %s: %w", k.Name, err)
		}
	}

	for _, k := range moves {
		err := root.move(o.Run, k)
		if err == nil && k.Was != nil {
			err = root.own(root.before(o.Run, k.Name), k.Path, state.KeyOwner{User: "root", Group: "root", Mode: 0o600})
		}
		if err != nil {
			return fmt.Errorf("key %s: %w", k.Name, err)
		}
		step(k.Path)
	}

	return nil
}

func (r *Root) prepare(ctx context.Context, run string, k bundle.Key, move state.KeyMove) error {
	if move.Had {
		if err := r.keep(move.Path, r.before(run, move.Name)); err != nil {
			return err
		}
	}
	if move.Seal {
		if err := r.m.copyFile(r.m.At(bundle.SealedDir+"/"+move.Name), r.m.At(sealedBefore(move.Name))); err != nil {
			return err
		}
	}
	if !move.Put {
		return nil
	}

	f, err := os.OpenFile(r.At(NewFolder(run)+"/"+FileName(move.Name)), os.O_RDONLY|unix.O_NOFOLLOW, 0)
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
	owner, _, err := r.m.ownerNow(ownerOf(k))
	if err != nil {
		return err
	}
	if err := r.m.Accounts.Chown(f, k.Path, owner.User, owner.Group); err != nil {
		return err
	}

	return unix.Fchmod(int(f.Fd()), owner.Mode)
}

// own gives the file at the path file, which nobody else can reach, to owner, or to root while the host does not
// have that one. path is what an error calls it.
func (r *Root) own(file, path string, owner state.KeyOwner) error {
	owner, _, err := r.m.ownerNow(owner)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := r.m.Accounts.Chown(f, path, owner.User, owner.Group); err != nil {
		return err
	}
	return unix.Fchmod(int(f.Fd()), owner.Mode)
}

// keep keeps the key at p under another name.
func (r *Root) keep(p, kept string) error {
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

func (r *Root) move(run string, k state.KeyMove) error {
	dir, name, err := r.parent(k.Path, k.Put)
	if !k.Put && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.Close()

	if k.Put {
		came := r.At(NewFolder(run) + "/" + FileName(k.Name))
		err := unix.Renameat(unix.AT_FDCWD, came, dir.FD(), name)
		if errors.Is(err, unix.EISDIR) {
			// An engine that mounted a key which was not there made a folder. One with anything in it is somebody's.
			if err = unix.Unlinkat(dir.FD(), name, unix.AT_REMOVEDIR); err == nil {
				err = unix.Renameat(unix.AT_FDCWD, came, dir.FD(), name)
			}
		}
		return err
	}
	if k.Seal {
		os.Remove(r.m.At(bundle.SealedDir + "/" + k.Name))
	}
	if err := unix.Unlinkat(dir.FD(), name, 0); err != nil && err != unix.ENOENT {
		return err
	}

	return nil
}
