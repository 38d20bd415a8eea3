package plan

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"bellhop/internal/bundle"
	"bellhop/internal/host/machine"
	"bellhop/internal/host/owned"
	"bellhop/internal/host/state"
	"bellhop/internal/unitfile"
)

// A Units is what systemd is asked to do, decided in preflight from one reading of what
// runs. "Running" means then, so a unit that our own stop takes down counts as running.
type Units struct {
	Before   map[string]machine.UnitState
	Now      []state.UnitWas // for the journal
	Stop     []string
	Quiet    []string // stopped and started again: usermod refuses a user who has processes, systemd a socket whose service runs; a former compose project is stopped by the former file
	Replaced []string // of Quiet, those whose former file is needed to stop them
	Disable  []string
	Enable   []string
	KeyUnits []string // started when not active, never restarted
	Start    []string
	Restart  []string
	Reload   []string
	Again    []string // ran before: started when our stop took them down
	Back     []string // were there before bellhop, and return to running
	Drifted  []string
	Left     []string // of services that stay as they are and failed: not started
}

// StayDown are the units that should run, do not, and are left so.
func (p *Units) StayDown() []string { return slices.Concat(p.Drifted, p.Left) }

// PlanUnits reads every unit that the run may touch, refuses what is masked, and decides.
func (w *Plan) PlanUnits(ctx context.Context) error {
	old, new := unitsByName(w.Old.Manifest.Units), unitsByName(w.Offer.Manifest.Units)
	var names []string
	for n, u := range old {
		if !w.Holds(u.Service) {
			names = append(names, n)
		}
	}

	for n := range new {
		if _, ok := old[n]; !ok {
			names = append(names, n)
		}
	}

	slices.Sort(names)
	p := &w.Units
	w.stoppedByUndo = w.m.StoppedByUndo()
	if err := w.readUnits(ctx, names, old, new); err != nil {
		return fmt.Errorf("read units: %w", err)
	}

	quiet := map[string]bool{}
	for _, n := range names {
		st := p.Before[n]
		o, had := old[n]
		u, has := new[n]
		if has && st.Masked() {
			why := fmt.Errorf("unit %s is masked on the host (%s): systemctl unmask %s there, then bellhop deploy --retry", n, st.Fragment, n)
			if err := w.refuse(u.Service, why); err != nil {
				return err
			}
			continue
		}
		if has {
			w.planUnit(u, o, had, st)
		} else {
			w.planGone(o, st)
		}

		stays := had && has && st.Running()
		service := !o.KeyUnit && !o.Foreign
		if quiet[n] = stays && service && w.runsAsChanged(o); quiet[n] && !slices.Contains(p.Quiet, n) {
			p.Quiet = append(p.Quiet, n)
		}
	}

	w.giveWayToSockets(new)
	for _, n := range names {
		st := p.Before[n]
		o, had := old[n]
		u := new[n]
		down := ""
		if had && !u.KeyUnit {
			down = whyDown(w.stoppedByUndo.Why(n, st), st)
		}
		acted := slices.Contains(slices.Concat(p.Start, p.Restart, p.Reload, p.Back), n)
		p.Now = append(p.Now, state.UnitWas{Name: n, Ran: st.Running(), File: st.File, Acted: acted,
			Key: o.KeyUnit || u.KeyUnit, New: !had, Start: o.Start || o.Enable, Quiet: quiet[n], Replaced: slices.Contains(p.Replaced, n),
			Reload: slices.Contains(p.Reload, n) && st.CanReload, Life: st.Invocation,
			Install: slices.Contains(p.Disable, n) && slices.Contains(p.Enable, n), Down: down})
	}

	return noteConflicts(ctx, w, new)
}

