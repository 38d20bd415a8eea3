package gitsync

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"unicode/utf8"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"

	"bellhop/gitsync/bare"
	"bellhop/gitsync/objects"
	"bellhop/internal/plain"
)

// A folder is one tree object, by name.
type folder struct {
	entries []entry
	bad     error // a name that no file of a checkout can have; told to who lists the folder
	bytes   int   // of the object
}

// errName is in the error of a folder that holds such a name: git refuses to make it, so
// somebody made it by hand.
const errName = unfit("a name that no folder may hold")

// unfit is what is wrong with a commit itself, whoever reads it and however often: it is fs.ErrInvalid.
type unfit string

func (e unfit) Error() string { return string(e) }

// Is tells whether target is fs.ErrInvalid.
func (e unfit) Is(target error) bool { return target == fs.ErrInvalid }

// list reads a folder of the clone. A name that is not UTF-8 is listed as it stands, as
// os.DirFS does, and can't be opened: only who wants that file has to complain.
func (r *Repo) list(h plumbing.Hash) (*folder, error) {
	var raw []byte
	err := r.read(func(s *bare.Store) (err error) {
		raw, err = s.Read(context.Background(), plumbing.TreeObject, h)
		return err
	})
	var large *objects.TooLarge
	if errors.As(err, &large) {
		return nil, unfit(fmt.Sprintf("the folder lists %s of names: up to %s are read", objects.Bytes(large.Size), objects.Bytes(large.Limit)))
	}

	if err != nil {
		return nil, err
	}

	tree, err := objects.ParseTree(string(raw))
	if err != nil {
		return nil, fmt.Errorf("tree %s: %w", h.String()[:10], err)
	}

	f := &folder{entries: make([]entry, 0, len(tree)), bytes: len(raw)}
	for _, e := range tree {
		if !validName(e.Name) {
			f.bad = fmt.Errorf("%w: %q", errName, plain.Line(e.Name, 80))
			continue
		}
		f.entries = append(f.entries, entry{e.Name, e.ID, modeOf(e.Mode)})
	}

	slices.SortFunc(f.entries, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	for i := 1; i < len(f.entries); i++ {
		if f.entries[i].name == f.entries[i-1].name {
			f.bad = fmt.Errorf("%w twice: %q", errName, plain.Line(f.entries[i].name, 80))
		}
	}

	return f, nil
}

// validName refuses names that lead elsewhere. A backslash leads nowhere, and units have it:
// srv-my\x2ddata.mount.
func validName(name string) bool {
	isFolder := name == "" || name == "." || name == ".."
	if isFolder || strings.EqualFold(name, ".git") || strings.ContainsAny(name, "/\x00") {
		return false
	}

	return !utf8.ValidString(name) || fs.ValidPath(name)
}

func modeOf(m filemode.FileMode) fs.FileMode {
	switch m {
	case filemode.Dir:
		return fs.ModeDir | 0o755
	case filemode.Executable:
		return 0o755
	case filemode.Symlink:
		return fs.ModeSymlink | 0o777
	case filemode.Submodule:
		return fs.ModeIrregular
	}

	return 0o644
}

// A treeCache keeps the folders of one snapshot that were listed lately, and counts the files
// that were read.
type treeCache struct {
	blobs atomic.Int64

	mu    sync.Mutex
	dirs  map[plumbing.Hash]*folder
	bytes int
}

// maxCached is how many bytes of tree objects a snapshot keeps.
const maxCached = 32 << 20

func newTreeCache() *treeCache { return &treeCache{dirs: map[plumbing.Hash]*folder{}} }

func (c *treeCache) get(h plumbing.Hash) *folder {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dirs[h]
}

// put keeps a folder. When there is no room it forgets all others: a commit that needs that is
// rare, and what a walk needs next is what it read last.
func (c *treeCache) put(h plumbing.Hash, f *folder) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bytes += f.bytes; c.bytes > maxCached {
		clear(c.dirs)
		c.bytes = f.bytes
	}

	c.dirs[h] = f
}
