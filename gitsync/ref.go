package gitsync

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"

	"bellhop/gitsync/bare"
	"bellhop/gitsync/refs"
	"bellhop/internal/plain"
)

// Ref returns what a branch, a tag or a commit of the remote holds, fetched if need be. It moves
// nothing: the next Sync is as if nobody had asked. A name that is both is the branch, as it is
// for git; refs/tags/NAME says otherwise. A commit is given by its id, or by the start of one (7
// digits at least) where the clone has it.
func (r *Repo) Ref(ctx context.Context, ref string) (Snapshot, error) {
	name := strings.TrimPrefix(strings.TrimPrefix(ref, "refs/heads/"), "refs/tags/")
	if err := refs.CheckName(name); err != nil {
		return Snapshot{}, fmt.Errorf("%w: %q is no name of a branch, tag or commit", ErrUnknown, plain.Line(ref, 80))
	}

	r.work.Lock()
	defer r.work.Unlock()
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()

	if err := r.open(); err != nil {
		return Snapshot{}, err
	}

	conn, err := r.remote.dial(ctx)
	if err != nil {
		return Snapshot{}, fmt.Errorf("read %s: %w", ref, err)
	}

	defer conn.close()
	r.asked.Add(1)
	commit, err := r.fetchRef(ctx, conn, ref)
	if err != nil {
		return Snapshot{}, fmt.Errorf("read %s: %w", ref, err)
	}

	s, err := r.snapshot(commit)
	s.Moved = conn.moved()
	return s, err
}

// fetchRef finds the commit of a name and brings it into the clone.
func (r *Repo) fetchRef(ctx context.Context, conn conn, ref string) (plumbing.Hash, error) {
	want, commit, err := r.lookUp(conn, ref)
	if err != nil {
		return plumbing.ZeroHash, err
	}

	if here, ok := conn.(*localConn); ok { // whose refs do not tell a tag object's commit
		commit = here.peel(ctx, commit)
	}

	if r.hasCommit(commit) == nil {
		return commit, nil
	}

	if err := conn.fetch(ctx, r.cfg.Dir, want, append(bare.KeptRefs(r.cfg.Dir), r.ref())); err != nil {
		return plumbing.ZeroHash, fmt.Errorf("fetch %s: %w", commit.String()[:10], err)
	}

	r.swap(bare.Open(r.cfg.Dir))
	return r.peeled(ctx, commit)
}

// lookUp says what to ask the remote for, and which commit that is.
func (r *Repo) lookUp(conn conn, ref string) (want, commit plumbing.Hash, err error) {
	all := conn.Refs()
	if name, ok := strings.CutPrefix(ref, "refs/tags/"); ok {
		return tagged(all, name)
	}

	if h, ok := all.Heads[strings.TrimPrefix(ref, "refs/heads/")]; ok {
		return h, h, nil
	}

	if want, commit, err = tagged(all, ref); err == nil {
		return want, commit, nil
	}

	if !hex.MatchString(ref) {
		return want, commit, fmt.Errorf("%w: the remote has no branch and no tag of that name; its branches are %s", ErrUnknown, refs.Few(all.Heads))
	}

	h, err := r.resolve(ref)
	switch {
	case err == nil:
		return h, h, nil
	case errors.Is(err, plumbing.ErrObjectNotFound) && len(ref) == 40:
		h = plumbing.NewHash(ref) // some servers give what no branch names
		return h, h, nil
	case errors.Is(err, plumbing.ErrObjectNotFound):
		return h, h, fmt.Errorf("%w: no commit that is here begins with that; give all 40 digits, or its branch", ErrUnknown)
	}

	return h, h, err
}

// tagged is what a tag's ref holds, and its commit.
func tagged(all refs.Set, name string) (want, commit plumbing.Hash, err error) {
	want, ok := all.Tags[name]
	if !ok {
		return want, want, fmt.Errorf("%w: the remote has no tag of that name", ErrUnknown)
	}

	if commit, ok := all.Peeled[name]; ok {
		return want, commit, nil
	}

	return want, want, nil
}

// peeled is the commit of an id that may be a tag object's.
func (r *Repo) peeled(ctx context.Context, id plumbing.Hash) (commit plumbing.Hash, err error) {
	err = r.read(func(s *bare.Store) error {
		var ok bool
		if commit, ok = s.Peel(ctx, id); !ok {
			return fmt.Errorf("%w: %s is no commit", ErrUnknown, id.String()[:10])
		}
		return nil
	})
	return commit, err
}
