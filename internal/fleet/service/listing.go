package service

import "bellhop/internal/fleet/tree"

// A listing is what a service's folder holds, in the order that it was walked: a folder's objects and
// the folders below it are in one row each, so that those of an unchanged folder are taken over
// without a look at the rest.
type listing struct {
	Objects []tree.Object
	folders []folder       // each before those below it
	at      map[string]int // by path, in folders
}

// A folder is one folder with the rows of what is below it.
type folder struct {
	path, hash    string // hash "": not known
	objects, upTo int    // listing.objects[objects:upTo]
	last          int    // listing.folders[its own:last]
}

func newListing() listing { return listing{at: map[string]int{}} }

// begin notes that dir is walked from here on; the function that it returns ends it.
func (l *listing) begin(dir, hash string) func() {
	i := len(l.folders)
	l.at[dir] = i
	l.folders = append(l.folders, folder{path: dir, hash: hash, objects: len(l.Objects)})
	return func() { l.folders[i].upTo, l.folders[i].last = len(l.Objects), len(l.folders) }
}

// take takes over what old has below dir, if its content is the same, and says whether it was.
func (l *listing) take(old *listing, dir, hash string) bool {
	i, ok := old.at[dir]
	if !ok || hash == "" || old.folders[i].hash != hash {
		return false
	}

	from := old.folders[i]
	objects, folders := len(l.Objects)-from.objects, len(l.folders)-i
	l.Objects = append(l.Objects, old.Objects[from.objects:from.upTo]...)
	for _, f := range old.folders[i:from.last] {
		f.objects, f.upTo, f.last = f.objects+objects, f.upTo+objects, f.last+folders
		l.at[f.path] = len(l.folders)
		l.folders = append(l.folders, f)
	}

	return true
}
