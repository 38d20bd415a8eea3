package host

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"bellhop/internal/bundle"
	"bellhop/internal/host/blame"
	"bellhop/internal/host/confirm"
	"bellhop/internal/host/keyfiles"
	"bellhop/internal/host/machine"
	"bellhop/internal/host/owned"
	"bellhop/internal/host/stacks"
	"bellhop/internal/host/state"
)

// Settle ends a run that was cut off: one that was past its commit is tidied up, any other is
// undone. It is what systemd runs at boot, and what every start and contact does first. With
// nothing open, or somebody at work, it does nothing.
func Settle(ctx context.Context, host *machine.Machine) error {
	m := state.Of(host)
	unlock, err := m.Lock(0)
	if errors.Is(err, machine.ErrBusy) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unlock()

	return SettleLocked(ctx, m)
}

// SettleLocked is Settle under the lock.
func SettleLocked(ctx context.Context, m state.Dir) error {
	j, err := m.ReadJournal()
	if err != nil {
		return err
	}
	if j == nil {
		stacks.Settle(ctx, m, stacks.AtContact)
		return forgetIfGivenUp(m)
	}

	now, err := m.Current()
	if err != nil {
		return err
	}

	res := &bundle.Result{Run: j.Run}
	if now.Run == j.Run {
		return settleDone(m, j, now, res)
	}

	confirmed, err := confirm.Decide(m.Runs().Folder(j.Run))
	if err != nil {
		return err
	}
	if confirmed {
		err := settleConfirmed(m, j, now, res)
		if !errors.Is(err, state.ErrNextLost) {
			return err
		}

		j.Cause = fmt.Sprintf("the run was confirmed, and could not be ended: %v", err)
	}

	m.Runs().Event(j.Run, "undo", cmp.Or(j.Cause, "the run was cut off"))
	res.Outcome, res.Error, res.CutOff = cmp.Or(j.Outcome, bundle.OutcomeRolledBack), j.Cause, j.Cause == ""
	if res.CutOff {
		res.Error = "the run was cut off"
	}
	res.Failing, res.Evidence = j.Failing, j.Evidence
	if told, err := m.Runs().Result(j.Run); err == nil && told != nil { // undone before, but not whole
		res.Error, res.CutOff = cmp.Or(told.Cause, told.Error), told.CutOff
	}

	return undo(ctx, m, j, res)
}

// settleDone ends a run that was killed between its commit and its end.
func settleDone(m state.Dir, j *state.Journal, now state.Generation, res *bundle.Result) error {
	if draft, err := m.Runs().Draft(j.Run); err == nil && draft != nil {
		res = draft
	} else {
		res.Outcome, res.Record = bundle.OutcomeDone, &now.Record
	}
	if now.GaveUp {
		res.Record = nil
	}
	tidyStacks := stackTidier(m, j.Stacks, now.Manifest.Keys)
	if err := tidy(m, j.Run, j.Keys, now.GaveUp); err != nil {
		res.Warnings = append(res.Warnings, "tidy: "+err.Error())
	}
	tidyStacks(&now.Manifest, now.Generation, res)
	if err := m.Runs().Save(res); err != nil {
		return err
	}
	if err := m.CloseJournal(); err != nil {
		return err
	}

	return forgetIfGivenUp(m)
}

// An undoer puts one run back.
type undoer struct {
	m          state.Dir
	j          *state.Journal
	sameBoot   bool // else nothing of the run lives any more, and boot starts what is enabled
	names      []string
	restored   []string // paths that somebody edited since the run wrote them
	systemBack bool     // the NixOS system is back
	edits      []string // for each of those, where the host keeps what it held; "" when it is lost
}

// undo brings the machine back to where the run j began, and saves its result. It looks
// before it acts, so it may be cut off and done again. What can't be put back does not stop
// the rest; the journal then stays open, nothing else may begin, and the next contact tries
// again.
func undo(ctx context.Context, m state.Dir, j *state.Journal, res *bundle.Result) error {
	boot, err := m.BootID()
	if err != nil {
		return err
	}

	u := &undoer{m: m, j: j, sameBoot: boot == j.BootID, names: j.UnitNames()}
	take := u.mask() // now: the values that this run brought go with it
	whole, units := u.everything(ctx)
	m.Mark("undo units")
	m.KeepLeftDown(ctx, j)
	m.Runs().Release(j.Run)
	res.Edits, res.Restored = u.edits, u.restored
	res.Changed, res.Started, res.Restarted, res.Reloaded, res.Stopped = nil, nil, nil, nil, nil
	res.Record, res.Kept = nil, u.made()
	if now, err := m.Current(); err == nil && now.Exists {
		res.Record = &now.Record
		res.Keys = keyfiles.Of(m).States(ctx, &now)
	}
	if whole != nil || units != nil {
		res.Outcome = bundle.OutcomeFailed
		res.Cause = res.Error
		res.Error = fmt.Sprintf("%s; and undoing it: %s", res.Cause, take(errors.Join(whole, units).Error()))
	}
	res.Warnings = blame.MaskWarnings(res.Warnings, take)
	if whole != nil {
		return errors.Join(fmt.Errorf("undo run %s: %w", j.Run, whole), m.Runs().Save(res))
	}
	if err := m.Runs().Save(res); err != nil {
		return err
	}

	keyfiles.Of(m).Drop(j.Run, j.Keys)
	m.Unstage(j.Run)
	if err := m.DropNext(); err != nil {
		return err
	}
	if err := m.CloseJournal(); err != nil {
		return err
	}

	return m.SyncDir(bundle.StateDir)
}

