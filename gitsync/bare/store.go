// Package bare reads and writes the files of a bare git repository: objects, refs, and where its
// history ends.
//
// A Store is its objects. What is written leaves the repository whole, whatever ends the process, and is
// what plain git reads too.
package bare

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/go-git/go-git/v5/plumbing"

	"bellhop/gitsync/objects"
)

var id = regexp.MustCompile(`^[0-9a-f]{40}$`)

// IsID says that text is the id of an object.
func IsID(text string) bool { return id.MatchString(text) }

// A Store is the objects of a repository, as they were when it was opened.
type Store struct {
	*objects.DB
	Dir  string
	Ends map[plumbing.Hash]bool // commits without parents here: the remote is shallow
}

// Open opens the repository in dir.
func Open(dir string) *Store {
	return OpenWith(dir, filepath.Join(dir, "objects", "pack"))
}

// OpenWith opens the repository in dir. Temporary files are made in temp.
func OpenWith(dir, temp string) *Store {
	return &Store{objects.Open(filepath.Join(dir, "objects"), temp), dir, readShallow(dir)}
}

// Close closes the repository; a nil Store is closed already.
func (s *Store) Close() {
	if s != nil {
		s.DB.Close()
	}
}

// Links gives a commit's tree and its parents; none where the remote's history ends.
func (s *Store) Links(ctx context.Context, commit plumbing.Hash) (tree plumbing.Hash, parents []plumbing.Hash, err error) {
	tree, parents, err = s.DB.Links(ctx, commit)
	if s.Ends[commit] {
		parents = nil
	}

	return tree, parents, err
}

// Receive stores a pack as it comes.
func (s *Store) Receive(ctx context.Context, pack io.Reader, limits objects.Limits) error {
	return objects.Receive(ctx, filepath.Join(s.Dir, "objects"), pack, limits)
}

// Haves lists commits to offer to the remote: from each start its newest ancestors.
func (s *Store) Haves(ctx context.Context, starts []plumbing.Hash) []plumbing.Hash {
	const most = 64
	var haves []plumbing.Hash
	seen := map[plumbing.Hash]bool{plumbing.ZeroHash: true}
	for queue := slices.Clone(starts); len(queue) > 0 && len(haves) < most; queue = queue[1:] {
		h := queue[0]
		if seen[h] {
			continue
		}
		seen[h] = true
		_, parents, err := s.Links(ctx, h)
		if err != nil {
			continue
		}
		haves = append(haves, h)
		queue = append(queue, parents...)
	}

	return haves
}

// Peel follows tag objects to what they are of. It returns false where that is no commit.
func (s *Store) Peel(ctx context.Context, id plumbing.Hash) (plumbing.Hash, bool) {
	for range 5 {
		kind, _, err := s.Stat(id)
		if err != nil || kind != plumbing.TagObject {
			return id, err == nil && kind == plumbing.CommitObject
		}
		raw, err := s.Read(ctx, plumbing.TagObject, id)
		if err != nil || len(raw) < 47 || string(raw[:7]) != "object " {
			return id, false
		}
		id = plumbing.NewHash(string(raw[7:47]))
	}

	return id, false
}

// Copy copies a commit and all it reaches from src to the clone in dir, as far as that
// lacks it. What a clone has, it has whole: packs come in complete or not at all.
func Copy(ctx context.Context, dir string, src *Store, want plumbing.Hash) error {
	if want.IsZero() {
		return nil
	}

	dst := Open(dir)
	defer dst.Close()
	limits := objects.Limits{Packed: 1 << 40} // nothing comes over a wire
	ids, err := objects.Missing(ctx, dst.DB, src.DB, want, src.Ends, limits)
	if err != nil || len(ids) == 0 {
		return err
	}

	pr, pw := io.Pipe()
	sent := make(chan error, 1)
	go func() {
		err := objects.Send(ctx, pw, src.DB, ids)
		pw.CloseWithError(err)
		sent <- err
	}()
	err = dst.Receive(ctx, pr, limits)
	pr.CloseWithError(io.ErrClosedPipe)
	if serr := <-sent; serr != nil && !errors.Is(serr, io.ErrClosedPipe) {
		return serr
	}

	return err
}
