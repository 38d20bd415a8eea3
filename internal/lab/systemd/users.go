package systemd

import (
	"os"
	"path/filepath"
	"strings"

	"bellhop/internal/bundle"
	"bellhop/internal/host/machine"
)

// The systemds of users: each is one more of the same, whose root is a folder of its own, and which makes its
// units of the quadlets in the user's home. What happens to its units is told by the host's, as USER/NAME.

// userTarget is what the systemd of a user starts.
const userTarget = "default.target"

// OfUser is the systemd of a user who has that home, "" for nobody; nil where it does not run and start
// does not say that it shall.
func (m *Systemd) OfUser(user, home string, start bool) *Systemd {
	mayStart := start && home != ""
	if of := m.users[user]; of != nil || !mayStart {
		return of
	}

	exec := func(name string, d *Def) error { return m.Exec(bundle.UserUnit(user, name), d) }
	of := New(filepath.Join(m.Root, "run/user", user), exec, func() {})
	of.quadlets = m.Path(bundle.UserQuadletDir(home))
	of.tell = func(verb, name string) { m.happen(verb, bundle.UserUnit(user, name)) }
	if m.users == nil {
		m.users = map[string]*Systemd{}
	}
	m.users[user] = of

	of.Generate()
	of.Transact("start", []string{"basic.target"})
	of.Transact("start", []string{userTarget})
	return of
}

// EndUser stops the systemd of a user who does not linger, with all that runs in it.
func (m *Systemd) EndUser(user string) {
	if _, err := os.Lstat(m.Path(bundle.LingerDir + "/" + user)); err != nil && m.users[user] != nil {
		of := m.users[user]
		of.Transact("stop", of.Loaded())
		delete(m.users, user)
	}
}

// StartUsers starts the systemds of those who linger, as a boot does; home is that of a user.
func (m *Systemd) StartUsers(home func(user string) string) {
	all, _ := os.ReadDir(m.Path(bundle.LingerDir))
	for _, e := range all {
		m.OfUser(e.Name(), home(e.Name()), true)
	}
}

// stateOfUsers is State of a unit that is called USER/NAME.
func (m *Systemd) stateOfUsers(name string) machine.UnitState {
	user, unit, _ := strings.Cut(name, "/")
	of := m.users[user]
	if of == nil {
		return machine.UnitState{Name: name, Load: "not-found", Active: "inactive", Sub: "dead", Result: "success"}
	}

	st := of.State(unit)
	st.Name = name
	return st
}
