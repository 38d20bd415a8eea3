package deploy

import (
	"context"
	"time"

	"bellhop/deploy/commits"
	"bellhop/deploy/plan"
	"bellhop/deploy/systems"
	"bellhop/internal/fleet"
)

// PlanOf plans another commit, or a tree that is no commit, in place of the branch's head. It is
// compared with what is deployed, and loaded as any commit is; nothing of it stays in the
// deployer, whose next run neither saves work by it nor is misled.
func (d *Deployer) PlanOf(ctx context.Context, req plan.Request, snap commits.Snapshot) (*plan.Plan, error) {
	if req.DryActivate != "" {
		return nil, systems.ErrHeadAlone
	}
	d.knowArch()
	that := func(context.Context) (commits.Snapshot, error) { return snap, nil }
	resolve := d.Loader.Systems
	if d.Loader.SystemsAside != nil {
		resolve = d.Loader.SystemsAside
	}

	aside := &Deployer{aside: true,
		Source: commits.Source{Sync: that, Look: that, At: d.At, Since: d.Since},
		Loader: &fleet.Loader{Open: d.Loader.Open, KeyDigest: d.Loader.KeyDigest, Arch: d.Loader.Arch, Systems: resolve,
			Confined: d.Loader.Confined, Timeout: d.Loader.Timeout, Idle: time.Minute},
		Check:   d.Check,
		Nix:     d.Nix,
		History: d.History,
		ID:      d.ID, Branch: d.Branch, Cache: d.Cache, Filter: d.Filter, Client: d.Client,
		BootID: d.BootID, MachineID: d.MachineID, Limits: d.Limits,
	}

	return aside.Plan(ctx, req)
}
