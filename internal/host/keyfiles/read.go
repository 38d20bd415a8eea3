package keyfiles

import (
	"context"
	"crypto/subtle"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"bellhop/internal/bundle"
	"bellhop/internal/host/owned"
	"bellhop/internal/host/state"
)

// A Reader looks at keys. It holds the folder that it opened last.
type Reader struct {
	m    Store
	look *owned.Looker
}

func (m Store) Reader() *Reader {
	return &Reader{m, m.Tree().Looker(context.Background())}
}

func (l *Reader) Close() { l.look.Close() }

// InPlace says whether a regular file with the key's owner and mode is in its place. On a NixOS host that does not
// have the owner yet, it is one that is root's alone.
func (l *Reader) InPlace(k bundle.Key) (bool, error) {
	f, _, err := l.openInPlace(k)
	if f == nil {
		return false, err
	}
	return true, f.Close()
}

// openInPlace opens a key that is in its place, with the owner and mode that it can have now; nil when it is not.
func (l *Reader) openInPlace(k bundle.Key) (*os.File, unix.Stat_t, error) {
	f, st, err := l.open(k.Path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ELOOP) {
		return nil, st, nil
	}
	if isThere, isFolder := l.m.stands(k.Path); err != nil && isThere && isFolder {
		return nil, st, nil // Docker makes one for a mount whose key is not there yet
	}
	if err != nil {
		return nil, st, err
	}

	user, group, err := l.m.Accounts.Owner(f, &st)
	is, want := state.KeyOwner{User: user, Group: group, Mode: st.Mode & 0o7777}, ownerOf(k)
	if err == nil && is != want {
		want, _, err = l.m.ownerNow(want)
	}
	if err != nil || is != want {
		f.Close()
		return nil, st, err
	}

	return f, st, nil
}

func (l *Reader) open(p string) (*os.File, unix.Stat_t, error) {
	dir, err := l.look.Parent(p)
	if err != nil {
		return nil, unix.Stat_t{}, err
	}
	return owned.OpenRegular(dir, path.Base(p))
}

// SameValue says that the value that came equals the one in place: it was sent only to be sealed
// again, and restarts nothing.
func (m Store) SameValue(came, inPlace string) bool {
	l := m.Reader()
	defer l.Close()

	read := func(p string) ([]byte, error) {
		f, _, err := l.open(p)
		if err != nil {
			return nil, err
		}
		defer f.Close()

		return io.ReadAll(io.LimitReader(f, bundle.MaxKey+1))
	}

	a, err := read(came)
	b, err2 := read(inPlace)
	defer clear(a)
	defer clear(b)

	return err == nil && err2 == nil && subtle.ConstantTimeCompare(a, b) == 1
}

// MAC answers the nonce for a key in place; nil for one that is not.
func (l *Reader) MAC(k bundle.Key, nonce []byte) []byte {
	f, st, err := l.openInPlace(k)
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

// Move is what a run does with k: with put a new value comes, else the key leaves.
func (l *Reader) Move(k bundle.Key, put bool) state.KeyMove {
	isThere, isFolder := l.m.stands(k.Path)
	move := state.KeyMove{Name: k.Name, Path: k.Path, Put: put, Seal: k.Seal, Had: isThere && !isFolder}
	f, st, err := l.open(k.Path)
	if err != nil {
		return move // none, or no file
	}
	defer f.Close()
	if user, group, err := l.m.Accounts.Owner(f, &st); err == nil {
		move.Was = &state.KeyOwner{User: user, Group: group, Mode: st.Mode & 0o7777}
	}
	return move
}

// stands says whether anything stands at p, and whether that is a folder.
func (m Store) stands(p string) (isThere, isFolder bool) {
	dir, name, err := m.Tree().Parent(p, false)
	if err != nil {
		return false, false
	}
	defer dir.Close()

	var st unix.Stat_t
	if unix.Fstatat(dir.FD(), name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return false, false
	}
	return true, st.Mode&unix.S_IFMT == unix.S_IFDIR
}

// States are those of the keys of the current generation.
func (m Store) States(ctx context.Context, now *state.Generation) []bundle.KeyState {
	var units []string
	b := &now.Manifest
	for _, k := range b.Keys {
		units = append(units, k.Name+"-key.service")
	}

	if len(units) == 0 {
		return nil
	}

	states, _ := m.Glance(ctx, units)
	var out []bundle.KeyState
	l := m.Reader()
	defer l.Close()

	for _, k := range b.Keys {
		s := bundle.KeyState{Name: k.Name, Unit: states[k.Name+"-key.service"].Active}
		if f, st, err := l.openInPlace(k); err == nil && f != nil {
			s.Present, s.Since, s.Source = true, int64(st.Ctim.Sec), m.source(k)
			f.Close()
		}

		out = append(out, s)
	}

	return out
}
