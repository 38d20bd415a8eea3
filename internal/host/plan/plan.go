package plan

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"bellhop/internal/bundle"
	"bellhop/internal/host/check"
	"bellhop/internal/host/machine"
	"bellhop/internal/host/owned"
	"bellhop/internal/host/state"
)

// A Plan is everything that one run does, known before anything is touched.
type Plan struct {
	refusals

	m      state.Dir
	ctx    context.Context // of the plan
	held   []heldService   // whose entries stay as they are
	Offer  *bundle.Offer
	Old    state.Generation // the current generation, adopted things among it
	Next   state.OwnedList  // the owned list when the run is done
	Puts   []owned.Change
	wanted map[string]desire
	Own    map[string][]byte // bytes of bellhop's own units, by digest
	Dirs   []string          // folders that will be made
	Keys   []state.KeyMove
	diff   []bundle.Change

	LeavingAbove map[string]string      // the leaving file above a path that is a folder's from now on
	Cleared      map[string]bool        // folders that leave whole, since a file takes their place
	Changed      map[string]bool        // triggers that were hit
	Seen         map[string]owned.Stamp // files that have the bytes that are wanted, as they were before they were read
	Restored     []string               // edited by hand, put back
	Edits        []string               // where what they held is kept
	Edited       []owned.Change
	Kept         []string // accounts and homes that stay
	Warnings     []string

	made          map[string]bool   // users that bellhop made, now or ever
	Making        []string          // users that this run makes
	Accounts      []machine.Account // that change, as they were
	Usermods      []machine.Account // as they shall be
	Create        bool              // an account or group is to be made
	Units         Units
	stoppedByUndo state.UnitsStoppedByUndo // units that a run which was undone left so
	System        *state.SystemMove        // of a NixOS host; nil: its system stays
	folders       *owned.Looker

	lateOwner error // of the first key whose owner the host does not have; the system that comes may make it
}

// Make compares what the offer wants with what the host really has. It touches nothing.
// staged tells whether the value of a key was brought. A service one of whose paths is blocked is held, and
// the others are planned again.
func Make(ctx context.Context, m state.Dir, o *bundle.Offer, now state.Generation, staged func(key string) bool) (*Plan, error) {
	return makeAnd(ctx, m, o, now, staged, func(*Plan) error { return nil })
}

// Whole is Make, with what systemd is to do and all that can be found wrong with the host's part of it.
// giveUp says that the host is given back: then nothing of it stays, and no guard asks whether that is meant.
func Whole(ctx context.Context, m state.Dir, o *bundle.Offer, now state.Generation, staged func(key string) bool, giveUp bool) (*Plan, error) {
	return makeAnd(ctx, m, o, now, staged, func(w *Plan) error {
		if err := checkNeeds(w); err != nil {
			return err
		}
		if !giveUp {
			if err := w.CheckPrune(); err != nil {
				return err
			}
		}
		for _, step := range []func(context.Context) error{w.PlanUnits, w.checkUnitFiles, w.checkBusy} {
			if err := step(ctx); err != nil {
				return err
			}
		}
		return nil
	})
}

// makeAnd is Make, and then more. more may find a service that is to be held.
func makeAnd(ctx context.Context, m state.Dir, o *bundle.Offer, now state.Generation, staged func(key string) bool, more func(*Plan) error) (*Plan, error) {
	old, err := adopt(ctx, m, now, o.Last)
	if err != nil {
		return nil, err
	}

	var held []heldService
	for {
		w, err := makeWithoutHeld(ctx, m, o, old, staged, held)
		if err == nil {
			err = more(w)
		}
		if err == nil {
			err = w.Refused()
		}
		var another *heldError
		if !errors.As(err, &another) {
			return w, err
		}
		if isHeld(held, another.service) {
			return nil, check.Refuse(bundle.RefusedBundle, "%w", err)
		}

		held = append(held, another.heldService)
	}
}

