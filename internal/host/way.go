package host

import (
	"fmt"
	"strings"
)

// A file may become a folder from one commit to the next, and a folder a file. Then what
// leaves is in the way of what comes, so it leaves first, and a folder that is to be replaced
// must hold nothing but what bellhop put there.

func below(p, dir string) bool { return strings.HasPrefix(p, dir+"/") }

// look is the machine's, but for a path whose place is still taken by something of bellhop's
// that leaves: there stands nothing yet.
func (w *work) look(p string, wanted map[string]desire) (sight, error) {
	o := w.old.Owned.Paths[p]
	known := []int64{w.m.blobSize(o.Now.Digest), w.m.blobSize(o.Original.Digest)}
	want, wants := wanted[p]
	if !wants {
		return w.folders.look(p, known...)
	}
	known = append(known, want.size)
	if up := w.leavesAbove(p, wanted); up != "" {
		w.way[p] = up
		return sight{}, nil
	}
	if up := w.returnsAbove(p, wanted); up != "" {
		return sight{}, fmt.Errorf("%s is to be a folder, and what stood at %s before bellhop came has to return there: move it away on the host", up, up)
	}
	is, err := w.folders.look(p, known...)
	if err == nil && is.Kind == foreign && w.clears(p, wanted) {
		w.cleared[p] = true
		return sight{}, nil
	}
	return is, err
}

// leavesAbove is a file or link of bellhop's own above p that leaves for good, or "".
func (w *work) leavesAbove(p string, wanted map[string]desire) string {
	for up := parentOf(p); up != "/"; up = parentOf(up) {
		if w.goes(up, wanted) {
			if is, err := w.m.look(w.ctx, up); err == nil && (is.Kind == aFile || is.Kind == aLink) {
				return up
			}
		}
	}
	return ""
}

// returnsAbove is a path above p where something of the host's own returns, or "".
func (w *work) returnsAbove(p string, wanted map[string]desire) string {
	for up := parentOf(p); up != "/"; up = parentOf(up) {
		o, mine := w.old.Owned.Paths[up]
		if _, wants := wanted[up]; mine && !wants && (o.Original.Kind == aFile || o.Original.Kind == aLink) {
			return up
		}
	}
	return ""
}

// goes says whether p is bellhop's, leaves, and leaves nothing behind.
func (w *work) goes(p string, wanted map[string]desire) bool {
	o, mine := w.old.Owned.Paths[p]
	_, wants := wanted[p]
	return mine && !wants && o.Original.Kind == nothing
}

// clears says whether the folder dir was made by bellhop and holds only what leaves.
func (w *work) clears(dir string, wanted map[string]desire) bool {
	made := false
	for _, d := range w.old.Owned.Dirs {
		made = made || d == dir
	}
	if !made {
		return false
	}
	f, err := w.m.folder(dir, false)
	if err != nil {
		return false
	}
	defer f.Close()
	entries, err := f.ReadDir(-1)
	if err != nil {
		return false
	}
	for _, e := range entries {
		p := dir + "/" + e.Name()
		if e.IsDir() && !w.clears(p, wanted) || !e.IsDir() && !w.goes(p, wanted) {
			return false
		}
	}
	return true
}

// clearWay removes what leaves and stands where a folder of another path is to be, or below
// where a file is to be. It returns what is left to do.
func (in *installer) clearWay(puts []put) (rest []put, err error) {
	var folders []string
	for _, p := range puts {
		if p.Want.Kind != nothing || !inTheWay(p.Path, puts, &folders) {
			rest = append(rest, p)
			continue
		}
		if err := in.move(p); err != nil {
			return nil, err
		}
		in.step(p.Path)
	}
	in.m.removeFolders(folders)
	return rest, nil
}

// inTheWay also adds the folders that are in the way together with p.
func inTheWay(p string, puts []put, folders *[]string) bool {
	way := false
	for _, q := range puts {
		switch {
		case q.Want.Kind == nothing:
		case below(q.Path, p):
			way = true
		case below(p, q.Path):
			way = true
			for up := parentOf(p); up == q.Path || below(up, q.Path); up = parentOf(up) {
				*folders = append(*folders, up)
			}
		}
	}
	return way
}
