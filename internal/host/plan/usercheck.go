package plan

import (
	"fmt"

	"bellhop/internal/bundle"
	"bellhop/internal/host/check"
	"bellhop/internal/host/state"
)

// A userCheck says whether this host can have a user as the bundle wants it.
type userCheck struct {
	m   state.Dir
	old *state.Generation // what bellhop had there
}

func (w *Plan) userCheck() userCheck { return userCheck{w.m, &w.Old} }

// checkIDs refuses a user whose fixed uid or gid the host can't give: another has the number, or the
// user or group is there with another one. A number is never changed, since files keep the old owner.
func (c userCheck) checkIDs(u bundle.User) error {
	if u.UID != 0 {
		if err := c.checkUID(u); err != nil {
			return err
		}
	}
	if u.GID != 0 {
		return c.checkGID(u)
	}
	return nil
}

func (c userCheck) checkUID(u bundle.User) error {
	a, there, err := c.m.Accounts.User(u.Name)
	if err != nil {
		return fmt.Errorf("look up user %s: %w", u.Name, err)
	}
	if there && a.UID == int(u.UID) {
		return nil
	}
	if there {
		return check.Refuse(bundle.RefusedBundle, "user %s has uid %d on the host, and the repo says %d: write uid: %d, or change it by hand (usermod -u, and chown of the user's files)", u.Name, a.UID, u.UID, a.UID)
	}

	name, taken, err := c.m.Accounts.UserOf(int(u.UID))
	if err != nil {
		return fmt.Errorf("look up uid %d: %w", u.UID, err)
	}
	if taken {
		return check.Refuse(bundle.RefusedBundle, "uid %d of user %s is that of user %s on the host: choose another one", u.UID, u.Name, name)
	}

	return nil
}

func (c userCheck) checkGID(u bundle.User) error {
	gid, there, err := c.m.Accounts.Group(u.Group)
	if err != nil {
		return fmt.Errorf("look up group %s: %w", u.Group, err)
	}
	if there && gid == int(u.GID) {
		return nil
	}
	if there {
		return check.Refuse(bundle.RefusedBundle, "group %s has gid %d on the host, and the repo says %d: write gid: %d, or change it by hand (groupmod -g, and chgrp of the group's files)", u.Group, gid, u.GID, gid)
	}

	name, taken, err := c.m.Accounts.GroupOf(int(u.GID))
	if err != nil {
		return fmt.Errorf("look up gid %d: %w", u.GID, err)
	}
	if taken {
		return check.Refuse(bundle.RefusedBundle, "gid %d of group %s is that of group %s on the host: choose another one", u.GID, u.Group, name)
	}

	return nil
}
