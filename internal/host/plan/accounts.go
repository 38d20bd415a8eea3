package plan

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"bellhop/internal/bundle"
	"bellhop/internal/host/check"
	"bellhop/internal/host/machine"
)

// planAccounts finds who is to be made and who is to be changed, and refuses what can't be:
// a user that was there before bellhop is never changed, and an owner must exist or be made
// by this bundle.
func (w *Plan) planAccounts() error {
	b := &w.Offer.Manifest
	users, groups := map[string]bool{}, map[string]bool{bundle.KeyGroup: true}
	if !w.Old.Exists && w.Offer.Last != nil {
		w.adoptUsers()
	}

	for _, u := range b.Users {
		users[u.Name], groups[u.Group] = true, true
		if w.Holds(u.Service) {
			continue
		}
		if err := w.planUser(u); err != nil {
			return err
		}
		if err := w.userCheck().checkHome(u); err != nil {
			if err := w.refuse(u.Service, err); err != nil {
				return err
			}
		}
	}

	if err := checkGroups(w, groups); err != nil {
		return err
	}

	for g := range groups {
		if g == bundle.KeyGroup { // whoever places keys makes it; and most hosts without keys would ask getent for it
			continue
		}

		_, ok, err := w.m.Accounts.Group(g)
		if err != nil {
			return err
		}

		w.Create = w.Create || !ok
	}

	known := maps.Clone(users)
	for _, f := range b.Files {
		if err := w.refuseFor(f.Service, w.checkOwner("file "+f.Path, f.User, f.Group, known, groups)); err != nil {
			return err
		}
	}

	for _, k := range b.Keys {
		err := w.checkOwner("key "+k.Name, k.User, k.Group, known, groups)
		if b.System != nil && w.lateOwner == nil {
			w.lateOwner = err
		}
		if b.System != nil {
			continue
		}
		if err := w.refuseFor(k.Service, err); err != nil {
			return err
		}
	}

	w.planKept(users)
	return nil
}

// ownSysusers says that the bundle brings a sysusers.d file of its own, which may make anybody.
func (w *Plan) ownSysusers() bool {
	return slices.ContainsFunc(w.Offer.Manifest.Files, func(f bundle.File) bool {
		return strings.Contains(f.Path, "/sysusers.d/") && !strings.Contains(f.Path, "/sysusers.d/bellhop-")
	})
}

func (w *Plan) planUser(u bundle.User) error {
	if err := w.userCheck().checkIDs(u); err != nil {
		return w.refuseFor(u.Service, err)
	}

	a, ok, err := w.m.Accounts.User(u.Name)
	if err != nil {
		return fmt.Errorf("look up user %s: %w", u.Name, err)
	}

	switch {
	case !ok:
		w.Create = true
		w.Making = append(w.Making, u.Name)
	case a.Group == u.Group && a.Home == u.Home:
	case w.made[u.Name]:
		w.Accounts = append(w.Accounts, a)
		if a.Home != u.Home {
			if err := w.userCheck().checkMove(u.Name, a.Home, u.Home); err != nil {
				return w.refuse(u.Service, err)
			}
		}
		if a.Home != u.Home && a.Home != "/" {
			w.Kept = append(w.Kept, "home "+a.Home)
		}
		if a.Group != u.Group {
			w.Kept = append(w.Kept, "group "+a.Group)
		}
		a.Group, a.Home = u.Group, u.Home
		w.Usermods = append(w.Usermods, a)
	default:
		return w.refuse(u.Service, fmt.Errorf("user %[1]s was on the host before bellhop, with group %[2]s and home %[3]s, and bellhop changes no such user: leave user: out of service.yaml "+
			"and write User=%[1]s into the unit, and user: %[1]s at its keys and files; or write user: { name: %[1]s, group: %[2]s, home: %[3]s } to give its home to the service",
			u.Name, a.Group, a.Home))
	}

	return nil
}