// mask takes the values of the keys that stand or wait on the host out of a text.
func (u *undoer) mask() func(string) string {
	now, err := u.m.Current()
	if err != nil {
		return maskOf(u.m, nil) // by the names of their files
	}
	return maskOf(u.m, now.Manifest.Keys)
}

// everything puts all back, and runs what ran. It is done again while something can't be put back
// or the result can't be written, as on a full disk: units that run again by then are left in peace.
func (u *undoer) everything(ctx context.Context) (whole, units error) {
	ran := u.j.Steps["ran"] && u.sameBoot
	if ran && u.j.Steps["undone"] {
		return nil, nil
	}
	if !ran {
		whole = u.takeDown(ctx)
	}

	whole = errors.Join(whole, u.paths(ctx), u.accounts(ctx), u.homes(ctx), keyfiles.Of(u.m).Return(u.j.Run, u.j.Keys, u.sameBoot))
	u.m.Mark("undo paths")
	system, units := u.system(ctx)
	whole = errors.Join(whole, system)
	if units = errors.Join(units, u.bringUp(ctx), u.stacks(ctx)); units == nil && !ran {
		u.m.Note(state.JournalLine{Step: "ran"}, false)
	}
	if whole == nil && units == nil {
		u.m.Note(state.JournalLine{Step: "undone"}, false)
	}

	return whole, units
}

// takeDown stops what the run started, and takes back its enablement while the unit files
// that say so still stand.
func (u *undoer) takeDown(ctx context.Context) error {
	states, err := u.m.Units(ctx, u.names)
	if err != nil {
		return err
	}

	var stop, disable []string
	for _, w := range u.j.Units {
		s := states[w.Name]
		up := s.Running() || s.Active == "failed" || s.Job // its start may still wait for another unit
		started := w.New || w.Acted && !w.Key              // by the run
		if up && started && !w.Ran {
			stop = append(stop, w.Name)
		} else if s.Running() && (w.Replaced || w.Quiet && u.accountsDiffer()) {
			stop = append(stop, w.Name) // the former file does not stop what it started, or its user changes
		}
		wasEnabled := w.File == "enabled" || w.File == "enabled-runtime"
		if s.Enabled() && (w.Install || !wasEnabled) {
			disable = append(disable, w.Name)
		}
	}

	if len(stop) > 0 && u.sameBoot {
		ctx, cancel := context.WithTimeout(ctx, jobDeadline)
		defer cancel()

		u.m.Systemd.Job(ctx, "stop", stop)
		u.m.Systemd.ResetFailed(ctx, stop)
	}
	if len(disable) > 0 {
		return u.m.Systemd.Disable(ctx, disable)
	}

	return nil
}

// paths puts back what stood at each path.
func (u *undoer) paths(ctx context.Context) error {
	var gone, back, edited []owned.Change
	var errs []error
	touched := u.j.Steps["accounts"] // the first step that replaces anything
	mayBeTouched := touched || !u.sameBoot
	in := u.m.Tree().Looker(ctx)
	defer in.Close()

	for _, p := range u.j.Puts {
		is, err := in.Look(p.Path, u.m.Blobs().Size(p.Was.Digest), u.m.Blobs().Size(p.Want.Digest))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if is.Entry == p.Was || is.Kind == owned.Foreign && !slices.Contains(u.j.Dirs, p.Path) {
			continue
		}
		if p.Was.Kind == owned.File && !u.m.Blobs().Has(p.Was.Digest) {
			if touched {
				errs = append(errs, fmt.Errorf("what stood at %s is lost", p.Path))
			}
			continue
		}
		if mayBeTouched && isEdited(p, is) {
			edited = append(edited, owned.Change{Path: p.Path, Was: is.Entry})
		}
		if p.Was.Kind == owned.Nothing {
			gone = append(gone, owned.Change{Path: p.Path, Was: is.Entry})
		} else {
			back = append(back, p.Undone(is.Entry))
		}
	}

	u.keepEdits(ctx, edited)
	written := stamper{}

	// What the run brought leaves first, with its folders: a file may have stood there.
	for _, puts := range [][]owned.Change{gone, back} {
		errs = append(errs, u.m.ReplaceFiles(puts, func(p string, is owned.Stamp) {
			written.replaced(p, is)
			u.m.Mark("undone " + p)
		}))
		u.m.Tree().Sweep(u.j.Puts)
		u.m.Tree().RemoveFolders(u.j.Dirs)
	}

	saveUndone(u.m, back, written)
	return errors.Join(errs...)
}

