// Package requests plans requests to merge: it fetches the head of each into a clone of its own, has it planned without the
// deployer's identity, and throws the clone away.
package requests

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"bellhop/gitsync"
	"bellhop/internal/fleet"
	"bellhop/internal/forge"
	"bellhop/internal/plain"
	"bellhop/internal/preview"
)

// Bounds of what one request may bring: its objects are fetched for one plan and thrown away.
const (
	maxPack     = 256 << 20
	maxInflated = 1 << 30
)

// Plans makes plans of requests, one at a time. Its fields are set before Plan.
type Plans struct {
	Dir  string         // where heads are fetched to; Empty empties it
	Repo gitsync.Config // of the repo that is deployed
	// At reads a commit that is deployed.
	At func(ctx context.Context, commit string) (gitsync.Snapshot, error)
	// Network is the name of the network that is deployed.
	Network func(ctx context.Context) (string, error)
	// Loader makes a loader that opens no secret, evaluates no system, and does its work in a process that can do nothing else.
	Loader func() *fleet.Loader
	// Systems says which NixOS systems hosts would hold; see preview.Maker. Nil: they are not planned.
	Systems func(ctx context.Context, tree fs.FS, commit string, hosts []*fleet.Host) map[string]*fleet.HostSystem
}

// Empty removes what a process that was killed left.
func (p *Plans) Empty() error { return os.RemoveAll(p.Dir) }

// Plan plans a request against the commit base. isFull asks for each change by name.
func (p *Plans) Plan(ctx context.Context, r forge.Request, base string, isFull bool) (forge.Plan, error) {
	network, err := p.Network(ctx)
	if err != nil {
		return forge.Plan{}, err
	}
	deployed, err := p.At(ctx, base)
	if err != nil {
		return forge.Plan{}, fmt.Errorf("read the commit that is deployed: %w", err)
	}

	head, done, err := p.fetch(ctx, r)
	if errors.Is(err, gitsync.ErrNoBranch) {
		return forge.Plan{}, fmt.Errorf("its branch %s is not in the repo any more", plain.Name(r.Branch))
	}
	if err != nil {
		return forge.Plan{}, fmt.Errorf("fetch the head of the request: %w", err)
	}
	defer done()
	if head.Commit != r.Head { // it moved after the forge listed it, or the list is not up to date: the next round sees
		return forge.Plan{}, fmt.Errorf("the head of the request is %.7s now", head.Commit)
	}

	maker := preview.Maker{Loader: p.Loader, Systems: p.Systems}
	made, err := maker.Make(ctx, preview.Commit{ID: base, Tree: deployed.Tree}, preview.Commit{ID: head.Commit, Tree: head.Tree})
	if err != nil {
		return forge.Plan{}, err
	}

	caption := preview.Caption{Network: network, Head: head.Commit, Base: base, IsFull: isFull}
	return forge.Plan{Marker: preview.Marker(network), Text: made.Comment(caption), Digest: made.Digest, Again: made.Again}, nil
}

// fetch brings the head of a request into a clone of its own, which done removes.
func (p *Plans) fetch(ctx context.Context, r forge.Request) (_ gitsync.Snapshot, done func(), err error) {
	if err := os.MkdirAll(p.Dir, 0o700); err != nil {
		return gitsync.Snapshot{}, nil, err
	}

	dir, err := os.MkdirTemp(p.Dir, "head-")
	if err != nil {
		return gitsync.Snapshot{}, nil, err
	}

	remove := func() { _ = os.RemoveAll(dir) }

	cfg := p.Repo
	cfg.Dir, cfg.Rewritten = dir, gitsync.Follow
	cfg.MaxPack, cfg.MaxInflated = maxPack, maxInflated
	if !r.IsFork {
		cfg.Branch = r.Branch
	}

	repo, err := gitsync.Open(cfg)
	if err != nil {
		remove()
		return gitsync.Snapshot{}, nil, err
	}

	done = func() { _ = repo.Close(); remove() }
	snap, err := headOf(ctx, repo, r)
	if err != nil {
		done()
		return snap, nil, err
	}

	return snap, done, nil
}

// headOf is what the branch of a request holds. The head of a fork is on no branch of this repo: the forge gives it by its id, from
// this repo, and nothing is asked of the fork.
func headOf(ctx context.Context, repo *gitsync.Repo, r forge.Request) (gitsync.Snapshot, error) {
	if r.IsFork {
		return repo.Ref(ctx, r.Head)
	}
	return repo.Sync(ctx)
}
