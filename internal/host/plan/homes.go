package plan

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"golang.org/x/sys/unix"

	"bellhop/internal/bundle"
	"bellhop/internal/host/check"
	"bellhop/internal/host/owned"
)

// A home is given to its user, 0750, by tmpfiles: so it must be one that bellhop made, or that is
// his already. The folder of somebody else, or of the system, is never given away.

// checkHome says why u can't have its home.
func (c userCheck) checkHome(u bundle.User) error {
	had := slices.ContainsFunc(c.old.Manifest.Users, func(o bundle.User) bool { return o.Home == u.Home })
	if u.Home == "/" || had {
		return nil
	}
	if err := check.CleanPath(u.Home); err != nil {
		return fmt.Errorf("user %s: home %q: %w", u.Name, u.Home, err)
	}

	reached, err := newResolver(c.m).resolve(u.Home)
	if err != nil {
		return fmt.Errorf("user %s: home %s: %w", u.Name, u.Home, err)
	}

	for _, places := range [][]string{systemFolders, closed, unitFolders} {
		if withinAny(reached, places) {
			return fmt.Errorf("user %s: home %s lies in a folder of the system (%s): name another, such as /srv/%s", u.Name, u.Home, reached, u.Name)
		}
	}

	return c.checkHomeOwner(u)
}

// checkHomeOwner looks whose a home is that is there.
func (c userCheck) checkHomeOwner(u bundle.User) error {
	dir, name, err := c.m.Tree().Parent(u.Home, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("user %s: home %s: %w", u.Name, u.Home, err)
	}
	defer dir.Close()

	f, st, err := owned.OpenAt(dir, name, unix.O_PATH)
	if err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return fmt.Errorf("user %s: home %s: %w", u.Name, u.Home, err)
	}
	defer f.Close()

	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return fmt.Errorf("user %s: home %s is on the host, and is no folder", u.Name, u.Home)
	}

	owner, _, err := c.m.Accounts.Owner(f, &st)
	if err != nil {
		return fmt.Errorf("user %s: home %s: %w", u.Name, u.Home, err)
	}
	if owner != u.Name {
		return fmt.Errorf("user %s: home %s is on the host and belongs to %s: bellhop gives away no folder that it did not make. Name another home, or give it to the user on the host first (chown %s %s)",
			u.Name, u.Home, owner, u.Name, u.Home)
	}

	return nil
}

// checkMove refuses to change the home of a user who has data in the old one: a copy could be cut
// off, and what stays behind would be missed much later.
func (c userCheck) checkMove(name, from, to string) error {
	if from == "/" || !c.holdsData(from) {
		return nil
	}
	return fmt.Errorf("user %s: its home changes from %s to %s, and %s holds data: stop what uses it, then on the host mv %s %s, then bellhop deploy --retry",
		name, from, to, from, from, to)
}

// holdsData says whether a folder holds anything but what bellhop put there.
func (c userCheck) holdsData(dir string) bool {
	f, err := c.m.Tree().Folder(dir, false)
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	defer f.Close()

	entries, err := f.ReadDir(-1)
	if err != nil {
		return true
	}

	for _, e := range entries {
		p := dir + "/" + e.Name()
		o, own := c.old.Owned.Paths[p]
		own = own && o.Original.Kind == owned.Nothing
		if e.IsDir() {
			own = slices.Contains(c.old.Owned.Dirs, p) && !c.holdsData(p)
		}
		if !own {
			return true
		}
	}

	return false
}