func makeWithoutHeld(ctx context.Context, m state.Dir, o *bundle.Offer, old state.Generation, staged func(key string) bool, held []heldService) (w *Plan, err error) {
	offer := *o
	w = &Plan{refusals: refusals{heldBack: o.Held}, m: m, Offer: &offer, Old: old, held: slices.Clone(held), ctx: ctx, folders: m.Tree().Looker(ctx), Changed: map[string]bool{}, LeavingAbove: map[string]string{}, Cleared: map[string]bool{}, Seen: map[string]owned.Stamp{}}
	if len(held) > 0 {
		offer.Manifest = w.withoutHeld(o.Manifest, old.Manifest)
		if err := check.Manifest(&offer.Manifest); err != nil {
			return nil, check.Refuse(bundle.RefusedBundle, "%w; and without it the rest does not fit together: %w", w.Held(), err)
		}
	}

	for _, h := range w.held {
		if w.isHeldBack(h.service) {
			w.Warnings = append(w.Warnings, h.String())
		}
	}

	w.Next = state.OwnedList{Paths: map[string]state.OwnedPath{}, Units: maps.Clone(old.Owned.Units)}
	if w.made, err = m.MadeUsers(); err != nil {
		return nil, err
	}

	w.diff = bundle.Diff(old.Manifest, offer.Manifest)
	for _, step := range []func() error{w.planPaths, w.planDirs, func() error { return w.planKeys(staged) }, w.planAccounts, w.planSystem} {
		if err := step(); err != nil {
			return nil, err
		}
	}

	return w, nil
}

// adopt is the current generation when the record was lost but the deployer remembers: what equals its
// memory is bellhop's, anything else counts as there before.
func adopt(ctx context.Context, m state.Dir, now state.Generation, last *bundle.Manifest) (state.Generation, error) {
	if now.Exists || last == nil {
		return now, nil
	}

	now.Manifest = *last
	now.Owned = state.OwnedList{Paths: map[string]state.OwnedPath{}}
	wanted, _ := desires(m, last)
	for p, want := range wanted {
		is, err := m.Tree().Look(ctx, p, want.size)
		if err != nil {
			return now, err
		}
		if is.Entry == want.Entry {
			now.Owned.Paths[p] = state.OwnedPath{Now: is.Entry}
		}
	}

	return now, nil
}

// Nothing says that the host holds already what is wanted.
func (w *Plan) Nothing() bool {
	accounts := w.Create || len(w.Usermods) > 0
	return !accounts && w.System == nil && len(w.Puts)+len(w.Keys)+len(w.diff) == 0
}

func (w *Plan) planPaths() error {
	wanted, own := desires(w.m, &w.Offer.Manifest)
	w.wanted, w.Own = wanted, own
	before, _ := desires(w.m, &w.Old.Manifest)
	paths := maps.Clone(w.Old.Owned.Paths)
	if paths == nil {
		paths = map[string]state.OwnedPath{}
	}

	for p := range wanted {
		if _, ok := paths[p]; !ok {
			paths[p] = state.OwnedPath{}
		}
	}
	defer w.folders.Close()

	if err := w.checkPlaces(wanted); err != nil {
		return err
	}

	for _, p := range slices.Sorted(maps.Keys(paths)) {
		o, mine := w.Old.Owned.Paths[p]
		if w.Holds(wanted[p].service) {
			w.Next.Paths[p] = o
			continue
		}

		is, err := w.look(p, wanted)
		want, wants := wanted[p]
		switch {
		case w.ctx.Err() != nil:
			return fmt.Errorf("look at what is on the host: %w", w.ctx.Err())
		case err != nil && wants:
			if err := w.block(p, moveAway(err)); err != nil {
				return err
			}
		case err != nil: // a service user can bar the way to what leaves, but not the run
			w.Warnings = append(w.Warnings, fmt.Sprintf("%s is left where it is: %v", p, err))
		case wants:
			if err := w.planWanted(p, want, is, o, mine); err != nil {
				return err
			}
		default:
			w.planLeaving(p, before[p].trigger, is, o)
		}
	}

	return nil
}