// giveWayToSockets stops the running service of a socket that is to be started: systemd refuses a
// socket whose service runs already. It ran, so it is started again behind its socket.
func (w *Plan) giveWayToSockets(units map[string]bundle.Unit) {
	p := &w.Units
	for _, socket := range slices.Clone(p.Start) {
		if !strings.HasSuffix(socket, ".socket") {
			continue
		}

		n := w.serviceOf(units[socket])
		if u, ours := units[n]; !ours || u.Foreign || !p.Before[n].Running() {
			continue
		}

		for _, list := range []*[]string{&p.Restart, &p.Reload, &p.Again} {
			*list = slices.DeleteFunc(*list, func(other string) bool { return other == n })
		}

		if !slices.Contains(p.Quiet, n) {
			p.Quiet = append(p.Quiet, n)
		}

		if !slices.Contains(p.Start, n) {
			p.Start = append(p.Start, n)
		}
	}
}

// serviceOf is the unit that a socket starts.
func (w *Plan) serviceOf(socket bundle.Unit) string {
	return w.WantedUnit(socket).Activates(socket.Name)
}

// WantedUnit reads the files of a unit as they will be.
func (w *Plan) WantedUnit(u bundle.Unit) *unitfile.Unit {
	var texts [][]byte
	for _, f := range u.Files {
		texts = append(texts, w.BytesOf(w.Next.Paths[f].Now.Digest))
	}
	return unitfile.Read(texts...)
}

// formerUnit reads the files of a unit as bellhop last wrote them.
func (w *Plan) formerUnit(u bundle.Unit) *unitfile.Unit {
	var texts [][]byte
	for _, f := range u.Files {
		texts = append(texts, w.m.Blobs().Read(w.Old.Owned.Paths[f].Now.Digest))
	}
	return unitfile.Read(texts...)
}

// readUnits reads what runs. Key units that stay are glanced at: their shape is ours, and
// there may be hundreds. Of other units that stay and of which nothing changed it is enough to know how
// they do: most pushes change one service of many.
func (w *Plan) readUnits(ctx context.Context, names []string, old, new map[string]bundle.Unit) error {
	var whole, same, brief []string
	for _, n := range names {
		switch u := new[n]; {
		case old[n].KeyUnit && u.KeyUnit:
			brief = append(brief, n)
		case w.staysAsItIs(old, &u):
			same = append(same, n)
		default:
			whole = append(whole, n)
		}
	}

	w.Units.Before = make(map[string]machine.UnitState, len(names))
	for _, some := range []struct {
		names []string
		read  func(context.Context, []string) (map[string]machine.UnitState, error)
	}{{whole, w.m.Units}, {same, w.m.UnitsAtRest}, {brief, w.m.Glance}} {
		states, err := some.read(ctx, some.names)
		if err != nil {
			return err
		}
		maps.Copy(w.Units.Before, states)
	}

	return nil
}

// staysAsItIs says that nothing is done with u on account of what changed.
func (w *Plan) staysAsItIs(old map[string]bundle.Unit, u *bundle.Unit) bool {
	o, had := old[u.Name]
	action := u.Action(w.isChanged)
	isUnmoved := action == "" || action == bundle.None
	return had && isUnmoved && o.Foreign == u.Foreign
}

func unitsByName(us []bundle.Unit) map[string]bundle.Unit {
	m := make(map[string]bundle.Unit, len(us))
	for _, u := range us {
		m[u.Name] = u
	}
	return m
}

// planGone decides on a unit that leaves.
func (w *Plan) planGone(o bundle.Unit, st machine.UnitState) {
	facts := w.facts(o.Name, st)
	delete(w.Next.Units, o.Name)
	w.Units.add(o.Name, bundle.DecideUnit(&o, nil, w.isChanged, facts))
}

// planUnit decides on a unit that stays or comes, and remembers how it was before bellhop had it.
func (w *Plan) planUnit(u, o bundle.Unit, had bool, st machine.UnitState) {
	if !had && st.Exists() && !u.KeyUnit {
		if w.Next.Units == nil {
			w.Next.Units = map[string]state.Origin{}
		}
		w.Next.Units[u.Name] = state.Origin{File: st.File, Active: st.Running()}
	}
	left, takes := had && !o.Enable && !o.Start, u.Enable || u.Start // to people, and from them
	if u.Foreign && left && takes {
		w.Next.Units[u.Name] = state.Origin{File: st.File, Active: st.Running()} // how people have it by now
	}

	facts := w.facts(u.Name, st)
	facts.StaysBack = slices.Contains(w.Offer.Held, u.Service)
	facts.OtherStack = had && !bundle.SameStack(&w.Old.Manifest, &w.Offer.Manifest, &o, &u)
	facts.InstallChanged = u.Enable && st.Enabled() && w.installChanged(u.Name)
	was := &o
	if !had {
		was = nil
	}

	w.Units.add(u.Name, bundle.DecideUnit(was, &u, w.isChanged, facts))
}

