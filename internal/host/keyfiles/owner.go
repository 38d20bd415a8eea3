package keyfiles

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"

	"bellhop/internal/bundle"
	"bellhop/internal/host/owned"
	"bellhop/internal/host/state"
	"bellhop/internal/nameshape"
)

// A NixOS system makes the users of its host while it is switched to, and keys are placed before that. So a
// key may come before its owner: until the owner is there, the key is root's, and nobody else can read it.

// bareID is an owner without a name, which exists as long as its number does.
var bareID = nameshape.Of("0-9", 20)

// ownerNow is the owner that a key can have now: its own, or root while that one does not exist yet. late says
// the latter, which happens on NixOS hosts alone.
func (m Store) ownerNow(own state.KeyOwner) (now state.KeyOwner, late bool, err error) {
	if !m.NixOS() {
		return own, false, nil
	}

	_, hasUser, err := m.Accounts.User(own.User)
	if err != nil {
		return own, false, fmt.Errorf("look up user %s: %w", own.User, err)
	}
	_, hasGroup, err := m.Accounts.Group(own.Group)
	if err != nil {
		return own, false, fmt.Errorf("look up group %s: %w", own.Group, err)
	}

	userExists := hasUser || bareID.MatchString(own.User)
	groupExists := hasGroup || bareID.MatchString(own.Group)
	if userExists && groupExists {
		return own, false, nil
	}
	return state.KeyOwner{User: "root", Group: "root", Mode: own.Mode & 0o700}, true, nil
}

func ownerOf(k bundle.Key) state.KeyOwner {
	return state.KeyOwner{User: k.User, Group: k.Group, Mode: k.Mode}
}

// Owners is GiveToOwners of these keys, for whom it is all the same whose keys they are; nil when there are none.
func (m Store) Owners(keys []bundle.Key) func(context.Context) ([]string, error) {
	if len(keys) == 0 {
		return nil
	}
	return func(ctx context.Context) ([]string, error) { return m.GiveToOwners(ctx, keys) }
}

// GiveToOwners gives keys that stand on the host to their owners, and names those keys whose owner the host does
// not have. A key that is not there is left out, and so is a folder or a link in its place.
func (m Store) GiveToOwners(ctx context.Context, keys []bundle.Key) (late []string, err error) {
	err = m.withRoot(func(r *Root) error {
		var errs []error
		for _, k := range keys {
			isLate, err := r.giveToOwner(k)
			if err != nil {
				errs = append(errs, fmt.Errorf("key %s: %w", k.Name, err))
			}
			if isLate {
				late = append(late, k.Name)
			}
			if ctx.Err() != nil {
				return errors.Join(append(errs, ctx.Err())...)
			}
		}
		return errors.Join(errs...)
	})
	return late, err
}

func (r *Root) giveToOwner(k bundle.Key) (late bool, err error) {
	dir, name, err := r.parent(k.Path, false)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer dir.Close()
	f, st, err := owned.OpenAt(dir, name, unix.O_RDONLY)
	isNone := errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENXIO)
	if isNone {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return false, nil // Docker makes a folder for a mount whose key is not there yet
	}

	want, late, err := r.m.ownerNow(ownerOf(k))
	if err != nil {
		return false, err
	}
	user, group, err := r.m.Accounts.Owner(f, &st)
	if err != nil {
		return late, err
	}
	if is := (state.KeyOwner{User: user, Group: group, Mode: st.Mode & 0o7777}); is == want {
		return late, nil
	}
	if err := r.m.Accounts.Chown(f, k.Path, want.User, want.Group); err != nil {
		return late, err
	}
	return late, unix.Fchmod(int(f.Fd()), want.Mode)
}
