package fleet

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	"bellhop/internal/fleet/problem"
	"bellhop/internal/fleet/yaml"
)

// A fixed uid or gid is the same number on every host, as NFS needs it.

// Numbers that no service can have.
const (
	nobodyID     = 65534
	noID16       = 65535      // -1 in the 16 bits of old file systems
	noID32       = 1<<32 - 1  // -1
	firstDynamic = 61184      // DynamicUser= of systemd takes from here
	lastDynamic  = 65519      // to here
	firstNspawn  = 524288     // containers of systemd-nspawn from here
	lastNspawn   = 1879048191 // to here
)

// id reads uid: or gid:; 0 when it is left out or wrong.
func (s *service) id(what string, v yaml.String) uint32 {
	if v.At.Line == 0 {
		return 0
	}

	n, err := strconv.ParseUint(v.S, 10, 32)
	if err != nil || strconv.FormatUint(n, 10) != v.S {
		s.tell(v.At, "%s %q: want a number without leading zeros", what, v.S)
		return 0
	}
	if why := closedID(n); why != "" {
		s.tell(v.At, "%s %d: %s", what, n, why)
		return 0
	}
	return uint32(n)
}

// closedID says whose a number is that no service can have.
func closedID(n uint64) string {
	switch {
	case n == 0:
		return "0 is root's"
	case n == nobodyID:
		return "65534 is nobody's"
	case n == noID16, n == noID32:
		return "this number means none"
	case n >= firstDynamic && n <= lastDynamic:
		return fmt.Sprintf("systemd gives %d to %d to DynamicUser=", firstDynamic, lastDynamic)
	case n >= firstNspawn && n <= lastNspawn:
		return fmt.Sprintf("systemd gives %d to %d to containers", firstNspawn, lastNspawn)
	}
	return ""
}

// numbers holds the fixed numbers of all services against each other: one number is one name, and a
// group has one number wherever it is fixed.
func numbers(services map[string]*serviceState) (ps problem.Problems) {
	users, groups, gids := map[uint32]*service{}, map[uint32]*service{}, map[string]*service{}
	for _, name := range slices.Sorted(maps.Keys(services)) {
		s := services[name].service
		if s.user == nil {
			continue
		}
		tell := func(at problem.Pos, format string, args ...any) {
			ps = append(ps, problem.At(s.text.Name, s.text.Data, at, format, args...))
		}

		u := s.user
		if was := users[u.UID]; u.UID != 0 && was != nil && was.user.Name != u.Name {
			tell(s.def.User.UID.At, "uid %d is that of user %s of service %s, and here of user %s: one of them needs another", u.UID, was.user.Name, was.name, u.Name)
		}
		if was := groups[u.GID]; u.GID != 0 && was != nil && was.user.Group != u.Group {
			tell(s.def.User.GID.At, "gid %d is that of group %s of service %s, and here of group %s: one of them needs another", u.GID, was.user.Group, was.name, u.Group)
		}
		if was := gids[u.Group]; was != nil && was.user.GID != u.GID {
			tell(s.def.User.Name.At, "services %s and %s both have the group %s, with gid %s and gid %s: write one gid at both", was.name, s.name, u.Group, idText(was.user.GID), idText(u.GID))
		}
		users[u.UID], groups[u.GID], gids[u.Group] = s, s, s
	}
	return ps
}

func idText(n uint32) string {
	if n == 0 {
		return "none"
	}
	return strconv.FormatUint(uint64(n), 10)
}
