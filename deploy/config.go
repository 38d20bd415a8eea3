package deploy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"bellhop/internal/fleet"
	"bellhop/internal/plain"
)

// ErrNoConfig says that no commit was accepted yet.
var ErrNoConfig = errors.New("no commit was deployed yet")

// Config is the config that is deployed: the fleet of the newest commit that was accepted, and its tree. Before the
// first look at the repo it is loaded from the commit that history names.
func (d *Deployer) Config(ctx context.Context) (*fleet.Fleet, fs.FS, error) {
	if f, snap := d.planner.lastFleet(), d.planner.accepted(); f != nil && snap.Tree != nil {
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
