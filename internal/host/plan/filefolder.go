package plan

import (
	"fmt"

	"bellhop/internal/host/owned"
)

// A file may become a folder from one commit to the next, and a folder a file. Then what
// leaves is in the way of what comes, so it leaves first, and a folder that is to be replaced
// must hold nothing but what bellhop put there.

// look is the machine's, but for a path whose place is still taken by something of bellhop's
// that leaves: that place counts as empty.
func (w *Plan) look(p string, wanted map[string]desire) (owned.Sight, error) {
	o := w.Old.Owned.Paths[p]
	known := []int64{w.m.Blobs().Size(o.Now.Digest), w.m.Blobs().Size(o.Original.Digest)}
	want, wants := wanted[p]
	if !wants {
		return w.folders.Look(p, known...)
	}

	known = append(known, want.size)
	if up := w.leavesAbove(p, wanted); up != "" {
		w.LeavingAbove[p] = up
		return owned.Sight{}, nil
	}
	if up := w.returnsAbove(p, wanted); up != "" {
		return owned.Sight{}, fmt.Errorf("%s is to be a folder, and what stood at %s before bellhop came has to return there: move it away on the host", up, up)
	}

	is, err := w.folders.Look(p, known...)
	if err == nil && is.Kind == owned.Foreign && w.clears(p, wanted) {
		w.Cleared[p] = true
		return owned.Sight{}, nil
	}

	return is, err
}

// leavesAbove is a file or link of bellhop's own above p that leaves for good, or "".
func (w *Plan) leavesAbove(p string, wanted map[string]desire) string {
	for up := owned.ParentOf(p); up != "/"; up = owned.ParentOf(up) {
		if w.goes(up, wanted) {
			if is, err := w.m.Tree().Look(w.ctx, up); err == nil && (is.Kind == owned.File || is.Kind == owned.Link) {
				return up
			}
		}
	}
	return ""
}

// returnsAbove is a path above p where something of the host's own returns, or "".
func (w *Plan) returnsAbove(p string, wanted map[string]desire) string {
	for up := owned.ParentOf(p); up != "/"; up = owned.ParentOf(up) {
		o, mine := w.Old.Owned.Paths[up]
		_, wants := wanted[up]
		returns := o.Original.Kind == owned.File || o.Original.Kind == owned.Link
		if mine && !wants && returns {
			return up
		}
	}
	return ""
}

// goes says whether p is bellhop's, leaves, and leaves nothing behind.
func (w *Plan) goes(p string, wanted map[string]desire) bool {
	o, mine := w.Old.Owned.Paths[p]
	_, wants := wanted[p]
	return mine && !wants && o.Original.Kind == owned.Nothing
}

// clears says whether the folder dir was made by bellhop and holds only what leaves.
func (w *Plan) clears(dir string, wanted map[string]desire) bool {
	made := false
	for _, d := range w.Old.Owned.Dirs {
		made = made || d == dir
	}

	if !made {
		return false
	}

	f, err := w.m.Tree().Folder(dir, false)
	if err != nil {
		return false
	}
	defer f.Close()

	entries, err := f.ReadDir(-1)
	if err != nil {
		return false
	}

	for _, e := range entries {
		leaves := w.goes
		if e.IsDir() {
			leaves = w.clears
		}
		if !leaves(dir+"/"+e.Name(), wanted) {
			return false
		}
	}

	return true
}
