package service

import (
	"fmt"
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
func (s *reader) id(what string, v yaml.String) uint32 {
	if v.At.Line == 0 {
		return 0
	}

	n, err := strconv.ParseUint(v.S, 10, 32)
	if err != nil || strconv.FormatUint(n, 10) != v.S {
		s.report(v.At, "%s %q: want a number without leading zeros", what, v.S)
		return 0
	}

	if why := closedID(n); why != "" {
		s.report(v.At, "%s %d: %s", what, n, why)
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

// CheckIDs holds the fixed numbers of all services, by name, against each other: one number is one name, and a
// group has one number wherever it is fixed.
func CheckIDs(services []*Service) (ps problem.Problems) {
	users, groups, gids := map[uint32]*Service{}, map[uint32]*Service{}, map[string]*Service{}
	for _, s := range services {
		if s.User == nil {
			continue
		}
		report := func(at problem.Pos, format string, args ...any) {
			ps = append(ps, problem.At(s.Source.Name, s.Source.Data, at, format, args...))
		}

		u := s.User
		if was := users[u.UID]; u.UID != 0 && was != nil && was.User.Name != u.Name {
			report(s.Def.User.UID.At, "uid %d is that of user %s of service %s, and here of user %s: one of them needs another", u.UID, was.User.Name, was.Name, u.Name)
		}
		if was := groups[u.GID]; u.GID != 0 && was != nil && was.User.Group != u.Group {
			report(s.Def.User.GID.At, "gid %d is that of group %s of service %s, and here of group %s: one of them needs another", u.GID, was.User.Group, was.Name, u.Group)
		}
		if was := gids[u.Group]; was != nil && was.User.GID != u.GID {
			report(s.Def.User.Name.At, "services %s and %s both have the group %s, with gid %s and gid %s: write one gid at both", was.Name, s.Name, u.Group, IDText(was.User.GID), IDText(u.GID))
		}
		users[u.UID], groups[u.GID], gids[u.Group] = s, s, s
	}

	return ps
}

func IDText(n uint32) string {
	if n == 0 {
		return "none"
	}
	return strconv.FormatUint(uint64(n), 10)
}
