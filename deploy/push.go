package deploy

import (
	"context"
	"errors"
	"slices"
	"time"

	"bellhop/deploy/commits"
	"bellhop/deploy/follow"
	"bellhop/deploy/plan"
	"bellhop/deploy/routes"
	"bellhop/internal/history"
	"bellhop/internal/push"
)

// What a push needs of history, and what it tells history on its way.

// push makes one host hold its bundle. open says that the host continues without a
// connection, and that its result is to be fetched at the next start.
func (d *Deployer) push(ctx context.Context, clock *push.Clock, r *run, p *plan.Plan, hp *plan.HostPlan) (e history.End, open bool) {
	release, err := d.hosts.Hold(ctx, hp.Name)
	if err != nil {
		return d.outcomes().Of(r.head.ID, hp, push.Outcome{Fate: push.FateIn(ctx, err), Err: err, Text: err.Error()})
	}
	defer release()

	h := &hostTries{d: d, run: r, plan: p, clock: clock, record: &plan.RecordCheck{Archive: d.archive, Log: d.log()}}
	return h.inTries(ctx, hp)
}

// pusher is how hosts are pushed to, as d is set up now.
func (d *Deployer) pusher() *push.Pusher {
	l := d.limits()
	return &push.Pusher{
		Links: d.Links, Deployer: d.ID, Memory: &d.memory, Log: d.log(), Mask: d.Filter, Client: d.Client, Cache: d.Cache, Trace: d.Trace,
		Limits: push.Limits{Connect: l.Connect, Preflight: l.Preflight, Host: l.Host, Patience: l.Patience, Retry: l.Retry},
		Heard:  func(host string, h *push.Hello) { d.hosts.SetMachine(host, h.Machine); d.hosts.SetClock(host, h.At) },
	}
}

// job is the push of a host, as its plan has it.
func (d *Deployer) job(ctx context.Context, r *run, p *plan.Plan, hp *plan.HostPlan) *push.Job {
	j := &push.Job{
		Run: r.head.ID, Network: p.Fleet.Network, Host: hp.Name, Bundle: hp.Bundle, Shared: &p.Shared,
		Target:     routes.To(p.Fleet, hp.Host, hp.Last.Arch, len(hp.Bundle.Keys) > 0),
		Last:       push.Last{Had: hp.Last.Had, Generation: hp.Last.Generation, Digest: hp.Last.Digest, Manifest: hp.Old, From: hp.From},
		Confirm:    confirmWindow(p.Fleet.Confirm, hp.IsDeployer),
		AllowPrune: hp.Prune, TakeOver: r.req.TakeOver, GoesBack: hp.Hold.GoesBack(),

		Other: func(h *push.Hello) string { return routes.OtherName(p.Fleet, h, hp.Name) },
		OnHello: func(h *push.Hello) error {
			if err := d.stillListed(hp.Name); err != nil {
				return err
			}
			return errors.Join(d.contact().Correct(ctx, p.Fleet, hp.Name, h), d.stillFree(p, hp))
		},

		Said:   saidOf(hp),
		Former: d.archive().FormerKeys(ctx, hp.Name, hp.Bundle),
	}
	j.Elsewhere = d.witnesses().Elsewhere(hp.Name, j.Target)
	if hp.Last.State == history.Unknown {
		j.Earlier = tryIDs(hp.Last.Run)
	}
	j.Lost = d.lostOn(ctx, p, hp)
	if d.Progress != nil {
		j.Progress = func(step, text string) { r.event(follow.Event{Host: hp.Name, Step: step, Text: text}) }
	}
	return j
}

// saidOf are texts of the deployer that a host repeats when all goes well.
func saidOf(hp *plan.HostPlan) []string {
	said := []string{hp.Last.Digest, hp.Last.BootID}
	for _, c := range hp.Changes {
		said = append(said, c.Resource())
	}
	return slices.Concat(said, hp.Units.Start, hp.Units.Stop, hp.Units.Restart, hp.Units.Reload)
}

// witnesses is what can be asked, as d is set up now.
func (d *Deployer) witnesses() routes.Witnesses {
	w := routes.Witnesses{Links: d.Links, History: d.History, Hosts: &d.hosts, Given: d.Elsewhere}
	if d.Far {
		w.Head = d.Head
	}
	return w
}

func (d *Deployer) archive() commits.Archive {
	d.knowArch()
	return commits.Archive{Source: d.Source, Loader: d.Loader, History: d.History, Fleet: d.planner.LastFleet(), Log: d.log()}
}

// ownConfirm is for how long, at least, the deployer's own host waits to be confirmed: the deployer may
// be what the run restarts there.
const ownConfirm = 2 * time.Minute

// confirmWindow is for how long a host waits, in a fleet whose hosts wait so long.
func confirmWindow(confirm time.Duration, own bool) time.Duration {
	if own && confirm > 0 {
		return max(confirm, ownConfirm)
	}
	return confirm
}
