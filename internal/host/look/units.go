package look

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/host/machine"
	"bellhop/internal/host/state"
)

// unitsDeadline is how long systemd may take to say how units do.
const unitsDeadline = 30 * time.Second

// units looks how the units of the manifest do.
func (l *looker) units() error {
	ctx, cancel := context.WithTimeout(l.ctx, unitsDeadline)
	defer cancel()

	states, err := l.readUnits(ctx)
	if err != nil {
		return err
	}

	l.stoppedByUndo = l.m.StoppedByUndo()
	for _, u := range l.now.Manifest.Units {
		st, read := states[u.Name]
		if !read {
			continue
		}
		if st.Running() && !u.KeyUnit {
			l.seen.Running++
		}
		if !u.KeyUnit {
			l.seen.Units = append(l.seen.Units, st.Seen(u.Name))
		}
		l.unit(u, st)
	}

	if err := l.failedOfSystem(ctx, states); err != nil {
		return err
	}
	for _, st := range states {
		if st.Active == "failed" {
			l.seen.FailedUnits = append(l.seen.FailedUnits, bundle.FailedUnit{Name: st.Name, Result: st.Result, Since: st.Since})
		}
	}

	return nil
}

// readUnits reads the units of the manifest, and bellhop's own. Key units are glanced at, since there may be
// hundreds; what failed of them is read whole.
func (l *looker) readUnits(ctx context.Context) (map[string]machine.UnitState, error) {
	var whole []string
	brief := []string{bundle.SettleUnit, bundle.KeyMountUnit}

	for _, u := range l.now.Manifest.Units {
		isTemplate := strings.Contains(u.Name, "@.")
		switch {
		case isTemplate: // its instances run
		case u.KeyUnit:
			brief = append(brief, u.Name)
		default:
			whole = append(whole, u.Name)
		}
	}

	states, err := l.m.Glance(ctx, brief)
	if err != nil {
		return nil, err
	}
	for _, st := range states {
		if st.Active == "failed" {
			whole = append(whole, st.Name)
		}
	}

	read, err := l.m.Units(ctx, whole)
	if err != nil {
		return nil, err
	}

	all := maps.Clone(states)
	if all == nil {
		all = map[string]machine.UnitState{}
	}
	maps.Copy(all, read)
	return all, nil
}

// failedOfSystem adds to states the failed units of a NixOS system: all units of such a host are of its
// configuration.
func (l *looker) failedOfSystem(ctx context.Context, states map[string]machine.UnitState) error {
	if l.now.Manifest.System == nil {
		return nil
	}

	all, err := l.m.Systemd.Loaded(ctx)
	if err != nil {
		return err
	}
	var failed []string
	for n, st := range all {
		if _, read := states[n]; st.Active == "failed" && !read {
			failed = append(failed, n)
		}
	}
	read, err := l.m.Units(ctx, failed)
	maps.Copy(states, read)
	return err
}

// unit compares one unit with what systemd was asked to do with it.
func (l *looker) unit(u bundle.Unit, st machine.UnitState) {
	switch {
	case st.Masked():
		l.drift(bundle.KindUnit, u.Name, bundle.DriftMasked)
		return
	case !st.Exists():
		if !slices.ContainsFunc(u.Files, func(f string) bool { return l.gone[f] }) { // which is told already
			l.drift(bundle.KindUnit, u.Name, bundle.DriftMissing)
		}
		return
	}

	if !u.Foreign {
		l.dropIns(u.Name)
	}
	if u.Enable && st.File == "disabled" {
		l.drift(bundle.KindUnit, u.Name, bundle.DriftDisabled)
	}
	if why := l.stoppedByUndo.Why(u.Name, st); why != "" {
		l.leftAs(u.Name, why, st.Since)
	} else if isStopped(u, st) {
		l.drift(bundle.KindUnit, u.Name, bundle.DriftStopped)
	}
}

// dropInFolders are where a person, or systemctl edit and set-property, puts drop-ins.
var dropInFolders = []string{bundle.UnitDir, "/etc/systemd/system.control", "/run/systemd/system", "/run/systemd/system.control"}

