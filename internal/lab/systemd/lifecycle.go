package systemd

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/host/machine"
)

//lint:file-ignore ST1005 errors are in systemd's own words

// What becomes of one unit: it comes up, dies, is stopped.

func (m *Systemd) halt(name string, tell bool) {
	u := m.units[name]
	if u == nil {
		return
	}

	wasUp := u.up()
	if wasUp { // a failed unit stays failed when it is stopped
		u.active, u.sub, u.result, u.pid = "inactive", "dead", "success", 0
	}
	if u.active == "inactive" && tell {
		u.def = nil // it is read anew when it comes up; a restart keeps what was read
	}
	if wasUp && tell {
		m.happen("stop", name)
	}
	if name == bundle.KeyMountUnit && wasUp {
		m.Unmount()
	}
}

// launch brings one unit up and returns its job's result.
func (m *Systemd) launch(name, verb string, results map[string]string) string {
	u := m.own(name)
	if u.up() {
		return "done"
	}
	result := m.bringUp(name, verb, u, results)
	if u.active == "inactive" {
		u.def = nil
	}
	return result
}

func (m *Systemd) bringUp(name, verb string, u *unit, results map[string]string) string {
	d := m.Def(name)
	for _, r := range append(d.List("Unit.Requires"), d.List("Unit.BindsTo")...) {
		r = m.Canonical(r)
		if res := results[r]; res != "" && res != "done" && m.after(name, r, d, m.Def(r)) {
			return "dependency"
		}
	}

	if u.skipped = !m.ConditionsHold(d); u.skipped {
		return "done"
	}
	if u.barred = !m.assertsHold(d); u.barred {
		return "assert"
	}

	if ext := filepath.Ext(name); ext == ".socket" && m.unit(m.Triggers(name)).up() {
		m.happen("fail", name)
		return "failed"
	}

	if u.def == nil {
		u.def = m.parse(name)
	}

	u.ran, u.restarts, u.invocation = true, 0, fmt.Sprintf("%x", random())
	m.pid++
	u.pid = m.pid
	u.exit = machine.Exit{}
	u.born, u.life = time.Now(), m.lifeOf(name, u.def)
	if err := m.Exec(name, u.def); err != nil {
		u.exit = exitOf(err)
		return m.died(name, u)
	}

	m.happen(verb, name)
	u.active, u.sub, u.result = "active", "running", "success"
	switch {
	case !d.service():
		u.sub, u.pid = map[string]string{".socket": "listening", ".timer": "waiting", ".path": "waiting", ".mount": "mounted"}[filepath.Ext(name)], 0
		if u.sub == "" {
			u.sub = "active"
		}
	case d.kind() == "oneshot" && d.remains():
		u.sub, u.pid = "exited", 0
	case d.kind() == "oneshot":
		u.active, u.sub, u.pid = "inactive", "dead", 0
	}

	return "done"
}

// died is a unit whose program did not stay: where systemd waits for it, the job failed.
func (m *Systemd) died(name string, u *unit) string {
	m.happen("fail", name)
	u.active, u.sub, u.result, u.pid, u.failed = "failed", "failed", "exit-code", 0, time.Now()
	if u.def.restarts() {
		if wait, err := time.ParseDuration(sec(u.def.Last("Service.RestartSec"))); err == nil && wait > 2*time.Second {
			u.active, u.sub = "activating", "auto-restart"
		} else {
			u.restarts = 5
		}
	}
	if diesUnseen(u) {
		return "done"
	}
	return "failed"
}

func sec(v string) string {
	if _, err := strconv.Atoi(v); err == nil {
		return v + "s"
	}
	return v
}

// diesUnseen says that the job which started the unit was done before its program died.
func diesUnseen(u *unit) bool {
	startsAtOnce := slices.Contains([]string{"simple", "exec", "idle"}, u.def.kind())
	return startsAtOnce && u.def.service() && u.exit.Line == ""
}

// Crash is a running unit's program dying by itself.
func (m *Systemd) Crash(name string) {
	u := m.unit(name)
	if u.active != "active" {
		return
	}
	if u.def.restarts() {
		u.restarts++
		m.pid++
		u.pid, u.invocation = m.pid, fmt.Sprintf("%x", random())
		return
	}

	u.active, u.sub, u.result, u.pid, u.exit = "failed", "failed", "exit-code", 0, machine.Exit{Status: 1}
	u.failed = time.Now()
	m.happen("fail", name)
}

// Reload reads all unit files again; what runs goes on.
func (m *Systemd) Reload() {
	m.Generate()
	for name, u := range m.units {
		if u.def == nil {
			continue
		}
		u.def = m.parse(name)
	}
}

// StartTargets is boot.
func (m *Systemd) StartTargets() { m.Transact("start", []string{"multi-user.target"}) }
