package deploy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"bellhop/deploy/follow"
	"bellhop/deploy/plan"
	"bellhop/deploy/routes"
	"bellhop/internal/fleet"
	"bellhop/internal/nixos"
	"bellhop/internal/plain"
	"bellhop/internal/push"
)

// What a run does about NixOS systems: they are evaluated before bundles are made, compared for people, and copied to
// the host before the bundle is offered.

// systems has the systems of f's hosts evaluated and built. That may take hours: meanwhile others may plan, and the time
// of the run begins anew with ctx, which is returned with the fleet to go on with.
func (d *Deployer) systems(ctx context.Context, r *run, snap Snapshot, f *fleet.Fleet) (*fleet.Fleet, context.Context, error) {
	if d.Nix == nil || !f.HasNixOS() {
		return f, ctx, nil
	}
	defer r.span("nix", "")()
	r.event(follow.Event{Step: "nix"})
	if r.req.Retry && !r.quiet {
		d.Nix.ForgetFailures()
	}

	loads := d.loads
	r.release()
	f.ResolveSystems(r.parent, r.head.Commit)
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

// copySystem is what brings the closure of the host's system there; nil when it is there.
func (d *Deployer) copySystem(r *run, hp *plan.HostPlan, j *push.Job) func(context.Context) error {
	if !hp.Brings() {
		return nil
	}
	path := hp.Bundle.System.Path
	return func(ctx context.Context) error {
		carrier, ok := d.Links.(routes.Carrier)
		if !ok || d.Nix == nil {
			return push.Final(errors.New("this deployer can't copy NixOS systems"))
		}
		if hp.Hold != nil && !nixos.Has(path) {
			return nil // the host held it before, and says so if it does not any more
		}

		began := time.Now()
		serve := func(ctx context.Context, in io.Reader, out, errs io.Writer) (int, error) {
			return carrier.Carry(ctx, j.Target, nixos.ServeCommand(path), in, out, errs)
		}
		copied, err := d.Nix.Copy(ctx, path, serve)
		if err != nil {
			return err
		}
		d.log().Info("system copied", "host", hp.Name, "run", r.head.ID, "system", path, "bytes", copied.Sent, "took", time.Since(began).Round(time.Millisecond))
		return nil
	}
}
