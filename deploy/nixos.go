package deploy

import (
	"context"
	"fmt"

	"bellhop/deploy/commits"
	"bellhop/deploy/follow"
	"bellhop/deploy/systems"
	"bellhop/internal/fleet"
	"bellhop/internal/nixos"
	"bellhop/internal/plain"
)

// What a run does about NixOS systems: they are evaluated before bundles are made, compared for people, and copied to
// the host before the bundle is offered.

// systems has the systems of f's hosts evaluated and built. That may take hours: meanwhile others may plan, and the time
// of the run begins anew with ctx, which is returned with the fleet to go on with.
func (d *Deployer) systems(ctx context.Context, r *run, snap commits.Snapshot, f *fleet.Fleet) (*fleet.Fleet, context.Context, error) {
	if d.Testing == nil && (d.Nix == nil || !f.HasNixOS()) {
		return f, ctx, nil
	}
	defer r.span("nix", "")()
	r.event(follow.Event{Step: "nix"})
	if r.req.Retry && !r.quiet && d.Nix != nil {
		d.Nix.ForgetFailures()
	}

	d.tunnels.Now(f, d.arch)
	loads := d.loads
	r.release()
	f.ResolveSystems(r.parent, r.head.Commit)
	if !d.aside {
		r.tests = d.Testing.Find(r.parent, snap, f)
	}
	r.lockPlanner()
	ctx = r.renew()

	if d.loads != loads { // somebody planned another commit, and the loader knows that one now
		again, err := d.Loader.Load(ctx, snap.Tree)
		if err != nil {
			return nil, ctx, fmt.Errorf("load %s again: %w", plain.Short(snap.Commit), err)
		}
		again.TakeSystems(f)
		f = again
		d.loads++
		d.planner.Accept(snap)
	}
	return f, ctx, nil
}

// On runs commands on a host of the fleet that was loaded last, as root.
func (d *Deployer) On(host string) nixos.Shell { return d.tunnels.On(d.Links, host) }

func (d *Deployer) nixos() systems.Systems { return systems.Systems{Contact: d.contact(), Nix: d.Nix} }
