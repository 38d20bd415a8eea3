package secrets

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// Bounds on looking through one tree. A commit that has more is refused: what was not looked at
// may hold a private key.
const (
	maxWalked   = 1_000_000 // files and folders
	maxWalkDeep = 128       // folders in each other
	maxWalkRead = 4 << 30   // bytes
	maxFindings = 1000
)

// A walk goes through a tree once. Git names equal folders by one id, so a few hundred kilobytes can
// spell out a tree of a hundred million files: a folder in which nothing was found is not looked
// through again where it is found a second time.
type walk struct {
	ctx   context.Context
	old   fs.FS // what is the same there is passed over; nil: nothing is
	tree  fs.FS
	visit func(name string, d fs.DirEntry)
	stop  func(name, why string) // called for what is too much to look through

	unread func(name string) // called for a folder that can't be read; nil: stop is called

	plain   map[plainKey]bool
	marks   int // things found, and folders passed over since old has them
	entries int
	read    int64
	full    bool // more was found than anybody reads
	ended   bool
}

// A plainKey is a folder in which nothing was found: by its content, and by where it is.
type plainKey struct {
	id   string
	zone zone
}

// A zone says what is expected of files by their folder alone.
type zone int

const (
	elsewhere     zone = iota
	belowSecrets       // everything is sealed
	hiddenSecrets      // below secrets/, in a folder whose name begins with a dot
)

func zoneOf(dir string) zone {
	rest, ok := strings.CutPrefix(dir+"/", Dir+"/")
	switch {
	case !ok:
		return elsewhere
	case strings.HasPrefix(rest, ".") || strings.Contains(rest, "/."):
		return hiddenSecrets
	}

	return belowSecrets
}

// all calls visit for every file that is not the same in old at the same path, in order.
func (w *walk) all() {
	w.plain = map[plainKey]bool{}
	w.folder(".", 0)
}

func (w *walk) folder(dir string, depth int) {
	if w.over(dir) {
		return
	}
	if same(w.old, w.tree, dir) {
		w.marks++
		return
	}

	if depth > maxWalkDeep {
		w.fail(dir, fmt.Sprintf("more than %d folders in each other", maxWalkDeep))
		return
	}

	key := plainKey{hashOf(w.tree, dir), zoneOf(dir)}
	known := key.id != "" && dir != "."
	if known && w.plain[key] {
		return
	}

	before := w.marks
	w.list(dir, depth)
	if known && w.marks == before && !w.ended {
		w.plain[key] = true
	}
}

func (w *walk) list(dir string, depth int) {
	entries, err := fs.ReadDir(w.tree, dir)
	if err != nil {
		w.cannotRead(dir)
		return
	}

	w.entries += len(entries)

	for _, e := range entries {
		name := path.Join(dir, e.Name())
		switch {
		case w.over(name):
			return
		case e.IsDir() && e.Name() == ".git":
		case e.IsDir():
			w.folder(name, depth+1)
		case same(w.old, w.tree, name):
			w.marks++
		case e.Type().IsRegular() && equalBytes(w.old, w.tree, name):
		default:
			w.visit(name, e)
		}
	}
}

func (w *walk) cannotRead(dir string) {
	if w.unread == nil {
		w.fail(dir, "cannot be read")
		return
	}

	w.marks++
	w.unread(dir)
}

// fail reports what cannot be looked through.
func (w *walk) fail(name, why string) {
	w.marks++
	w.stop(name, why)
}

// over says whether the walk must end, and says why once.
func (w *walk) over(name string) bool {
	if w.ended {
		return true
	}

	why := ""
	switch {
	case w.ctx.Err() != nil:
		why = fmt.Sprintf("looking through the files was ended here: %v", context.Cause(w.ctx))
	case w.entries > maxWalked:
		why = fmt.Sprintf("more than %d files and folders", maxWalked)
	case w.read > maxWalkRead:
		why = fmt.Sprintf("the files are larger than %d GiB in all", int64(maxWalkRead)>>30)
	case w.full:
		why = "and more: the rest was not looked through"
	default:
		return false
	}

	w.ended = true
	w.stop(name, why)
	return true
}

// An index knows what blobs a tree holds, at any path: a file that was moved is not new. It is made when
// it is first asked, which only a file does that would be refused.
type index struct {
	ctx  context.Context
	tree fs.FS
	ids  map[string]bool
	rest []string // regular files without an id
}

func (x *index) holds(id string, data []byte) bool {
	if x.tree == nil {
		return false
	}
	if x.ids == nil {
		x.make()
	}
	if id != "" && x.ids[id] {
		return true
	}

	for _, name := range x.rest {
		if x.ctx.Err() != nil {
			return false
		}
		if info, err := fs.Stat(x.tree, name); err != nil || info.Size() != int64(len(data)) {
			continue
		}
		b, err := readFile(x.tree, name)
		found := err == nil && bytes.Equal(b, data)
		clear(b)
		if found {
			return true
		}
	}

	return false
}

func (x *index) make() {
	x.ids = map[string]bool{}
	w := &walk{ctx: x.ctx, tree: x.tree, stop: func(string, string) {}}
	w.visit = func(name string, d fs.DirEntry) {
		id := hashOf(x.tree, name)
		switch {
		case !d.Type().IsRegular():
		case id != "":
			x.ids[id] = true
		default:
			x.rest = append(x.rest, name)
		}
	}

	w.all()
}
