package gitsync

import (
	"context"
	"fmt"
	"maps"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"

	"bellhop/gitsync/bare"
	"bellhop/gitsync/refs"
)

// saw notes what branches the remote has.
func (r *Repo) saw(all refs.Set) {
	r.branches.Store(all.Digest())
	r.heads.Store(maps.Clone(all.Heads))
}

// Heads are the branches of the remote whose names begin with prefix, as the newest look found them: the commit of
// each by the rest of its name.
func (r *Repo) Heads(prefix string) map[string]string {
	found := map[string]string{}
	all, _ := r.heads.Load().(map[string]plumbing.Hash)
	for name, commit := range all {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			found[rest] = commit.String()
		}
	}

	return found
}

// OfBranch returns the commit that Heads told of a branch. One that the clone lacks is fetched, and is then what the
// branch has by now.
func (r *Repo) OfBranch(ctx context.Context, branch, commit string) (Snapshot, error) {
	if !bare.IsID(commit) {
		return Snapshot{}, fmt.Errorf("%w: %q is not a full commit id", ErrUnknown, commit)
	}
	if err := r.open(); err != nil {
		return Snapshot{}, err
	}

	h := plumbing.NewHash(commit)
	if r.hasCommit(h) == nil {
		return r.snapshot(h)
	}
	return r.Ref(ctx, "refs/heads/"+branch)
}
