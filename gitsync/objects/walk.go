package objects

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
)

// errEnough ends a copy whose reader has what it wants.
var errEnough = errors.New("enough")

// Links gives the tree and the parents of a commit of any size: it reads no further than the
// lines that name them.
func (db *DB) Links(ctx context.Context, id plumbing.Hash) (tree plumbing.Hash, parents []plumbing.Hash, err error) {
	h := &commitHead{}
	err = db.Copy(ctx, h, id, func(kind plumbing.ObjectType, _ int64) error {
		if kind != plumbing.CommitObject {
			return db.blame(ctx, id, fmt.Errorf("%s is a %s, not a commit", id.String()[:10], kind))
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return tree, nil, err
	}

	if h.tree.IsZero() {
		return tree, nil, db.blame(ctx, id, fmt.Errorf("commit %s names no tree", id.String()[:10]))
	}

	return h.tree, h.parents, nil
}

// A commitHead reads the first lines of a commit as they are written to it.
type commitHead struct {
	tree    plumbing.Hash
	parents []plumbing.Hash
	line    []byte
}

func (h *commitHead) Write(p []byte) (int, error) {
	for _, c := range p {
		if c != '\n' {
			if h.line = append(h.line, c); len(h.line) > len("parent ")+40 {
				return 0, errEnough
			}
			continue
		}
		if !h.add(string(h.line)) {
			return 0, errEnough
		}
		h.line = h.line[:0]
	}

	return len(p), nil
}

func (h *commitHead) add(line string) bool {
	const most = 10_000 // parents
	switch {
	case len(line) == 45 && line[:5] == "tree " && h.tree.IsZero():
		h.tree = plumbing.NewHash(line[5:])
		return true
	case len(line) == 47 && line[:7] == "parent " && len(h.parents) < most:
		h.parents = append(h.parents, plumbing.NewHash(line[7:]))
		return true
	}

	return false
}

// A TreeEntry is one name of a folder, as it stands in its object: Name may hold any byte but
// NUL.
type TreeEntry struct {
	Name string
	Mode filemode.FileMode
	ID   plumbing.Hash
}

// ParseTree reads a tree object. Names share the memory of raw.
func ParseTree(raw string) ([]TreeEntry, error) {
	var entries []TreeEntry
	for len(raw) > 0 {
		e, n, err := parseTreeEntry(raw)
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
		raw = raw[n:]
	}

	return entries, nil
}

// parseTreeEntry reads "100644 name\0" and 20 bytes of id, and says how long that was.
func parseTreeEntry(raw string) (TreeEntry, int, error) {
	mode, n := 0, 0
	for ; n < len(raw) && raw[n] != ' '; n++ {
		digit := raw[n]
		if digit < '0' || digit > '7' || n > 6 {
			return TreeEntry{}, 0, malformed("a tree holds a mode that is none")
		}
		mode = mode<<3 | int(digit-'0')
	}

	if n == 0 {
		return TreeEntry{}, 0, malformed("a tree holds an entry without a mode")
	}

	for end := n + 1; end < len(raw); end++ {
		if raw[end] != 0 {
			continue
		}
		if end+21 > len(raw) {
			break
		}
		e := TreeEntry{Name: raw[n+1 : end], Mode: filemode.FileMode(mode)}
		copy(e.ID[:], raw[end+1:])
		return e, end + 21, nil
	}

	return TreeEntry{}, 0, malformed("a tree is cut off")
}

// eachEntry calls f for the entries of a tree of any size.
func (db *DB) eachEntry(ctx context.Context, id plumbing.Hash, f func(TreeEntry) error) error {
	t := &treeReader{f: f}
	err := db.Copy(ctx, t, id, func(kind plumbing.ObjectType, _ int64) error {
		if kind != plumbing.TreeObject {
			return db.blame(ctx, id, fmt.Errorf("%s is a %s, not a tree", id.String()[:10], kind))
		}
		return nil
	})
	if err == nil && len(t.rest) > 0 {
		err = malformed("tree %s is cut off", id.String()[:10])
	}

	return err
}

// A treeReader reads a tree as it is written to it.
type treeReader struct {
	f    func(TreeEntry) error
	rest []byte
}

func (t *treeReader) Write(p []byte) (int, error) {
	const longest = 64 << 10 // a name
	t.rest = append(t.rest, p...)
	at := 0
	for {
		i := bytes.IndexByte(t.rest[at:], 0)
		if i < 0 || at+i+21 > len(t.rest) {
			break
		}
		e, n, err := parseTreeEntry(string(t.rest[at : at+i+21]))
		if err != nil {
			return 0, err
		}
		if err := t.f(e); err != nil {
			return 0, err
		}
		at += n
	}

	t.rest = append(t.rest[:0], t.rest[at:]...)
	if len(t.rest) > longest {
		return 0, malformed("a tree holds a name of over %s bytes", strconv.Itoa(longest))
	}

	return len(p), nil
}

// Missing lists the objects that a commit of src reaches and that dst lacks. Commits in ends
// have no parents there: src is shallow. What dst has, it has with all that it reaches.
func Missing(ctx context.Context, dst, src *DB, commit plumbing.Hash, ends map[plumbing.Hash]bool, limits Limits) ([]plumbing.Hash, error) {
	m := &missing{ctx: ctx, dst: dst, src: src, seen: map[plumbing.Hash]bool{}, most: limits.withDefaults().Objects}
	for queue := []plumbing.Hash{commit}; len(queue) > 0; queue = queue[1:] {
		id := queue[0]
		lacks, err := m.lacks(id)
		if err != nil {
			return nil, err
		}
		if !lacks {
			continue
		}
		tree, parents, err := src.Links(ctx, id)
		if err != nil {
			return nil, fmt.Errorf("commit %s: %w", id.String()[:10], err)
		}
		if err := m.trees(tree); err != nil {
			return nil, err
		}
		if !ends[id] {
			queue = append(queue, parents...)
		}
	}

	return m.ids, nil
}

type missing struct {
	ctx      context.Context
	dst, src *DB
	seen     map[plumbing.Hash]bool
	ids      []plumbing.Hash
	most     int
}

func (m *missing) lacks(id plumbing.Hash) (bool, error) {
	if m.seen[id] || m.dst.Has(id) {
		return false, m.ctx.Err()
	}

	if len(m.ids) >= m.most {
		return false, over("it holds more than %d objects: that many are taken in one fetch", m.most)
	}

	m.seen[id] = true
	m.ids = append(m.ids, id)
	return true, m.ctx.Err()
}

// trees adds what is missing of a folder and all below it.
func (m *missing) trees(root plumbing.Hash) error {
	lacks, err := m.lacks(root)
	if err != nil || !lacks {
		return err
	}

	for folders := []plumbing.Hash{root}; len(folders) > 0; {
		id := folders[len(folders)-1]
		folders = folders[:len(folders)-1]
		err := m.src.eachEntry(m.ctx, id, func(e TreeEntry) error {
			if e.Mode == filemode.Submodule {
				return nil
			}
			lacks, err := m.lacks(e.ID)
			if lacks && e.Mode == filemode.Dir {
				folders = append(folders, e.ID)
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("folder %s: %w", id.String()[:10], err)
		}
	}

	return nil
}
