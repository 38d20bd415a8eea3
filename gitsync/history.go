package gitsync

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"

	"bellhop/gitsync/bare"
	"bellhop/gitsync/objects"
	"bellhop/internal/plain"
)

// maxHistory is how many commits a walk through history looks at.
const maxHistory = 200_000

// commit reads a commit of the clone.
func (r *Repo) commit(h plumbing.Hash) (*object.Commit, error) {
	var raw []byte
	err := r.read(func(s *bare.Store) (err error) {
		raw, err = s.Read(context.Background(), plumbing.CommitObject, h)
		return err
	})
	if err != nil {
		return nil, err
	}

	o := &plumbing.MemoryObject{}
	o.SetType(plumbing.CommitObject)
	o.Write(raw)
	c := &object.Commit{}
	if err := c.Decode(o); err != nil {
		return nil, fmt.Errorf("%w: commit %s: %s", objects.ErrMalformed, h.String()[:10], plain.Line(err.Error(), 200))
	}

	return c, nil
}

// hasCommit proves that a commit of any size is there, and that its tree is.
func (r *Repo) hasCommit(h plumbing.Hash) error {
	return r.read(func(s *bare.Store) error {
		tree, _, err := s.Links(context.Background(), h)
		if err != nil {
			return err
		}
		if _, _, err := s.Stat(tree); errors.Is(err, plumbing.ErrObjectNotFound) {
			return fmt.Errorf("%w: tree of %s is missing", errDamaged, h.String()[:10])
		} else if err != nil {
			return err
		}
		return nil
	})
}

// ancestors calls visit for a commit and its ancestors, the nearer first, until visit returns
// false. It ends with an error after most commits.
func (r *Repo) ancestors(ctx context.Context, head plumbing.Hash, most int, visit func(plumbing.Hash) bool) error {
	seen := map[plumbing.Hash]bool{head: true}
	for queue := []plumbing.Hash{head}; len(queue) > 0; queue = queue[1:] {
		h := queue[0]
		if err := ctx.Err(); err != nil {
			return err
		}
		if !visit(h) {
			return nil
		}
		var parents []plumbing.Hash
		err := r.read(func(s *bare.Store) (err error) {
			_, parents, err = s.Links(ctx, h)
			return err
		})
		if err != nil {
			return fmt.Errorf("history of %s: %w", head.String()[:10], err)
		}
		for _, p := range parents {
			if seen[p] {
				continue
			}
			if len(seen) >= most {
				return fmt.Errorf("history of %s: %w", head.String()[:10], errLong)
			}
			seen[p] = true
			queue = append(queue, p)
		}
	}

	return nil
}

var errLong = errors.New("it is longer than what is looked at")

// holds says whether old is head or one of its ancestors.
func (r *Repo) holds(ctx context.Context, head, old plumbing.Hash) (found bool, err error) {
	err = r.ancestors(ctx, head, maxHistory, func(h plumbing.Hash) bool {
		found = h == old
		return !found
	})
	if errors.Is(err, errLong) {
		err = fmt.Errorf("%w: %s is not among its newest %d commits", err, old.String()[:10], maxHistory)
	}

	return found, err
}

// maxSince is how many commits are asked for their message.
const maxSince = 10_000

// Since returns the messages of the commits that head holds and last does not, the newest
// 10,000 at most. If last is gone it is head's message alone. What is too large to read has none.
func (r *Repo) Since(ctx context.Context, last, head string) ([]string, error) {
	if err := r.open(); err != nil {
		return nil, err
	}

	old := map[plumbing.Hash]bool{}
	err := r.ancestors(ctx, plumbing.NewHash(last), maxHistory, func(h plumbing.Hash) bool { old[h] = true; return true })
	if errors.Is(err, plumbing.ErrObjectNotFound) {
		c, err := r.commit(plumbing.NewHash(head))
		if err != nil {
			return nil, err
		}
		return []string{plain.Text(c.Message, maxMessage)}, nil
	}

	if err != nil {
		return nil, err
	}

	return r.messages(ctx, plumbing.NewHash(head), old)
}

// messages reads those of a commit and its ancestors, but for old ones.
func (r *Repo) messages(ctx context.Context, head plumbing.Hash, old map[plumbing.Hash]bool) ([]string, error) {
	var all []string
	seen := map[plumbing.Hash]bool{}
	for queue := []plumbing.Hash{head}; len(queue) > 0 && len(seen) < maxSince; queue = queue[1:] {
		h := queue[0]
		if seen[h] || old[h] {
			continue
		}
		seen[h] = true
		if c, err := r.commit(h); err == nil {
			all = append(all, plain.Text(c.Message, maxMessage))
		}
		var parents []plumbing.Hash
		err := r.read(func(s *bare.Store) (err error) {
			_, parents, err = s.Links(ctx, h)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("history of %s: %w", head.String()[:10], err)
		}
		queue = append(queue, parents...)
	}

	return all, nil
}

// resolve finds the commit whose id starts with prefix.
func (r *Repo) resolve(prefix string) (plumbing.Hash, error) {
	var found []plumbing.Hash
	err := r.read(func(s *bare.Store) error {
		ids, err := s.WithPrefix(prefix)
		for _, id := range ids {
			if kind, _, err := s.Stat(id); err == nil && kind == plumbing.CommitObject && strings.HasPrefix(id.String(), prefix) {
				found = append(found, id)
			}
		}
		return err
	})
	switch {
	case err != nil:
		return plumbing.ZeroHash, err
	case len(found) == 0:
		return plumbing.ZeroHash, plumbing.ErrObjectNotFound
	case len(found) > 1:
		return plumbing.ZeroHash, fmt.Errorf("%w: %s is the start of %d commits: give more digits", ErrUnknown, prefix, len(found))
	}

	return found[0], nil
}
