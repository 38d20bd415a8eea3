package deploy

import (
	"context"
	"errors"
	"fmt"
	"io"

	"bellhop/deploy/commits"
	"bellhop/deploy/follow"
	"bellhop/deploy/plan"
	"bellhop/deploy/routes"
	"bellhop/internal/fleet"
	"bellhop/internal/history"
	"bellhop/internal/push"
)

// tellResumed notes in the run which holds end with its plan, and why.
func (r *run) tellResumed(p *plan.Plan) {
	some := false
	for _, hp := range p.Hosts {
		if hp.WhyHoldEnds == "" {
			continue
		}
		some = true
		r.head.Notes = append(r.head.Notes, hp.EndedText())
		if !r.quiet {
			r.d.log().Info("hold ended", "host", hp.Name, "run", r.head.ID, "commit", r.head.Commit, "cause", hp.WhyHoldEnds)
		}
	}
	if p.Request.Resume && !some {
		r.event(follow.Event{Step: "note", Text: "none of these hosts is held"})
	}
}

// comparer makes plans, by what is known now. It is called under steps.
func (d *Deployer) comparer(r *run) plan.Comparer {
	return plan.Comparer{Planner: &d.planner, History: d.History, Hosts: &d.hosts, Archive: d.archive(), Machine: routes.ThisMachine(d.BootID, d.MachineID), Watches: d.lines.Kept(), Tests: r.tests}
}

// compare holds wanted against last. It is called under steps.
func (d *Deployer) compare(ctx context.Context, r *run, snap commits.Snapshot, f *fleet.Fleet) (*plan.Plan, error) {
	defer r.span("plan", "")()
	p, err := d.comparer(r).Compare(ctx, r.req, snap, f)
	if err != nil {
		return nil, err
	}
	r.tellResumed(p)
	r.event(follow.Event{Step: "plan", Text: p.Sentence()})
	return p, nil
}

// WritePlan writes p for people: each host with its changes, files as a unified diff, keys
// as a word, the plan's digest, and one sentence at the end. Old texts come from what was planned before, for hosts that
// hold that, else from the commit of the generation on the host; where they can't be had, sizes and digests are shown instead.
func (d *Deployer) WritePlan(ctx context.Context, w io.Writer, p *plan.Plan) error {
	return p.Write(w, commits.MadeBefore(p.Before, d.archive().OldTexts(ctx)))
}

// stillListed is an error where a newer plan knows that the host left the repo. An older run that goes on by itself
// begins nothing there, and believes nothing: the machine may have another name by now, which has its past.
func (d *Deployer) stillListed(host string) error {
	if now, isKnown := d.History.Host(host); isKnown && now.State != history.Released {
		return nil
	}
	return push.Final(errors.New("it left the repo while this run was at work"))
}

// stillFree is an error where it is known only since a host was heard that it is held, or that something failed
// there: its record told that it had another name then. The next run plans it by what is known of that name.
func (d *Deployer) stillFree(p *plan.Plan, hp *plan.HostPlan) error {
	hold := d.History.Holds().Of(hp.Name)
	if hold != nil && hp.Hold == nil && hp.WhyHoldEnds == "" {
		d.bell.ring(hp.Name + " is held")
		return push.Final(fmt.Errorf("under its former name %s it is %s", hold.Host, hold.Text()))
	}

	now, _ := d.History.Host(hp.Name)
	isRenamed := now.Had && !hp.Last.Had && !hp.Elsewhere
	isAsked := p.Chose(hp.Name) && (p.Request.Retry || p.Request.TakeOver)
	if !isRenamed || isAsked {
		return nil
	}
	if failed, err := d.hosts.HasFailed(d.History, hp.Name, hp.Wanted(), hp.Bundle.Digest); err != nil || !failed {
		return err
	}
	d.bell.ring(hp.Name + " has another name")
	return push.Final(errors.New("under its former name something failed there that is wanted still: the next run knows of it"))
}