// moveAway is err, with what to do where a path can't be reached.
func moveAway(err error) error {
	return fmt.Errorf("%w: move that away on the host, then bellhop deploy --retry", err)
}

func (w *Plan) planWanted(p string, want desire, is owned.Sight, o state.OwnedPath, mine bool) error {
	if err := checkReplaceable(p, is, mine); err != nil && is.Shared {
		return w.block(p, &owned.BlockedError{Path: p, By: is.By, Err: err})
	} else if err != nil {
		return w.refuse(want.service, err)
	}

	if is.Entry != want.Entry {
		if why := w.m.Tree().Fixed(p); why != "" {
			return w.refuse(want.service, fmt.Errorf("%s %s", p, why))
		}
	}

	edited := is.Entry != o.Now && is.Entry != want.Entry
	if !mine {
		o.Original = is.Back()
	} else if edited {
		w.edit(p, is.Entry)
	}
	if is.Entry != want.Entry {
		w.put(owned.Change{Path: p, Was: is.Entry, Want: want.Entry, Shared: is.Shared}, o)
		w.Changed[want.trigger] = true
	}
	if is.Kind == owned.File && is.Digest == want.Digest {
		w.Seen[p] = is.Stamp
	}

	w.Next.Paths[p] = state.OwnedPath{Now: want.Entry, Original: o.Original}
	return nil
}

// checkReplaceable says why what was seen at p can't make way for something of bellhop's.
func checkReplaceable(p string, is owned.Sight, mine bool) error {
	switch {
	case is.Kind == owned.Foreign:
		return fmt.Errorf("%s is on the host, and is no file, or one of more than %d bytes: move it away there, then bellhop deploy --retry", p, bundle.MaxBlob)
	case is.Unread() && !mine:
		return fmt.Errorf("%s is on the host, and is larger than the %d bytes that are kept of a file in a folder that is not root's alone: move it away there, then bellhop deploy --retry", p, owned.MaxUnknown)
	}
	return nil
}

// put adds what is to be done at a path of bellhop's. A file that was too large to be kept is
// undone to what bellhop had there.
func (w *Plan) put(p owned.Change, o state.OwnedPath) {
	if p.Was.Unread() {
		p.Was, p.Shared = o.Now, false
	}
	w.Puts = append(w.Puts, p)
}

func (w *Plan) planLeaving(p, trigger string, is owned.Sight, o state.OwnedPath) {
	if trigger != "" {
		w.Changed[trigger] = true
	}
	if is.Kind == owned.Foreign {
		w.Warnings = append(w.Warnings, fmt.Sprintf("%s is no file any more, or a very large one, and is left alone", p))
		return
	}
	if why := w.m.Tree().Fixed(p); why != "" {
		w.Warnings = append(w.Warnings, fmt.Sprintf("%s is left where it is: it %s", p, why))
		return
	}
	if is.Entry != o.Now && is.Kind != owned.Nothing {
		w.edit(p, is.Entry)
	}
	if is.Entry != o.Original {
		w.put(owned.Change{Path: p, Was: is.Entry, Want: o.Original, Shared: is.Shared, Back: true}, o)
	}
}

// edit notes that somebody changed p since bellhop wrote it.
func (w *Plan) edit(p string, is owned.Entry) {
	w.Restored = append(w.Restored, p)
	w.Edits = append(w.Edits, keptAt(is))
	if is.Unread() {
		w.Warnings = append(w.Warnings, fmt.Sprintf("%s was changed on the host to a file that is too large to be kept: it is replaced", p))
		return
	}
	if is.Kind != owned.Nothing {
		w.Edited = append(w.Edited, owned.Change{Path: p, Was: is})
	}
}

