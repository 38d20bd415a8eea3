package host

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"bellhop/internal/bundle"
	"bellhop/internal/unitfile"
)

// A unitPlan is what systemd is asked to do, decided in preflight from one reading of what
// runs. "Running" means then, so a unit that our own stop takes down counts as running.
type unitPlan struct {
	before   map[string]UnitState
	now      []unitWas // for the journal
	stop     []string
	quiet    []string // stopped and started again: usermod refuses a user who has processes, systemd a socket whose service runs
	disable  []string
	enable   []string
	keyUnits []string // started when not active, never restarted
	start    []string
	restart  []string
	reload   []string
	again    []string // ran before: started when our stop took them down
	back     []string // were there before bellhop, and return to running
	drifted  []string
}

func (s UnitState) running() bool {
	return s.Active == "active" || s.Active == "reloading" || s.Active == "activating"
}

func (s UnitState) enabled() bool { return s.File == "enabled" || s.File == "enabled-runtime" }

func (s UnitState) there() bool { return s.Load != "" && s.Load != "not-found" }

// unitStates asks systemd, unless there is nothing to ask.
func (m *Machine) unitStates(ctx context.Context, names []string) (map[string]UnitState, error) {
	if len(names) == 0 {
		return nil, nil
	}
	return m.Systemd.Units(ctx, names)
}

// glance asks systemd for no more than whether they run.
func (m *Machine) glance(ctx context.Context, names []string) (map[string]UnitState, error) {
	if len(names) == 0 {
		return nil, nil
	}
	return m.Systemd.Glance(ctx, names)
}