// dropIns finds what somebody put beside a unit of bellhop's, and so changed it.
func (l *looker) dropIns(unit string) {
	for _, in := range dropInFolders {
		dir := in + "/" + unit + ".d"
		names, err := os.ReadDir(l.m.At(dir))
		if err != nil {
			continue // there is none, mostly
		}

		for _, e := range names {
			p := dir + "/" + e.Name()
			_, mine := l.now.Owned.Paths[p]
			if strings.HasSuffix(p, ".conf") && !mine {
				l.differs(bundle.Drift{Kind: bundle.KindUnit, Name: unit, What: bundle.DriftDropIn, Is: p})
			}
		}
	}
}

// leftAs tells of a unit that no person stopped: it had failed before a run that was undone, which stopped
// it again.
func (l *looker) leftAs(unit, why string, since int64) {
	if why != state.DownWaits {
		l.seen.FailedUnits = append(l.seen.FailedUnits, bundle.FailedUnit{Name: unit, Result: why, Since: since})
	}
}

// isStopped says that a unit which should run does not, and neither failed nor waits for anything.
func isStopped(u bundle.Unit, st machine.UnitState) bool {
	isJob := u.Oneshot || st.Oneshot
	shouldRun := u.Start && !u.KeyUnit && !isJob
	isDown := st.Active == "inactive" && !st.Job
	waits := st.Barred || st.Skipped // for its keys, or for a condition of its own
	return shouldRun && isDown && !waits
}

// accounts compares users and groups.
func (l *looker) accounts() error {
	if len(l.now.Manifest.Users) == 0 {
		return nil
	}
	made, err := l.m.MadeUsers()
	if err != nil {
		return err
	}

	for _, u := range l.now.Manifest.Users {
		is, ok, err := l.m.Accounts.User(u.Name)
		if err != nil {
			return fmt.Errorf("look up user %s: %w", u.Name, err)
		}
		if !ok {
			l.drift(bundle.KindAccount, u.Name, bundle.DriftMissing)
			continue
		}

		if err := l.account(u, is, made[u.Name]); err != nil {
			return err
		}
	}

	return nil
}

// account compares a user that is there. What bellhop says of no user, a shell and groups that it joined, is
// compared of those that bellhop made.
func (l *looker) account(u bundle.User, is machine.Account, isMade bool) error {
	differs := func(what, want, is string) {
		l.differs(bundle.Drift{Kind: bundle.KindAccount, Name: u.Name, What: what, Want: want, Is: is})
	}
	if is.Group != u.Group {
		differs(bundle.DriftGroup, u.Group, is.Group)
	} else if u.GID != 0 && is.GID != int(u.GID) {
		differs(bundle.DriftGID, strconv.Itoa(int(u.GID)), strconv.Itoa(is.GID))
	}
	if is.Home != u.Home {
		differs(bundle.DriftHome, u.Home, is.Home)
	}
	if u.UID != 0 && is.UID != int(u.UID) {
		differs(bundle.DriftUID, strconv.Itoa(int(u.UID)), strconv.Itoa(is.UID))
	}
	if !isMade {
		return nil
	}

	if canLogIn(is.Shell) {
		differs(bundle.DriftShell, "nologin", is.Shell)
	}
	if bringsSysusers(&l.now.Manifest) { // which may have it join any group
		return nil
	}
	joined, err := l.m.Accounts.Joined(u.Name)
	if err != nil {
		return fmt.Errorf("look up the groups of user %s: %w", u.Name, err)
	}
	if len(joined) > 0 {
		differs(bundle.DriftJoined, "", strings.Join(joined, " "))
	}
	return nil
}

// canLogIn says that a shell is one. systemd-sysusers gives a user none, by a path that differs between
// distributions.
func canLogIn(shell string) bool {
	name := path.Base(shell)
	return shell != "" && name != "nologin" && name != "false"
}

// bringsSysusers says that a bundle has a file for systemd-sysusers that is not bellhop's own.
func bringsSysusers(m *bundle.Manifest) bool {
	return slices.ContainsFunc(m.Files, func(f bundle.File) bool {
		return strings.Contains(f.Path, "/sysusers.d/") && !strings.Contains(f.Path, "/sysusers.d/bellhop-")
	})
}
