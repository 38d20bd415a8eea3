// Package systemd imitates the service manager of a host, as far as bellhop's rules rest on it.
//
// It reads real unit files below a folder that stands for the host's root, keeps what enablement is in
// links there, and does jobs at once. What a unit runs is the caller's to imitate: Exec. A Def is what
// a unit's files say; a job is one of the verbs start, stop, restart, try-restart and reload.
//
// Whatever is modelled was seen on real hosts; the conformance suite (lab/conformance) runs on both.
package systemd

//lint:file-ignore ST1005 errors are in systemd's own words

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/host/machine"
)

// A Systemd is the service manager of one host. It is not for concurrent use: its owner has a lock.
type Systemd struct {
	Root    string                          // the folder that stands for the host's root
	Exec    func(name string, d *Def) error // what a unit's ExecStart does; an Exited says how it ended
	Unmount func()                          // what the stop of the mount of keys does

	Mortal   map[string]time.Duration // units that die so long after each start
	Flapping map[string]bool          // units that die again and again after their start
	Booting  bool                     // jobs wait: what starts after sysinit is queued
	Log      []Event                  // what happened to units
	Jobs     []string                 // "restart x.service", as asked for
	Reloads  int                      // daemon-reloads that were asked for

	units  map[string]*unit
	queued []string // while booting
	pid    int
	listed map[string][]fs.DirEntry // folders of units, while many units are asked for

	users    map[string]*Systemd     // of users, by name
	quadlets string                  // the folder of quadlets, on this computer
	tell     func(verb, name string) // of a user's: hears what happens instead of Log
}

// An Event is something that really happened to a unit: start, stop, restart, reload, fail.
type Event struct {
	Verb, Unit string
}

// New is a service manager that nothing runs on yet.
func New(root string, exec func(name string, d *Def) error, unmount func()) *Systemd {
	return &Systemd{Root: root, quadlets: filepath.Join(root, bundle.QuadletDir), Exec: exec, Unmount: unmount, Flapping: map[string]bool{}, Mortal: map[string]time.Duration{}, units: map[string]*unit{}, pid: 100}
}

// Path is where a path of the host lies on this computer.
func (m *Systemd) Path(p string) string { return filepath.Join(m.Root, p) }

// PowerOff forgets all that runs, as pulling the plug does.
func (m *Systemd) PowerOff() { m.units, m.users, m.queued = map[string]*unit{}, nil, nil }

// StartQueued starts what was queued while the host booted.
func (m *Systemd) StartQueued() {
	for _, name := range m.queued {
		m.Transact("start", []string{name})
	}
}

// Units tells of units as a host's systemd does.
func (m *Systemd) Units(names []string) map[string]machine.UnitState {
	m.mourn()
	m.listed = map[string][]fs.DirEntry{}
	defer func() { m.listed = nil }()

	states := make(map[string]machine.UnitState, len(names))
	for _, n := range names {
		states[n] = m.State(n)
	}
	return states
}

// Enable enables units, with what their Also= names.
func (m *Systemd) Enable(names []string) error {
	for _, n := range names {
		if err := m.enable(n, map[string]bool{}); err != nil {
			return fmt.Errorf("enable %s: %w", n, err)
		}
	}
	return nil
}

// Disable takes Enable back.
func (m *Systemd) Disable(names []string) error {
	for _, n := range names {
		if err := m.disable(n, map[string]bool{}); err != nil {
			return fmt.Errorf("disable %s: %w", n, err)
		}
	}
	return nil
}

// Do does a job and waits for it. Nothing can be waited for while the host boots.
func (m *Systemd) Do(verb string, names []string) map[string]error {
	for _, n := range names {
		m.Jobs = append(m.Jobs, verb+" "+n)
	}

	if !m.Booting {
		return m.Transact(verb, names)
	}

	errs := map[string]error{}
	for _, n := range names {
		errs[n] = fmt.Errorf("%s %s: boot waits for the one who waits: queue it", verb, n)
	}

	return errs
}

// Queue asks for a job, and does not wait for it.
func (m *Systemd) Queue(verb, name string) error {
	m.Jobs = append(m.Jobs, verb+" "+name)
	if !m.Booting || verb == "stop" {
		m.Transact(verb, []string{name})
		return nil
	}

	if err := refusal(m.Def(name)); err != nil {
		return fmt.Errorf("%s %s: %w", verb, name, err)
	}
	m.queued = append(m.queued, name)
	return nil
}