// planUnits reads every unit that the run may touch, refuses what is masked, and decides.
func (w *work) planUnits(ctx context.Context) error {
	old, new := unitsByName(w.old.Manifest.Units), unitsByName(w.offer.Manifest.Units)
	var names []string
	for n, u := range old {
		if !w.holds(u.Service) {
			names = append(names, n)
		}
	}
	for n := range new {
		if _, ok := old[n]; !ok {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	p := &w.units
	if err := w.readUnits(ctx, names, old, new); err != nil {
		return fmt.Errorf("read units: %w", err)
	}
	quiet := map[string]bool{}
	for _, n := range names {
		st := p.before[n]
		o, had := old[n]
		u, has := new[n]
		if has && (st.Load == "masked" || st.File == "masked" || st.File == "masked-runtime") {
			return refuse(bundle.RefusedBundle, "unit %s is masked on the host (%s): systemctl unmask %s there, then bellhop deploy --retry", n, st.Fragment, n)
		}
		if has {
			w.planUnit(u, o, had, st)
		} else {
			w.planGone(o, st)
		}
		quiet[n] = had && !o.KeyUnit && !o.Foreign && has && st.running() && w.runsAsChanged(o)
		if quiet[n] {
			p.quiet = append(p.quiet, n)
		}
	}
	w.giveWayToSockets(new)
	for _, n := range names {
		st := p.before[n]
		o, had := old[n]
		u := new[n]
		acted := slices.Contains(slices.Concat(p.start, p.restart, p.reload, p.back), n)
		p.now = append(p.now, unitWas{Name: n, Ran: st.running(), File: st.File, Acted: acted,
			Key: o.KeyUnit || u.KeyUnit, New: !had, Start: o.Start || o.Enable, Quiet: quiet[n],
			Reload: slices.Contains(p.reload, n) && st.CanReload, Life: st.Invocation,
			Install: slices.Contains(p.disable, n) && slices.Contains(p.enable, n)})
	}
	return nil
}

// giveWayToSockets stops the running service of a socket that is to be started: systemd refuses a
// socket whose service runs already. It ran, so it is started again behind its socket.
func (w *work) giveWayToSockets(units map[string]bundle.Unit) {
	p := &w.units
	for _, socket := range slices.Clone(p.start) {
		if !strings.HasSuffix(socket, ".socket") {
			continue
		}
		n := w.serviceOf(units[socket])
		if u, ours := units[n]; !ours || u.Foreign || !p.before[n].running() {
			continue
		}
		for _, list := range []*[]string{&p.restart, &p.reload, &p.again} {
			*list = slices.DeleteFunc(*list, func(other string) bool { return other == n })
		}
		if !slices.Contains(p.quiet, n) {
			p.quiet = append(p.quiet, n)
		}
		p.start = append(p.start, n)
	}
}

// serviceOf is the unit that a socket starts.
func (w *work) serviceOf(socket bundle.Unit) string {
	return w.wantedUnit(socket).Activates(socket.Name)
}

// wantedUnit reads the files of a unit as they will be.
func (w *work) wantedUnit(u bundle.Unit) *unitfile.Unit {
	var texts [][]byte
	for _, f := range u.Files {
		texts = append(texts, w.bytesOf(w.next.Paths[f].Now.Digest))
	}
	return unitfile.Read(texts...)
}

// formerUnit reads the files of a unit as bellhop last wrote them.
func (w *work) formerUnit(u bundle.Unit) *unitfile.Unit {
	var texts [][]byte
	for _, f := range u.Files {
		texts = append(texts, w.m.readBlob(w.old.Owned.Paths[f].Now.Digest))
	}
	return unitfile.Read(texts...)
}

// readUnits reads what runs. Key units that stay are glanced at: their shape is ours, and
// there may be hundreds.
func (w *work) readUnits(ctx context.Context, names []string, old, new map[string]bundle.Unit) error {
	var whole, brief []string
	for _, n := range names {
		if old[n].KeyUnit && new[n].KeyUnit {
			brief = append(brief, n)
		} else {
			whole = append(whole, n)
		}
	}
	var err error
	if w.units.before, err = w.m.unitStates(ctx, whole); err != nil {
		return err
	}
	glance, err := w.m.glance(ctx, brief)
	if err != nil {
		return err
	}
	if w.units.before == nil {
		w.units.before = make(map[string]UnitState, len(glance))
	}
	maps.Copy(w.units.before, glance)
	return nil
}

func unitsByName(us []bundle.Unit) map[string]bundle.Unit {
	m := make(map[string]bundle.Unit, len(us))
	for _, u := range us {
		m[u.Name] = u
	}
	return m
}

// planGone: what leaves is stopped and disabled; what was there before bellhop goes back to
// how it did.
func (w *work) planGone(o bundle.Unit, st UnitState) {
	p := &w.units
	was, before := w.next.Units[o.Name]
	delete(w.next.Units, o.Name)
	enabled := before && was.enabled()
	if o.Foreign {
		w.planForeignGone(o, st, was, enabled)
		return
	}
	if st.enabled() {
		p.disable = append(p.disable, o.Name)
	}
	if enabled {
		p.enable = append(p.enable, o.Name)
	}
	if st.running() || st.Active == "failed" || st.Active == "deactivating" {
		p.stop = append(p.stop, o.Name)
	}
	if before && was.Active {
		p.back = append(p.back, o.Name)
	}
}

// planForeignGone: of a unit that is not ours only the drop-ins leave. What bellhop enabled
// and started for the fleet goes back, and what people did is left alone.
func (w *work) planForeignGone(o bundle.Unit, st UnitState, was origin, enabled bool) {
	p := &w.units
	if o.Enable && st.enabled() && !enabled {
		p.disable = append(p.disable, o.Name)
	}
	switch {
	case !st.running():
	case o.Start && !was.Active:
		p.stop = append(p.stop, o.Name)
	default:
		p.act(o.Name, w.action(o))
	}
}

// planUnit is the table of units.
func (w *work) planUnit(u, o bundle.Unit, had bool, st UnitState) {
	p := &w.units
	if !had && st.there() && !u.KeyUnit {
		if w.next.Units == nil {
			w.next.Units = map[string]origin{}
		}
		w.next.Units[u.Name] = origin{st.File, st.running()}
	}
	if u.Foreign && had && !o.Enable && !o.Start && (u.Enable || u.Start) {
		w.next.Units[u.Name] = origin{st.File, st.running()} // how people have it by now
	}
	w.planEnable(u, o, had, st)
	if u.KeyUnit {
		p.keyUnits = append(p.keyUnits, u.Name)
		return
	}
	action := w.action(u)
	if had && o.Foreign != u.Foreign {
		action = cmp.Or(u.OnChange, bundle.Restart)
	}
	switch {
	case u.Foreign && had && o.Start && !u.Start && st.running() && !w.next.Units[u.Name].Active:
		p.stop = append(p.stop, u.Name) // it ran for the fleet, which only has drop-ins for it now
	case u.Oneshot && u.Start:
		if action != "" && action != bundle.None || !had || st.Active == "failed" || !st.RanThisBoot {
			if st.running() {
				p.restart = append(p.restart, u.Name)
			} else {
				p.start = append(p.start, u.Name)
			}
		}
	case st.running():
		if !p.act(u.Name, action) {
			p.again = append(p.again, u.Name)
		}
	case !u.Start:
	case st.Active == "failed", st.Barred && waitsForKeys(u), st.Result != "" && st.Result != "success", !st.RanThisBoot, !had, !o.Start:
		p.start = append(p.start, u.Name)
	default:
		p.drifted = append(p.drifted, u.Name)
	}
}

// waitsForKeys says whether a key gates u.
func waitsForKeys(u bundle.Unit) bool {
	return slices.ContainsFunc(u.Triggers, func(t string) bool { return strings.HasPrefix(t, bundle.KindKey+":") })
}

// act notes what a change does to a unit that runs, and whether it does anything.
func (p *unitPlan) act(name, action string) bool {
	switch action {
	case bundle.Restart:
		p.restart = append(p.restart, name)
	case bundle.Reload:
		p.reload = append(p.reload, name)
	default:
		return false
	}
	return true
}

// planEnable: a changed [Install] is taken back with the old file still there.
func (w *work) planEnable(u, o bundle.Unit, had bool, st UnitState) {
	p := &w.units
	switch {
	case u.Enable && (!st.enabled() || w.installChanged(u.Name)):
		if st.enabled() {
			p.disable = append(p.disable, u.Name)
		}
		p.enable = append(p.enable, u.Name)
	case !u.Enable && had && o.Enable && st.enabled():
		if u.Foreign && w.next.Units[u.Name].enabled() {
			return // as it was before bellhop
		}
		p.disable = append(p.disable, u.Name)
	}
}

// action is what the things that changed do to u.
func (w *work) action(u bundle.Unit) string {
	return u.Action(func(thing string) bool { return w.changed[thing] })
}

// runsAsChanged says whether u may run as a user that this run changes: it is of the service
// that brought the user, or its unit file names him.
func (w *work) runsAsChanged(u bundle.Unit) bool {
	for _, a := range w.usermods {
		for _, of := range slices.Concat(w.old.Manifest.Users, w.offer.Manifest.Users) {
			if of.Name == a.Name && of.Service == u.Service {
				return true
			}
		}
		if w.formerUnit(u).Value("Service", "User") == a.Name {
			return true
		}
	}
	return false
}

// installChanged compares the [Install] sections of a unit file that is replaced.
func (w *work) installChanged(name string) bool {
	file := name
	if at := strings.Index(name, "@"); at >= 0 {
		file = name[:at+1] + name[strings.LastIndex(name, "."):]
	}
	for _, p := range w.puts {
		if !strings.HasSuffix(p.Path, "/"+file) || p.Was.Kind != aFile || p.Want.Kind != aFile {
			continue
		}
		was, is := unitfile.Read(w.m.readBlob(p.Was.Digest)), unitfile.Read(w.bytesOf(p.Want.Digest))
		return !slices.Equal(was.Install(), is.Install())
	}
	return false
}

// bytesOf reads a file of the bundle from where it waits.
func (w *work) bytesOf(digest string) []byte {
	if p, err := os.ReadFile(w.m.staged(w.offer.Run, digest)); err == nil {
		return p
	}
	return w.m.readBlob(digest)
}

func (m *Machine) readBlob(digest string) []byte {
	p, _ := os.ReadFile(m.blob(digest))
	return p
}