// facts are what the rules of units look at.
func (w *Plan) facts(name string, st machine.UnitState) bundle.UnitFacts {
	before := w.Next.Units[name] // zero for what was not there
	return bundle.UnitFacts{
		Running: st.Running(), Stopping: st.Active == "deactivating", Failed: st.Active == "failed",
		Unsuccessful: st.Result != "" && st.Result != "success",
		Barred:       st.Barred, Skipped: st.Skipped, RanThisBoot: st.RanThisBoot && w.stoppedByUndo.Why(name, st) == "", Enabled: st.Enabled(),
		WasEnabled: before.Enabled(), WasRunning: before.Active,
	}
}

// whyDown is why a unit does not run though nobody has stopped it: see UnitWas.Down. left is what is
// remembered of it.
func whyDown(left string, st machine.UnitState) string {
	hasFailed := st.Active == "failed" || st.Result != "" && st.Result != "success"
	switch {
	case st.Running() || left != "":
		return left
	case hasFailed:
		return cmp.Or(st.Result, "failed")
	case st.Barred || st.Skipped || !st.RanThisBoot:
		return state.DownWaits
	}
	return ""
}

func (w *Plan) isChanged(thing string) bool { return w.Changed[thing] }

// add notes what is done with a unit.
func (p *Units) add(name string, steps bundle.UnitSteps) {
	if steps.Disable {
		p.Disable = append(p.Disable, name)
	}
	if steps.Enable {
		p.Enable = append(p.Enable, name)
	}
	if steps.Back {
		p.Back = append(p.Back, name)
	}

	if steps.Verb == bundle.VerbReplace {
		p.Quiet, p.Start = append(p.Quiet, name), append(p.Start, name)
		p.Replaced = append(p.Replaced, name)
	}

	lists := map[bundle.UnitVerb]*[]string{
		bundle.VerbStart: &p.Start, bundle.VerbStop: &p.Stop, bundle.VerbRestart: &p.Restart, bundle.VerbReload: &p.Reload,
		bundle.VerbKeep: &p.Again, bundle.VerbDrift: &p.Drifted, bundle.VerbLeave: &p.Left, bundle.VerbKeyUnit: &p.KeyUnits,
	}

	if list := lists[steps.Verb]; list != nil {
		*list = append(*list, name)
	}
}

// runsAsChanged says whether u may run as a user that this run changes: it is of the service
// that brought the user, or its unit file names him.
func (w *Plan) runsAsChanged(u bundle.Unit) bool {
	for _, a := range w.Usermods {
		for _, of := range slices.Concat(w.Old.Manifest.Users, w.Offer.Manifest.Users) {
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
func (w *Plan) installChanged(name string) bool {
	file := name
	if at := strings.Index(name, "@"); at >= 0 {
		file = name[:at+1] + name[strings.LastIndex(name, "."):]
	}

	for _, p := range w.Puts {
		if !strings.HasSuffix(p.Path, "/"+file) || p.Was.Kind != owned.File || p.Want.Kind != owned.File {
			continue
		}

		was, is := unitfile.Read(w.m.Blobs().Read(p.Was.Digest)), unitfile.Read(w.BytesOf(p.Want.Digest))
		return !slices.Equal(was.Install(), is.Install())
	}

	return false
}

// BytesOf reads a file of the bundle from where it waits: what was staged, or a blob; nil where neither is.
func (w *Plan) BytesOf(digest string) []byte {
	if p, err := os.ReadFile(w.m.Staged(w.Offer.Run, digest)); err == nil {
		return p
	}
	return w.m.Blobs().Read(digest)
}