// ResetFailed forgets that units failed.
func (m *Systemd) ResetFailed(names []string) {
	for _, n := range names {
		u := m.units[m.Canonical(n)]
		if u != nil && u.active == "failed" {
			u.active, u.sub, u.result, u.def, u.restarts = "inactive", "dead", "success", nil, 0
		}
	}
}

// Mend takes a unit out of Flapping and Mortal.
func (m *Systemd) Mend(name string) {
	delete(m.Flapping, name)
	delete(m.Mortal, name)
}

// shortLife is the one line of a unit file that the twin knows to end by itself.
var shortLife = regexp.MustCompile(`^/bin/sh -c 'sleep (\d*\.?\d+); exit 1'$`)

// lifeOf is how long each life of a unit takes; 0: it does not end by itself.
func (m *Systemd) lifeOf(name string, d *Def) time.Duration {
	if life := m.Mortal[name]; life > 0 {
		return life
	}
	if line := shortLife.FindStringSubmatch(d.Last("Service.ExecStart")); line != nil {
		seconds, _ := strconv.ParseFloat(line[1], 64)
		return time.Duration(seconds * float64(time.Second))
	}
	return 0
}

// mourn finds the units that have died by themselves since somebody looked: nothing of them runs.
func (m *Systemd) mourn() {
	for name, u := range m.units {
		if u.life == 0 || u.active != "active" || time.Since(u.born) < u.life {
			continue
		}
		m.Crash(name)
		u.born = time.Now()
	}
}

// IsUp says that a unit is active, or about to be.
func (m *Systemd) IsUp(name string) bool { return m.unit(name).up() }

// IsActive says that a unit is active.
func (m *Systemd) IsActive(name string) bool { return m.unit(name).active == "active" }

// RunAs lists the programs of services whose unit file names user.
func (m *Systemd) RunAs(user string) (all []machine.Process) {
	for name, u := range m.units {
		runs := u.def != nil && u.pid > 0 && u.up()
		if runs && u.def.service() && u.def.Last("Service.User") == user {
			program, _, _ := strings.Cut(u.def.Last("Service.ExecStart"), " ")
			all = append(all, machine.Process{PID: u.pid, Name: path.Base(program), Unit: name})
		}
	}
	return all
}

// An Exited is the error of a program that ended otherwise than by status 1.
type Exited machine.Exit

// Error says how it ended.
func (e Exited) Error() string { return machine.Exit(e).String() }

func exitOf(err error) machine.Exit {
	var e Exited
	if errors.As(err, &e) {
		return machine.Exit(e)
	}
	return machine.Exit{Status: 1}
}

// isPlainOneshot says that the service runs once and is inactive then.
func (d *Def) isPlainOneshot() bool {
	isOneshot := d.service() && d.kind() == "oneshot"
	return isOneshot && d.Load == "loaded" && !d.remains()
}

// State is a unit as Units tells it.
func (m *Systemd) State(name string) machine.UnitState {
	if strings.Contains(name, "/") {
		return m.stateOfUsers(name)
	}

	id := m.Canonical(name)
	d, u := m.Def(id), m.unit(id)
	if m.Flapping[id] && u.active == "active" {
		u.restarts++
		u.invocation = fmt.Sprintf("%x", random())
	}

	st := machine.UnitState{
		Name: name, Load: d.Load, Active: u.active, Sub: u.sub, Result: u.result, Exit: u.exit,
		File: m.FileState(name), Fragment: d.fragment, Invocation: u.invocation, Restarts: u.restarts,
		RanThisBoot: u.ran, Skipped: u.skipped, Barred: u.barred, Oneshot: d.isPlainOneshot(),
		CanReload: canReload(d), TriggeredBy: m.triggeredBy(id), MainPID: u.pid,
	}
	if u.active == "failed" {
		st.Since = u.failed.Unix()
	}
	if st.Oneshot {
		m.relate(id, &st)
	}

	return st
}

// relate finds what starts a unit, and what waits for it.
func (m *Systemd) relate(id string, st *machine.UnitState) {
	st.Before = m.Def(id).List("Unit.Before")
	files, _ := os.ReadDir(m.Path(bundle.UnitDir))
	for _, f := range files {
		name := f.Name()
		if f.IsDir() {
			continue
		}
		d := m.Def(name)
		if slices.Contains(d.List("Unit.After"), id) {
			st.Before = append(st.Before, name)
		}
		for _, key := range []string{"Unit.Requires", "Unit.Wants", "Unit.BindsTo", "Unit.Requisite"} {
			if slices.Contains(d.List(key), id) {
				st.NeededBy = append(st.NeededBy, name)
			}
		}
	}
}

func random() []byte {
	b := make([]byte, 16)
	rand.Read(b)
	return b
}