func (u *undoer) accountsDiffer() bool {
	return slices.ContainsFunc(u.j.Accounts, func(was machine.Account) bool {
		return u.hasChanged(was)
	})
}

// hasChanged says that an account is not as it was, in what a run changes. The rest is not compared: people change
// a shell, and a journal of a former release does not have it.
func (u *undoer) hasChanged(was machine.Account) bool {
	is, ok, err := u.m.Accounts.User(was.Name)
	return err == nil && ok && (is.Group != was.Group || is.Home != was.Home)
}

func (u *undoer) accounts(ctx context.Context) error {
	var errs []error
	for _, was := range u.j.Accounts {
		if u.hasChanged(was) {
			if err := u.m.Accounts.Usermod(ctx, was); err != nil {
				errs = append(errs, fmt.Errorf("change user %s back: %w", was.Name, err))
			}
		}
	}

	return errors.Join(errs...)
}

// homes gives a home back to who had it: the snippet that stood before says so. What the run made a
// home of nobody's before stays, as its user does.
func (u *undoer) homes(ctx context.Context) error {
	nothingReplaced := !u.j.Steps["accounts"] && u.sameBoot // a power cut may take the line of the step along
	if nothingReplaced {
		return nil
	}

	var paths []string
	for _, p := range u.j.Puts {
		if strings.Contains(p.Path, "/tmpfiles.d/") && strings.HasSuffix(p.Path, ".conf") && p.Was.Kind == owned.File {
			paths = append(paths, p.Path)
		}
	}

	if len(paths) == 0 {
		return nil
	}
	if err := u.m.Accounts.Tmpfiles(ctx, paths); err != nil {
		return fmt.Errorf("give homes back: %w", err)
	}

	return nil
}

// bringUp gives enablement back and runs again what ran.
func (u *undoer) bringUp(ctx context.Context) error {
	states, err := u.m.Units(ctx, u.names)
	if err != nil {
		return err
	}

	var enable []string
	for _, w := range u.j.Units {
		if w.File == "enabled" && !states[w.Name].Enabled() {
			enable = append(enable, w.Name)
		}
	}

	if len(enable) > 0 {
		if err := u.m.Systemd.Enable(ctx, enable); err != nil {
			return err
		}
	}
	if u.j.Reload || len(enable) > 0 {
		if err := u.m.Systemd.Reload(ctx); err != nil {
			return err
		}
	}
	if !u.sameBoot {
		return u.queue(ctx)
	}

	return u.runAgain(ctx)
}

func (u *undoer) runAgain(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, jobDeadline)
	defer cancel()

	states, err := u.m.Units(ctx, u.names)
	if err != nil {
		return err
	}

	var keys, reload, restart, start []string
	touched := u.j.Steps["start"] && !u.j.Steps["ran"] // by the run, and not by an undo yet
	for _, w := range u.j.Units {
		s := states[w.Name]
		sameLife := s.Running() && s.Invocation == w.Life
		switch {
		case !w.Ran:
		case w.Key:
			if s.Active != "active" {
				keys = append(keys, w.Name)
			}
		case w.Reload && sameLife && s.CanReload:
			if touched {
				reload = append(reload, w.Name) // with what it had before: its connections live
			}
		case w.Acted && touched:
			restart = append(restart, w.Name)
		case !s.Running():
			start = append(start, w.Name)
		}
	}

	jobs := map[string]error{}
	ask := func(verb string, names []string) {
		if len(names) == 0 {
			return
		}

		u.m.Systemd.ResetFailed(ctx, names)
		for n, err := range u.m.Systemd.Job(ctx, verb, names) {
			jobs[n] = err
		}
	}

	ask("start", keys)
	ask("reload", reload)
	ask("restart", restart)
	ask("start", start)
	if states, err = u.m.Units(ctx, u.names); err != nil {
		return err
	}

	var errs []error
	for _, n := range slices.Concat(keys, restart, start) {
		if s := states[n]; jobs[n] != nil && !s.Running() {
			errs = append(errs, fmt.Errorf("unit %s ran before: %w", n, jobs[n]))
		}
	}

	return errors.Join(errs...)
}
