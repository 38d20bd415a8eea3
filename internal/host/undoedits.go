package host

import (
	"context"
	"slices"

	"bellhop/internal/bundle"
	"bellhop/internal/host/owned"
	"bellhop/internal/host/state"
)

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
