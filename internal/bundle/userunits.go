package bundle

import (
	"slices"
	"strings"

	"bellhop/internal/nameshape"
)

// A unit of a user's own systemd is called USER/NAME, as in "app/web.service". Units of the host's systemd
// have no slash in their names.

// LingerDir is where systemd-logind finds the users whose own systemd runs without a login: a file for each.
const LingerDir = "/var/lib/systemd/linger"

// userQuadlets is where podman's generator looks for the quadlets of a user, below the home.
const userQuadlets = "/.config/containers/systemd"

var (
	// AccountName is the shape of the name of a user or group that a host takes.
	AccountName = nameshape.New("A-Za-z_", "A-Za-z0-9_-", 31)
	unitName    = nameshape.Of(`A-Za-z0-9:_.\@-`, 255)
)

// UserQuadletDir is where the quadlets of a user are who has that home.
func UserQuadletDir(home string) string { return home + userQuadlets }

// UserUnit names a unit of a user's own systemd; of nobody's, "", one of the host's.
func UserUnit(user, unit string) string {
	if user == "" {
		return unit
	}
	return user + "/" + unit
}

// SplitUnit divides the name of a unit into whose systemd has it and what it is called there. user is ""
// for the host's.
func SplitUnit(name string) (user, unit string) {
	if user, unit, is := strings.Cut(name, "/"); is {
		return user, unit
	}
	return "", name
}

// IsUnitName says whether name could be that of a unit, of the host's systemd or of a user's.
func IsUnitName(name string) bool {
	user, unit := SplitUnit(name)
	isWhose := !strings.Contains(name, "/") || AccountName.MatchString(user)
	return isWhose && unitName.MatchString(unit)
}

// SplitQuadlet divides the path of a quadlet or of a drop-in of one into the folder that podman's generator
// reads, and the name below it. is tells whether it is one at all.
func SplitQuadlet(path string) (dir, name string, is bool) {
	if name, is := strings.CutPrefix(path, QuadletDir+"/"); is {
		return QuadletDir, name, true
	}
	if home, name, is := strings.Cut(path, userQuadlets+"/"); is {
		return home + userQuadlets, name, true
	}
	return "", "", false
}

// UnitUsers are the users whose own systemd has units of m, sorted.
func (m *Manifest) UnitUsers() (users []string) {
	for _, u := range m.Units {
		if user, _ := SplitUnit(u.Name); user != "" && !slices.Contains(users, user) {
			users = append(users, user)
		}
	}
	slices.Sort(users)
	return users
}
