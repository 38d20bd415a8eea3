package systemd

// Jobs of the service manager. A job is done at once; what is modelled is what bellhop's rules
// rest on, each as it was seen on real hosts:
//
//  1. A start pulls in Requires= and Wants= of every unit it pulls in, active or not, and
//     keeps the order of After= and Before=.
//  2. A unit whose required unit failed, ordered before it, does not run: "dependency". A
//     skipped one (a Condition) satisfies; a failed Assert is "assert" and no failure.
//  3. A stop takes down what requires the unit, first; a restart brings it back after.
//  4. Type=simple is "done" though its program dies; oneshot and notify are "failed".
//  5. A socket is refused while its service runs.

//lint:file-ignore ST1005 errors are in systemd's own words

import (
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/host/machine"
)

// A unit is a unit's state since boot.
type unit struct {
	def        *Def // as read when it came up; nil while inactive
	active     string
	sub        string
	result     string
	exit       machine.Exit // of what result speaks of
	invocation string
	restarts   int
	ran        bool
	skipped    bool      // by a condition, when it was started last
	barred     bool      // by an assertion, the same
	failed     time.Time // when it failed last
	pid        int
	born       time.Time     // when its life began
	life       time.Duration // how long that takes; 0: it does not end by itself
}

var atRest = unit{active: "inactive", sub: "dead", result: "success"}

// unit gives a unit's state, never nil; own keeps it.
func (m *Systemd) unit(name string) *unit {
	if u := m.units[m.Canonical(name)]; u != nil {
		return u
	}
	u := atRest
	return &u
}

func (m *Systemd) own(name string) *unit {
	if m.units[name] == nil {
		u := atRest
		m.units[name] = &u
	}
	return m.units[name]
}

func (u *unit) up() bool {
	return u.active == "active" || u.active == "activating" || u.active == "reloading"
}

func errNoUnitFile(name string) error { return fmt.Errorf("unit file %s does not exist", name) }
func errMasked(name string) error     { return fmt.Errorf("unit %s is masked", name) }

// refusal is why a unit can't be started at all.
func refusal(d *Def) error {
	switch d.Load {
	case "not-found":
		return fmt.Errorf("unit %s not found", d.name)
	case "masked":
		return errMasked(d.name)
	case "bad-setting":
		return fmt.Errorf("unit %s has a bad unit file setting", d.name)
	}
	return nil
}

// A jobSet is one transaction: what is stopped and what is started.
type jobSet struct {
	m      *Systemd
	starts []string
	stops  []string
	bounce map[string]bool // stopped and started: a restart
}

func (j *jobSet) start(name string) error {
	name = j.m.Canonical(name)
	if slices.Contains(j.starts, name) {
		return nil
	}

	d := j.m.Def(name)
	if err := refusal(d); err != nil {
		return err
	}

	j.starts = append(j.starts, name)
	for _, r := range append(d.List("Unit.Requires"), d.List("Unit.BindsTo")...) {
		if err := j.start(r); err != nil {
			return err
		}
	}

	for _, w := range d.List("Unit.Wants") {
		n := len(j.starts)
		if err := j.start(w); err != nil {
			j.starts = j.starts[:n]
		}
	}

	if mount := d.List("Unit.RequiresMountsFor"); slices.Contains(mount, bundle.KeyDir) && j.m.Def(bundle.KeyMountUnit).Load == "loaded" {
		if err := j.start(bundle.KeyMountUnit); err != nil {
			return err
		}
	}

	for _, c := range d.List("Unit.Conflicts") {
		if j.m.unit(c).up() {
			j.stop(c, false)
		}
	}

	return nil
}

// stop takes name down, and first all that require it. With again they come back.
func (j *jobSet) stop(name string, again bool) {
	name = j.m.Canonical(name)
	if slices.Contains(j.stops, name) {
		return
	}
	j.stops = append(j.stops, name)
	if again {
		j.bounce[name] = true
	}
	for _, other := range j.m.Loaded() {
		d := j.m.Def(other)
		needs := append(append(d.List("Unit.Requires"), d.List("Unit.BindsTo")...), d.List("Unit.PartOf")...)
		if !j.m.unit(other).up() || !slices.Contains(needs, name) {
			continue
		}
		j.stop(other, again)
		if again && !slices.Contains(j.starts, other) {
			j.starts = append(j.starts, other)
		}
	}
}

