package deploy

import (
	"cmp"
	"context"
	"io"
	"time"

	"bellhop/deploy/follow"
	"bellhop/deploy/plan"
	"bellhop/deploy/runlimit"
	"bellhop/internal/bundle"
	"bellhop/internal/history"
)

const defaultParallel = 10

// apply stores the plan and pushes the hosts that it changes, wave by wave, many at once.
func (d *Deployer) apply(ctx context.Context, r *run, p *plan.Plan) error {
	stored := r.span("store", "")
	err := d.store(r, p)
	stored()
	if err != nil {
		return err
	}

	r.release()
	defer r.span("push", "")()
	d.retries().LaterOf(p)
	pushed := make(chan struct{})
	defer close(pushed)
	if d.KeepPlan != nil && r.stored && p.HasChanges() {
		d.work.Go(func() { d.KeepPlan(r.head.ID, pushed, func(w io.Writer) error { return d.WritePlan(r.parent, w, p) }) })
	}

	n := p.Fleet.Rollout.Parallel
	if n <= 0 {
		n = defaultParallel
	}
	ctx, done := runlimit.WithStepsTime(ctx, r.parent, runlimit.StepsTime(p.Order, n))
	defer done()

	b := newBatch(d, r, p)
	r.cancelling.begin(b)
	for i := range p.Order {
		b.wave(ctx, i, n)
	}
	r.cancelling.end()
	d.contactLeft(ctx, r, p)
	d.keeper().FollowPlan(p)
	d.looks.Changed()
	return nil
}

// store puts the plan into history before the first push. A poll that finds nothing stores
// nothing, unless the repo could not be read before: people who heard of that hear that it is over.
func (d *Deployer) store(r *run, p *plan.Plan) error {
	if err := r.parent.Err(); err != nil {
		return err
	}

	isAgain := d.repo.TellsRecovery()
	if r.req.Trigger == plan.TriggerClock && !isAgain && !d.planner.IsNew(p, d.History) {
		return nil
	}

	if err := d.History.Network(context.Background(), p.Fleet.Network, d.Branch); err != nil {
		return err
	}

	hosts := make([]history.Planned, 0, len(p.Hosts))
	for _, hp := range p.Hosts {
		h := hp.Planned()
		if p.Chose(hp.Name) && hp.IsLeftAlone() {
			h.Listed, h.Outcome = true, hp.OutcomeIfLeft()
			r.event(hp.Untouched())
		}
		hosts = append(hosts, h)
	}

	top := p.Snapshot.Commit
	if p.Request.Rollback != nil {
		top = "" // the hosts that stay are held against the commit that they were
	}
	was := d.History.Top()
	if err := d.History.Plan(context.Background(), r.head, top, hosts, p.Gone); err != nil {
		return err
	}
	isNew := top != "" && top != was && p.Chosen == nil
	if isNew && d.Planned != nil {
		d.Planned(top, p.Digest())
	}

	for _, hp := range p.Hosts {
		if hp.Elsewhere {
			d.hosts.DropFailures(hp.Name)
		}
	}

	r.stored = true
	if p.Request.Rollback == nil { // else not all of the fleet was planned
		d.planner.Stored()
	}
	return nil
}

// end stores the result of a push, reports it, and asks for another run where one is needed.
func (d *Deployer) end(r *run, hp *plan.HostPlan, e history.End) {
	e.Commit = hp.Commit(r.head.Commit)
	if e.Digest == "" && hp.Bundle != nil {
		e.Digest = hp.Bundle.Digest
	}

	stored := d.Trace.Span(hp.Name, "store", string(e.Outcome))
	if err := d.History.Ended(context.Background(), r.head.ID, hp.Name, e); err != nil {
		d.log().Error("store the result", "host", hp.Name, "err", err)
	}
	stored()

	d.hosts.Ended(hp.Name, r.head.ID, e)
	r.keepCancelled(hp)
	if res, ok := e.Details.(*bundle.Result); ok {
		for _, note := range bundle.Notes(res) {
			r.event(follow.Event{Host: hp.Name, Step: "note", Text: note})
		}
	}

	r.event(follow.Event{Host: hp.Name, Step: "end", Outcome: e.Outcome, Text: e.Error})
	d.log().Info("host ended", "host", hp.Name, "run", r.head.ID, "commit", e.Commit, "outcome", e.Outcome, "took", e.Took.Round(time.Millisecond), "err", e.Error)
	d.follow(hp.Name, e)
}

// follow asks for another run where another bundle was wanted by the time that the push ended, and
// schedules a retry for a host that can't be reached. A bundle that failed and is still wanted is not
// tried again, unless the push was only cut off.
func (d *Deployer) follow(host string, e history.End) {
	if e.Outcome == history.OutcomePending || e.Outcome == history.OutcomeUnknown {
		d.retries().Unreached(host)
		return
	}

	if e.Stood() {
		d.hosts.Reached(host)
	}

	h, ok := d.History.Host(host)
	inRepo := ok && h.State != history.Released
	wanted, had := h.Wanted, cmp.Or(e.Whole, e.Digest)
	if hold := d.History.Holds().Of(host); hold != nil { // its bundle, and not the head's, is what is waited for
		wanted, had = hold.Digest, e.Digest
	}
	if !inRepo || e.Outcome == history.OutcomeCancelled || wanted == "" {
		return
	}

	switch {
	case wanted != had:
		d.bell.ring("more for " + host)
	case e.Outcome == history.OutcomeRolledBack && e.State == history.Behind:
		d.bell.ring(host + " was cut off")
	case e.Outcome == history.OutcomeUnconfirmed && !e.Remember:
		d.retries().RingAt(host, h.ReasonAt.Add(plan.SecondChance))
	}
}

// Wait returns when no host is being pushed any more, or ctx ends.
func (d *Deployer) Wait(ctx context.Context) error {
	done := make(chan struct{})
	go func() { d.work.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
