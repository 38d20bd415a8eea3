package lab

// The twin's service manager. A job is done at once; what is modelled is what bellhop's rules
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
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"bellhop/internal/bundle"
	"bellhop/internal/host"
)

// A unit is a unit's state since boot.
type unit struct {
	def        *unitDef // as read when it came up; nil while inactive
	active     string
	sub        string
	result     string
	exit       host.Exit // of what result speaks of
	invocation string
	restarts   int
	ran        bool
	skipped    bool // by a condition, when it was started last
	barred     bool // by an assertion, the same
	pid        int
}

var atRest = unit{active: "inactive", sub: "dead", result: "success"}

// unit gives a unit's state, never nil; own keeps it.
func (m *Machine) unit(name string) *unit {
	if u := m.units[m.canonical(name)]; u != nil {
		return u
	}
	u := atRest
	return &u
}

func (m *Machine) own(name string) *unit {
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
func refusal(d *unitDef) error {
	switch d.load {
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
	m      *Machine
	starts []string
	stops  []string
	bounce map[string]bool // stopped and started: a restart
}

func (j *jobSet) start(name string) error {
	name = j.m.canonical(name)
	if slices.Contains(j.starts, name) {
		return nil
	}
	d := j.m.def(name)
	if err := refusal(d); err != nil {
		return err
	}
	j.starts = append(j.starts, name)
	for _, r := range append(d.list("Unit.Requires"), d.list("Unit.BindsTo")...) {
		if err := j.start(r); err != nil {
			return err
		}
	}
	for _, w := range d.list("Unit.Wants") {
		n := len(j.starts)
		if err := j.start(w); err != nil {
			j.starts = j.starts[:n]
		}
	}
	if mount := d.list("Unit.RequiresMountsFor"); slices.Contains(mount, bundle.KeyDir) && j.m.def(bundle.KeyMountUnit).load == "loaded" {
		if err := j.start(bundle.KeyMountUnit); err != nil {
			return err
		}
	}
	for _, c := range d.list("Unit.Conflicts") {
		if j.m.unit(c).up() {
			j.stop(c, false)
		}
	}
	return nil
}

// stop takes name down, and first all that require it. With again they come back.
func (j *jobSet) stop(name string, again bool) {
	name = j.m.canonical(name)
	if slices.Contains(j.stops, name) {
		return
	}
	j.stops = append(j.stops, name)
	if again {
		j.bounce[name] = true
	}
	for _, other := range j.m.loaded() {
		d := j.m.def(other)
		needs := append(append(d.list("Unit.Requires"), d.list("Unit.BindsTo")...), d.list("Unit.PartOf")...)
		if !j.m.unit(other).up() || !slices.Contains(needs, name) {
			continue
		}
		j.stop(other, again)
		if again && !slices.Contains(j.starts, other) {
			j.starts = append(j.starts, other)
		}
	}
}

func (m *Machine) loaded() []string {
	var names []string
	for n := range m.units {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}

// transact does one verb to all names, as one transaction. Errors are by name.
func (m *Machine) transact(verb string, names []string) map[string]error {
	errs := map[string]error{}
	j := &jobSet{m: m, bounce: map[string]bool{}}
	for _, n := range names {
		if err := j.add(verb, n); err != nil {
			errs[n] = fmt.Errorf("%s %s: %w", verb, n, err)
		}
	}
	results := j.run()
	for _, n := range names {
		if r := results[m.canonical(n)]; errs[n] == nil && r != "" && r != "done" {
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
		if err := refusal(m.def(name)); err != nil {
			return err
		}
		if !up {
			j.starts = append(j.starts, m.canonical(name))
		}
	case "stop":
		if d := m.def(name); d.load == "not-found" && !up {
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

func (m *Machine) reloadUnit(name string) error {
	d, u := m.def(name), m.unit(name)
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

func canReload(d *unitDef) bool {
	return len(d.values["Service.ExecReload"]) > 0 || d.kind() == "notify-reload"
}

func (m *Machine) happen(verb, name string) { m.log = append(m.log, Event{verb, name}) }

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
func (m *Machine) order(names []string) (sorted []string) {
	done := map[string]bool{}
	defs := map[string]*unitDef{} // read once: a host may start hundreds of key units at once
	for _, n := range names {
		defs[n] = m.def(n)
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
func (m *Machine) after(a, b string, da, db *unitDef) bool {
	if slices.Contains(da.list("Unit.After"), b) || slices.Contains(db.list("Unit.Before"), a) {
		return true
	}
	if b == bundle.KeyMountUnit && slices.Contains(da.list("Unit.RequiresMountsFor"), bundle.KeyDir) {
		return true
	}
	if strings.HasSuffix(a, ".target") && slices.Contains(append(da.list("Unit.Wants"), da.list("Unit.Requires")...), b) {
		return !slices.Contains(db.list("Unit.After"), a) // targets come after what they pull in
	}
	ext := filepath.Ext(b)
	return (ext == ".socket" || ext == ".timer" || ext == ".path") && m.triggers(b) == a
}

func (m *Machine) halt(name string, tell bool) {
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
		m.mounted = false
		emptyDir(m.Path(bundle.KeyDir))
	}
}

// launch brings one unit up and returns its job's result.
func (m *Machine) launch(name, verb string, results map[string]string) string {
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

func (m *Machine) bringUp(name, verb string, u *unit, results map[string]string) string {
	d := m.def(name)
	for _, r := range append(d.list("Unit.Requires"), d.list("Unit.BindsTo")...) {
		r = m.canonical(r)
		if res := results[r]; res != "" && res != "done" && m.after(name, r, d, m.def(r)) {
			return "dependency"
		}
	}
	if u.skipped = !m.conditionsHold(d); u.skipped {
		return "done"
	}
	if u.barred = !m.assertsHold(d); u.barred {
		return "assert"
	}
	if ext := filepath.Ext(name); ext == ".socket" && m.unit(m.triggers(name)).up() {
		m.happen("fail", name)
		return "failed"
	}
	if u.def == nil {
		u.def = m.parse(name)
	}
	u.ran, u.restarts, u.invocation = true, 0, fmt.Sprintf("%x", randomBytes(16))
	m.pid++
	u.pid = m.pid
	u.exit = host.Exit{}
	if err := m.exec(name, u.def); err != nil {
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
func (m *Machine) died(name string, u *unit) string {
	m.happen("fail", name)
	u.active, u.sub, u.result, u.pid = "failed", "failed", "exit-code", 0
	if u.def.restarts() {
		if wait, err := time.ParseDuration(sec(u.def.last("Service.RestartSec"))); err == nil && wait > 2*time.Second {
			u.active, u.sub = "activating", "auto-restart"
		} else {
			u.restarts = 5
		}
	}
	if kind := u.def.kind(); u.def.service() && u.exit.Line == "" && (kind == "simple" || kind == "exec" || kind == "idle") {
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

// crash is a running unit's program dying by itself.
func (m *Machine) crash(name string) {
	u := m.unit(name)
	if u.active != "active" {
		return
	}
	if u.def.restarts() {
		u.restarts++
		m.pid++
		u.pid, u.invocation = m.pid, fmt.Sprintf("%x", randomBytes(16))
		return
	}
	u.active, u.sub, u.result, u.pid, u.exit = "failed", "failed", "exit-code", 0, host.Exit{Status: 1}
	m.happen("fail", name)
}

// An exited is a program that ended otherwise than by status 1.
type exited host.Exit

func (e exited) Error() string { return host.Exit(e).String() }

func exitOf(err error) host.Exit {
	var e exited
	if errors.As(err, &e) {
		return host.Exit(e)
	}
	return host.Exit{Status: 1}
}

// exec is what a unit's ExecStart does, as far as the twin knows.
func (m *Machine) exec(name string, d *unitDef) error {
	if m.failing[name] {
		return errors.New("told to fail")
	}
	if name == bundle.KeyMountUnit {
		return m.mountKeys()
	}
	if port := m.ports[name]; port != 0 {
		for other, p := range m.ports {
			if other != name && p == port && m.unit(other).up() {
				return fmt.Errorf("port %d is held by %s", port, other)
			}
		}
	}
	if d.last("Service.ExecStartPre") == "/bin/false" {
		return exited{Status: 1, Line: "ExecStartPre"}
	}
	start := d.last("Service.ExecStart")
	if start == "/bin/false" {
		return errors.New("exit status 1")
	}
	if strings.HasPrefix(start, "/nonexistent/") {
		return exited{Status: 203}
	}
	if strings.HasSuffix(name, "-key.service") && testFile.MatchString(start) {
		return m.execKey(start)
	}
	return nil
}

func (m *Machine) execKey(start string) error {
	if _, err := os.Lstat(m.Path(testFile.FindStringSubmatch(start)[1])); err == nil {
		return nil
	}
	seal := unsealTo.FindStringSubmatch(start)
	move := moveTo.FindStringSubmatch(start)
	if seal == nil || move == nil {
		return errors.New("the key has not come since this boot")
	}
	value, err := m.unseal(filepath.Base(seal[1]), seal[2])
	if err != nil {
		return err
	}
	mode := uint64(0o400)
	if c := chmodTo.FindStringSubmatch(start); c != nil {
		mode, _ = strconv.ParseUint(c[1], 8, 32)
	}
	tmp := m.Path(seal[3])
	if err := os.WriteFile(tmp, value, 0o600); err != nil {
		return err
	}
	if c := chownTo.FindStringSubmatch(start); c != nil {
		if id, err := identify(unix.AT_FDCWD, tmp, 0); err == nil {
			m.owners[id] = owner{c[1], c[2]}
		}
	}
	if err := os.Chmod(tmp, os.FileMode(mode)); err != nil {
		return err
	}
	return os.Rename(tmp, m.Path(move[2]))
}

// reload reads all unit files again; what runs goes on.
func (m *Machine) reload() {
	m.generate()
	for name, u := range m.units {
		if u.def == nil {
			continue
		}
		u.def = m.parse(name)
	}
}

// startTargets is boot.
func (m *Machine) startTargets() { m.transact("start", []string{"multi-user.target"}) }

// state is a unit as Units tells it.
func (m *Machine) state(name string) host.UnitState {
	id := m.canonical(name)
	if id == bundle.ApplyUnit && m.apply != nil {
		return host.UnitState{Name: name, Load: "loaded", Active: "active", Sub: "running", Result: "success", RanThisBoot: true, MainPID: 1}
	}
	d, u := m.def(id), m.unit(id)
	if m.flapping[id] && u.active == "active" {
		u.restarts++
		u.invocation = fmt.Sprintf("%x", randomBytes(16))
	}
	st := host.UnitState{
		Name: name, Load: d.load, Active: u.active, Sub: u.sub, Result: u.result, Exit: u.exit,
		File: m.fileState(name), Fragment: d.fragment, Invocation: u.invocation, Restarts: u.restarts,
		RanThisBoot: u.ran, Skipped: u.skipped, Barred: u.barred, Oneshot: d.service() && d.load == "loaded" && d.kind() == "oneshot" && !d.remains(),
		CanReload: canReload(d), TriggeredBy: m.triggeredBy(id), MainPID: u.pid,
	}
	if st.Oneshot {
		m.relate(id, &st)
	}
	return st
}

// relate finds what starts a unit, and what waits for it.
func (m *Machine) relate(id string, st *host.UnitState) {
	st.Before = m.def(id).list("Unit.Before")
	files, _ := os.ReadDir(m.Path(bundle.UnitDir))
	for _, f := range files {
		name := f.Name()
		if f.IsDir() {
			continue
		}
		d := m.def(name)
		if slices.Contains(d.list("Unit.After"), id) {
			st.Before = append(st.Before, name)
		}
		for _, key := range []string{"Unit.Requires", "Unit.Wants", "Unit.BindsTo", "Unit.Requisite"} {
			if slices.Contains(d.list(key), id) {
				st.NeededBy = append(st.NeededBy, name)
			}
		}
	}
}

// twinSystemd is the engine's face of it.
type twinSystemd struct{ m *Machine }

func (s twinSystemd) lock() func() { s.m.mu.Lock(); return s.m.mu.Unlock }

func (s twinSystemd) Version(context.Context) (int, error) {
	defer s.lock()()
	return s.m.version, nil
}

// Glance is Units, and gives no more than it promises.
func (s twinSystemd) Glance(ctx context.Context, names []string) (map[string]host.UnitState, error) {
	states, err := s.Units(ctx, names)
	for n, st := range states {
		states[n] = host.UnitState{Name: st.Name, Load: st.Load, Active: st.Active, Sub: st.Sub, Job: st.Job}
	}
	return states, err
}

func (s twinSystemd) Units(_ context.Context, names []string) (map[string]host.UnitState, error) {
	defer s.lock()()
	s.m.listed = map[string][]fs.DirEntry{}
	defer func() { s.m.listed = nil }()
	states := make(map[string]host.UnitState, len(names))
	for _, n := range names {
		states[n] = s.m.state(n)
	}
	return states, nil
}

func (s twinSystemd) Reload(context.Context) error {
	defer s.lock()()
	s.m.reloads++
	s.m.reload()
	return nil
}

func (s twinSystemd) Enable(_ context.Context, names []string) error {
	defer s.lock()()
	for _, n := range names {
		if err := s.m.enable(n, map[string]bool{}); err != nil {
			return fmt.Errorf("enable %s: %w", n, err)
		}
	}
	return nil
}

func (s twinSystemd) Disable(_ context.Context, names []string) error {
	defer s.lock()()
	for _, n := range names {
		if err := s.m.disable(n, map[string]bool{}); err != nil {
			return fmt.Errorf("disable %s: %w", n, err)
		}
	}
	return nil
}

func (s twinSystemd) Job(_ context.Context, verb string, names []string) map[string]error {
	defer s.lock()()
	for _, n := range names {
		s.m.jobs = append(s.m.jobs, verb+" "+n)
	}
	if s.m.booting {
		errs := map[string]error{}
		for _, n := range names {
			errs[n] = fmt.Errorf("%s %s: boot waits for the one who waits: queue it", verb, n)
		}
		return errs
	}
	return s.m.transact(verb, names)
}

func (s twinSystemd) Queue(_ context.Context, verb, name string) error {
	defer s.lock()()
	s.m.jobs = append(s.m.jobs, verb+" "+name)
	if s.m.booting && verb != "stop" {
		if err := refusal(s.m.def(name)); err != nil {
			return fmt.Errorf("%s %s: %w", verb, name, err)
		}
		s.m.queued = append(s.m.queued, name)
		return nil
	}
	s.m.transact(verb, []string{name})
	return nil
}

func (s twinSystemd) ResetFailed(_ context.Context, names []string) error {
	defer s.lock()()
	for _, n := range names {
		u := s.m.units[s.m.canonical(n)]
		if u != nil && u.active == "failed" {
			u.active, u.sub, u.result, u.def, u.restarts = "inactive", "dead", "success", nil, 0
		}
	}
	return nil
}

func (s twinSystemd) Close() error { return nil }

// applyUnit is the transient unit while it is there.
type applyUnit struct {
	run  string
	dead chan struct{} // closed: the plug was pulled, the run goes no further than its next step
	done chan struct{}
}

var runID = regexp.MustCompile(`^[a-z0-9-]{1,64}$`)

// restartWait is RestartUSec of the transient unit.
const restartWait = 100 * time.Millisecond

// StartApply runs the engine's Apply in this process. When a test's Reached ends it, or it
// returns an error, it is started again, as Restart=on-failure would, five times at most.
func (s twinSystemd) StartApply(_ context.Context, run string) error {
	defer s.lock()()
	if !runID.MatchString(run) {
		return fmt.Errorf("start %s: run id %q", bundle.ApplyUnit, run)
	}
	if s.m.apply != nil {
		return host.ErrBusy
	}
	a := &applyUnit{run: run, dead: make(chan struct{}), done: make(chan struct{})}
	s.m.apply = a
	go s.m.runApply(a)
	return nil
}

func (m *Machine) runApply(a *applyUnit) {
	defer close(a.done)
	for range 5 {
		if m.applyOnce(a) || a.isDead() {
			break
		}
		time.Sleep(restartWait)
	}
	m.mu.Lock()
	m.apply = nil
	m.mu.Unlock()
}

func (a *applyUnit) isDead() bool {
	select {
	case <-a.dead:
		return true
	default:
		return false
	}
}

// applyOnce is one process of the unit; it says whether it ended well.
func (m *Machine) applyOnce(a *applyUnit) (ok bool) {
	h := *m.host
	kill := h.Reached
	h.Reached = func(step string) {
		if a.isDead() {
			panic("the plug was pulled at " + step)
		}
		if kill != nil {
			kill(step)
		}
	}
	done := make(chan bool, 1)
	go func() {
		fine := false
		defer func() {
			survive(recover())
			done <- fine
		}()
		fine = host.Apply(context.Background(), &h, a.run) == nil
	}()
	return <-done
}

// survive lets a test's panic stand for kill -9, and shows one that is a fault.
func survive(p any) {
	if _, fault := p.(runtime.Error); fault {
		fmt.Fprintf(os.Stderr, "lab: the engine panicked: %v\n%s", p, debug.Stack())
	}
}

// WaitApply waits until no run is at work, or the time is over.
func (m *Machine) WaitApply(limit time.Duration) bool {
	m.mu.Lock()
	a := m.apply
	m.mu.Unlock()
	if a == nil {
		return true
	}
	select {
	case <-a.done:
		return true
	case <-time.After(limit):
		return false
	}
}

// killApply ends a run at its next step, as pulling the plug would.
func (m *Machine) killApply() {
	m.mu.Lock()
	a := m.apply
	m.mu.Unlock()
	if a == nil {
		return
	}
	close(a.dead)
	m.WaitApply(10 * time.Second)
}