// Loaded are the units that have a state, sorted.
func (m *Systemd) Loaded() []string {
	var names []string
	for n := range m.units {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}

// Transact does one verb to all names, as one transaction. Errors are by name.
func (m *Systemd) Transact(verb string, names []string) map[string]error {
	errs := map[string]error{}
	j := &jobSet{m: m, bounce: map[string]bool{}}
	for _, n := range names {
		if err := j.add(verb, n); err != nil {
			errs[n] = fmt.Errorf("%s %s: %w", verb, n, err)
		}
	}

	results := j.run()
	for _, n := range names {
		if r := results[m.Canonical(n)]; errs[n] == nil && r != "" && r != "done" {
			errs[n] = fmt.Errorf("%s %s: job ended as %q", verb, n, r)
		}
	}

	return errs
}

func (j *jobSet) add(verb, name string) error {
	m := j.m
	up := m.unit(name).up()
	switch verb {
	case "start":
		return j.attempt(name)
	case "start-alone":
		if err := refusal(m.Def(name)); err != nil {
			return err
		}
		if !up {
			j.starts = append(j.starts, m.Canonical(name))
		}
	case "stop":
		if d := m.Def(name); d.Load == "not-found" && !up {
			return fmt.Errorf("unit %s not loaded", name)
		}
		j.stop(name, false)
	case "restart", "try-restart":
		if verb == "try-restart" && !up {
			return nil
		}
		if err := j.attempt(name); err != nil {
			return err
		}
		j.stop(name, up)
	case "reload":
		return m.reloadUnit(name)
	default:
		return fmt.Errorf("the twin knows no verb %q", verb)
	}

	return nil
}

// attempt leaves nothing of a start that can't be.
func (j *jobSet) attempt(name string) error {
	n := len(j.starts)
	err := j.start(name)
	if err != nil {
		j.starts = j.starts[:n]
	}
	return err
}

func (m *Systemd) reloadUnit(name string) error {
	d, u := m.Def(name), m.unit(name)
	switch {
	case refusal(d) != nil:
		return refusal(d)
	case !canReload(d):
		return fmt.Errorf("Job type reload is not applicable for unit %s.", name)
	case u.active != "active":
		return fmt.Errorf("unit %s cannot be reloaded because it is inactive", name)
	}

	m.happen("reload", d.name)
	return nil
}

func canReload(d *Def) bool {
	return len(d.values["Service.ExecReload"]) > 0 || d.kind() == "notify-reload"
}

func (m *Systemd) happen(verb, name string) {
	if m.tell != nil {
		m.tell(verb, name)
		return
	}
	m.Log = append(m.Log, Event{verb, name})
}

// run does the jobs: stops against the order, then starts in order.
func (j *jobSet) run() map[string]string {
	results := map[string]string{}
	down := j.m.order(j.stops)
	slices.Reverse(down)
	wasUp := map[string]bool{}
	for _, n := range down {
		wasUp[n] = j.m.unit(n).up()
		j.m.halt(n, !j.bounce[n])
	}

	for _, n := range j.m.order(j.starts) {
		verb := "start"
		if j.bounce[n] && wasUp[n] {
			verb = "restart"
		}
		results[n] = j.m.launch(n, verb, results)
	}

	return results
}

// order sorts names so that what is After= another follows it. A cycle is cut.
func (m *Systemd) order(names []string) (sorted []string) {
	done := map[string]bool{}
	defs := map[string]*Def{} // read once: a host may start hundreds of key units at once
	for _, n := range names {
		defs[n] = m.Def(n)
	}

	var visit func(string)
	visit = func(n string) {
		if done[n] {
			return
		}
		done[n] = true
		for _, other := range names {
			if other != n && m.after(n, other, defs[n], defs[other]) {
				visit(other)
			}
		}

		sorted = append(sorted, n)
	}
	for _, n := range names {
		visit(n)
	}

	return sorted
}

// after says whether a is ordered behind b. A service waits for its socket without saying so.
func (m *Systemd) after(a, b string, da, db *Def) bool {
	if slices.Contains(da.List("Unit.After"), b) || slices.Contains(db.List("Unit.Before"), a) {
		return true
	}
	if b == bundle.KeyMountUnit && slices.Contains(da.List("Unit.RequiresMountsFor"), bundle.KeyDir) {
		return true
	}
	if strings.HasSuffix(a, ".target") && slices.Contains(append(da.List("Unit.Wants"), da.List("Unit.Requires")...), b) {
		return !slices.Contains(db.List("Unit.After"), a) // targets come after what they pull in
	}
	return isActivator(b) && m.Triggers(b) == a
}
