package deploy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"bellhop/internal/fleet"
	"bellhop/internal/history"
	"bellhop/internal/plain"
)

// ErrNoConfig says that no commit was accepted yet.
var ErrNoConfig = errors.New("no commit was deployed yet")

// Config is the config that is deployed: the fleet of the newest commit that was accepted, and its tree. Before the
// first look at the repo it is loaded from the commit that history names.
func (d *Deployer) Config(ctx context.Context) (*fleet.Fleet, fs.FS, error) {
	if f, snap := d.planner.LastFleet(), d.planner.Accepted(); f != nil && snap.Tree != nil {
		return f, snap.Tree, nil
	}

	snap := d.accepted(ctx)
	if snap.Tree == nil {
		return nil, nil, ErrNoConfig
	}
	d.knowArch()
	f, err := d.Loader.Fresh().Load(ctx, snap.Tree)
	if err != nil {
		return nil, nil, fmt.Errorf("load %s: %w", plain.Short(snap.Commit), err)
	}
	return f, snap.Tree, nil
}

// loaded is the fleet that was loaded last, else that of the branch's head. While the repo is away,
// or its head is refused, it is that of the commit that was accepted last.
func (d *Deployer) loaded(ctx context.Context) (*fleet.Fleet, error) {
	if f := d.planner.LastFleet(); f != nil {
		return f, nil
	}

	d.knowArch()
	f, err := d.loadHead(ctx)
	if err == nil {
		return f, nil
	}

	if old := d.accepted(ctx); old.Tree != nil {
		if f, oerr := d.Loader.Load(ctx, old.Tree); oerr == nil {
			d.log().Warn("the branch's head can't be used; its last accepted commit is", "commit", old.Commit, "err", err)
			return f, nil
		}
	}
	return nil, err
}

func (d *Deployer) loadHead(ctx context.Context) (*fleet.Fleet, error) {
	look := d.Look
	if look == nil {
		look = d.Sync
	}
	snap, err := look(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the repo: %w", err)
	}
	return d.Loader.Load(ctx, snap.Tree)
}

// SyncError says since when the repo can't be read, and why; nil when the last look was good. Nothing
// that is pushed arrives meanwhile, though every host may well be current.
func (d *Deployer) SyncError() *history.SyncError { return d.repo.SyncError() }

// Loading is the commit that is being loaded, and since when; nil when none is.
func (d *Deployer) Loading() *history.Loading { return d.repo.Loading() }