// EditedMeanwhile notes that p was edited after it was looked at: also where nobody had before.
func (w *Plan) EditedMeanwhile(p string, is owned.Entry) {
	if _, mine := w.Old.Owned.Paths[p]; !mine {
		return
	}

	i := slices.Index(w.Restored, p)
	if i < 0 {
		w.edit(p, is)
		return
	}

	w.Edits[i] = keptAt(is)
	w.Edited = slices.DeleteFunc(w.Edited, func(e owned.Change) bool { return e.Path == p })
	if is.Kind != owned.Nothing {
		w.Edited = append(w.Edited, owned.Change{Path: p, Was: is})
	}
}

// keptAt is where a file that was edited is kept; "" for what is none.
func keptAt(is owned.Entry) string {
	if is.Kind != owned.File || is.Unread() {
		return ""
	}
	return state.BlobDir + "/" + is.Digest
}

// planDirs finds the folders that are missing, and carries on those that bellhop made.
func (w *Plan) planDirs() error {
	dirs := map[string]bool{}
	for _, p := range w.Puts {
		if p.Want.Kind == owned.Nothing {
			continue
		}

		missing, err := w.m.Tree().Missing(p.Path, w.LeavingAbove[p.Path])
		if err != nil {
			if err := w.block(p.Path, moveAway(err)); err != nil {
				return err
			}
			continue
		}

		for _, d := range missing {
			dirs[d] = true
		}
	}

	w.Dirs = slices.Sorted(maps.Keys(dirs))
	for _, d := range w.Old.Owned.Dirs {
		dirs[d] = true
	}

	w.Next.Dirs = slices.Sorted(maps.Keys(dirs))
	return nil
}

// Emptied are folders made by bellhop under which the new bundle has nothing.
func (w *Plan) Emptied() []string {
	var out []string
	for _, d := range w.Next.Dirs {
		used := false
		for p := range w.Next.Paths {
			used = used || strings.HasPrefix(p, d+"/")
		}

		if !used {
			out = append(out, d)
		}
	}

	return out
}

// Names lists what changes, for the result.
func (w *Plan) Names() []string {
	var out []string
	seen := map[string]bool{}
	add := func(n string) {
		if !seen[n] {
			seen[n] = true
			out = append(out, n)
		}
	}

	for _, c := range w.diff {
		add(c.Name)
	}

	if w.System != nil {
		add(bundle.SystemService)
	}

	for _, k := range w.Keys {
		add(k.Name)
	}

	for _, p := range w.Puts {
		if !w.isOwn(p) {
			add(p.Path)
		}
	}

	return out
}

// isOwn says that p is of a unit of bellhop's own, or of the link to a package, which the diff of the
// manifests names.
func (w *Plan) isOwn(p owned.Change) bool {
	_, comes := w.Own[p.Want.Digest]
	name := path.Base(p.Path)
	unit := name == bundle.SettleUnit || name == bundle.KeyMountUnit
	return comes || unit || strings.HasPrefix(p.Path, bundle.PackageDir+"/")
}

// Reload says whether systemd must read its unit files again.
func (w *Plan) Reload() bool {
	for _, p := range w.Puts {
		_, _, isQuadlet := bundle.SplitQuadlet(p.Path)
		if isQuadlet || strings.HasPrefix(p.Path, "/etc/systemd/") || strings.HasPrefix(p.Path, "/run/systemd/") {
			return true
		}
	}
	return false
}

// CheckPrune refuses to let a host lose most of what it has by accident.
func (w *Plan) CheckPrune() error {
	loss := bundle.PruneGuard(w.Old.Manifest, w.Offer.Manifest)
	if loss == nil || w.Offer.AllowPrune {
		return nil
	}
	return check.Refuse(bundle.RefusedBundle, "%d of %d things would leave, of the services %s: more than half needs --allow-prune",
		loss.Gone, loss.Of, strings.Join(loss.Services, ", "))
}