// checkGroups refuses services whose users are to be in a group that the host does not have and that nobody
// makes. made are the groups that the bundle makes.
func checkGroups(w *Plan, made map[string]bool) error {
	for _, g := range w.Offer.Manifest.Groups {
		_, ok, err := w.m.Accounts.Group(g)
		missing := err == nil && !ok
		if !missing || made[g] || w.ownSysusers() {
			continue
		}

		why := fmt.Errorf("extra_groups: the host has no group %s, and no user of the bundle makes it", g)
		services := w.Offer.Manifest.GroupClaimants(g)
		if len(services) == 0 {
			services = []string{""}
		}
		for _, s := range services {
			if err := w.refuse(s, why); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkBusy refuses to move the home of a user as whom something runs that this run does not stop:
// usermod would refuse it later, when other things have changed.
func (w *Plan) checkBusy(context.Context) error {
	for i, a := range w.Usermods {
		if a.Home == w.Accounts[i].Home {
			continue
		}

		running, err := w.m.Accounts.Busy(a.Name)
		if err != nil {
			return fmt.Errorf("look for processes of user %s: %w", a.Name, err)
		}

		running = slices.DeleteFunc(running, func(p machine.Process) bool {
			return slices.Contains(w.Units.Quiet, p.Unit) || slices.Contains(w.Units.Stop, p.Unit)
		})
		if len(running) == 0 {
			continue
		}

		var names []string
		for _, p := range running[:min(len(running), 5)] {
			names = append(names, p.String())
		}

		if more := len(running) - len(names); more > 0 {
			names = append(names, fmt.Sprintf("%d more", more))
		}

		service := ""
		for _, u := range w.Offer.Manifest.Users {
			if u.Name == a.Name {
				service = u.Service
			}
		}
		why := fmt.Errorf("user %s: its home can't move from %s to %s while this runs as it: %s; end that, then bellhop deploy --retry",
			a.Name, w.Accounts[i].Home, a.Home, strings.Join(names, ", "))
		if err := w.refuse(service, why); err != nil {
			return err
		}
	}
	return nil
}

// checkOwner says whether an owner is on the host or is made. It notes who was found in users
// and groups: hundreds of keys have few owners.
func (w *Plan) checkOwner(what, user, group string, users, groups map[string]bool) error {
	if !users[user] {
		if _, ok, err := w.m.Accounts.User(user); err != nil || !ok {
			return check.Refuse(bundle.RefusedBundle, "%s: the host has no user %s, and the bundle makes none", what, user)
		}
		users[user] = true
	}
	if !groups[group] {
		if _, ok, err := w.m.Accounts.Group(group); err != nil || !ok {
			return check.Refuse(bundle.RefusedBundle, "%s: the host has no group %s, and the bundle makes none", what, group)
		}
		groups[group] = true
	}
	return nil
}

// planKept names what stays though its service left: a freed uid would own somebody's files,
// and a home is data.
func (w *Plan) planKept(users map[string]bool) {
	for _, u := range w.Old.Manifest.Users {
		if users[u.Name] {
			continue
		}

		w.Kept = append(w.Kept, "user "+u.Name)
		if u.Home == "/" {
			continue
		}

		heir := slices.IndexFunc(w.Offer.Manifest.Users, func(n bundle.User) bool { return n.Home == u.Home })
		if heir < 0 {
			w.Kept = append(w.Kept, "home "+u.Home)
			continue
		}

		now := w.Offer.Manifest.Users[heir].Name
		w.Warnings = append(w.Warnings, fmt.Sprintf("home %s is now that of user %s: the files in it still belong to %s, which chown -R --from=%s %s: %s changes",
			u.Home, now, u.Name, u.Name, now, u.Home))
	}
}

// adoptUsers takes those for bellhop's that are as a deployer with a lost record remembers.
func (w *Plan) adoptUsers() {
	for _, u := range w.Offer.Last.Users {
		a, ok, err := w.m.Accounts.User(u.Name)
		if there := err == nil && ok; there && a.Group == u.Group && a.Home == u.Home {
			w.made[u.Name] = true
		}
	}
}

// SaveMade remembers the users that the run is about to make, and those it adopted.
func (w *Plan) SaveMade() error {
	known, err := w.m.MadeUsers()
	if err != nil {
		return err
	}

	for _, n := range w.Making {
		w.made[n] = true
	}

	if len(w.made) <= len(known) {
		return nil
	}

	return w.m.SaveMadeUsers(w.made)
}
