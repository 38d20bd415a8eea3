package undo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"bellhop/internal/bundle"
	"bellhop/internal/host/owned"
	"bellhop/internal/host/stamps"
	"bellhop/internal/host/state"
)

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
		if isBarred(p, err) {
			u.leave(p, err)
			continue
		}
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
			gone = append(gone, owned.Change{Path: p.Path, Was: is.Entry, Shared: p.Shared})
		} else {
			back = append(back, p.Undone(is.Entry))
		}
	}

	u.keepEdits(ctx, edited)
	written := stamps.Written{}

	// What the run brought leaves first, with its folders: a file may have stood there.
	for _, puts := range [][]owned.Change{gone, back} {
		errs = append(errs, u.replace(puts, func(p string, is owned.Stamp) {
			written.Note(p, is)
			u.m.Mark("undone " + p)
		}))
		u.m.Tree().Sweep(u.j.Puts)
		u.m.Tree().RemoveFolders(u.j.Dirs)
	}

	stamps.SaveUndone(u.m, back, written)
	return errors.Join(errs...)
}

// A service's user may bar the way to what bellhop put into his folders, while a run is at work or
// goes back. What is his to bar does not stop the rest: it stays as he made it, the undo says so, and the
// next push is refused that service until it is moved away. Else one user could keep a whole host from going back, and
// from every push after it.

// replace does what puts say, but for those that are barred.
func (u *undoer) replace(puts []owned.Change, step owned.Step) error {
	for {
		err := u.m.ReplaceFiles(puts, step)
		var at *owned.ChangeError
		if !errors.As(err, &at) {
			return err
		}

		isSame := func(p owned.Change) bool { return p.Path == at.Path }
		i := slices.IndexFunc(puts, isSame)
		if i < 0 || !isBarred(puts[i], err) {
			return err
		}

		if at.IsOfFolder() { // all others there would fail one by one
			dir := owned.ParentOf(at.Path) + "/"
			isSame = func(p owned.Change) bool { return strings.HasPrefix(p.Path, dir) }
		}
		u.leave(puts[i], err)
		puts = slices.DeleteFunc(slices.Clone(puts), isSame)
	}
}

// isBarred says that it is somebody other than root who keeps p from being put back.
func isBarred(p owned.Change, err error) bool {
	var blocked *owned.BlockedError
	var at *owned.ChangeError
	if errors.As(err, &blocked) {
		return true
	}
	return p.Shared && errors.As(err, &at) && at.IsTaken()
}

// leave says that p stays as it is.
func (u *undoer) leave(p owned.Change, err error) {
	u.warnings = append(u.warnings, fmt.Sprintf("%s could not be put back, and stays as its user left it: %v", p.Path, err))
}

// A run that waits to be confirmed gives people time to edit what it brought. When it goes back,
// their edit gives way to what was there before the run, and is kept like any other edit.

// isEdited says that somebody wrote a file where p put something: it is neither what was there
// before the run, nor what the run brought.
func isEdited(p owned.Change, is owned.Sight) bool {
	known := is.Digest == p.Was.Digest || is.Digest == p.Want.Digest
	return is.Kind == owned.File && !is.Unread() && !known
}

// keepEdits stores the edited files, and has the record name them, so that they stay. It does not
// stop the way back: what can't be kept is told without a place.
func (u *undoer) keepEdits(ctx context.Context, edited []owned.Change) {
	now, err := u.m.Current()
	kept := err == nil && now.Exists && len(edited) > 0
	for _, p := range edited {
		digest, err := u.m.Blobs().Keep(ctx, p.Path, bundle.MaxBlob)
		isTheEdit := err == nil && digest == p.Was.Digest
		kept = kept && isTheEdit && u.m.Blobs().Sync([]string{digest}) == nil
		now.Edited = slices.DeleteFunc(now.Edited, func(e owned.Change) bool { return e.Path == p.Path })
		now.Edited = append(now.Edited, owned.Change{Path: p.Path, Was: p.Was})
	}
	kept = kept && u.m.Commit(now, now) == nil

	for _, p := range edited {
		place := ""
		if kept {
			place = state.BlobDir + "/" + p.Was.Digest
		}
		u.restored, u.edits = append(u.restored, p.Path), append(u.edits, place)
	}
}
