package deploy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"bellhop/deploy/commits"
	"bellhop/deploy/follow"
	"bellhop/deploy/plan"
	"bellhop/internal/history"
	"bellhop/internal/plain"
)

// rollBack makes the run of a Rollback. Either all hosts that it chose are planned, or nothing is done.
func (r *run) rollBack(ctx context.Context) (*history.Run, error) {
	d := r.d
	snap, err := r.newest(ctx)
	if err != nil {
		return r.failed(err)
	}

	f, err := d.load(ctx, r, snap)
	if err != nil {
		return r.failed(err)
	}
	if f, ctx, err = d.systems(ctx, r, snap, f); err != nil {
		return r.failed(err)
	}

	d.bundles(r, f)
	back := &plan.Backward{Comparer: d.comparer(r), Req: r.req, At: r.head.At}
	plan, err := back.Plan(ctx, snap, f)
	if err != nil {
		return r.failed(err)
	}

	r.tellBack(ctx, plan)
	r.event(follow.Event{Step: "plan", Text: plan.Sentence()})
	if err := d.apply(ctx, r, plan); err != nil {
		return r.failed(err)
	}

	return r.tell()
}

// newest is the newest commit that was accepted, as it was read then.
func (r *run) newest(ctx context.Context) (commits.Snapshot, error) {
	d := r.d
	commit, err := d.History.Accepted()
	if err != nil {
		return commits.Snapshot{}, err
	}
	if commit == "" || d.At == nil {
		return commits.Snapshot{}, commits.Refuse(errors.New("rollback: nothing was deployed from here yet, so there is nothing to go back to"))
	}
	if snap := d.planner.Accepted(); snap.Tree != nil && snap.Commit == commit {
		return snap, nil
	}
	snap, err := d.At(ctx, commit)
	if err != nil {
		return commits.Snapshot{}, fmt.Errorf("rollback: read the newest commit that was deployed: %w", err)
	}
	return snap, nil
}

// tellBack notes in the run where its hosts go back to, and why. A run whose hosts all go back to one
// commit is one of that commit.
func (r *run) tellBack(ctx context.Context, p *plan.Plan) {
	byCommit := map[string][]string{}
	var notes []string
	for _, hp := range p.Hosts {
		byCommit[hp.Hold.Commit] = append(byCommit[hp.Hold.Commit], hp.Name)
		if hp.Note != "" {
			notes = append(notes, hp.Note)
		}
	}

	if reason := plain.Line(r.req.Rollback.Reason, plan.MostReason); reason != "" {
		r.head.Notes = append(r.head.Notes, "reason: "+reason)
	}

	for _, commit := range slices.Sorted(maps.Keys(byCommit)) {
		snap, err := r.d.At(ctx, commit)
		if err != nil { // a host that stands there already needs nothing of it
			snap = commits.Snapshot{}
		}
		if len(byCommit) == 1 {
			r.head.Commit, r.head.Author, r.head.Subject = commit, snap.Author, snap.Subject
			continue
		}

		r.head.Notes = append(r.head.Notes, strings.TrimSpace(fmt.Sprintf("%s: back to %s %s", plain.Few(byCommit[commit]), plain.Short(commit), snap.Subject)))
	}

	r.head.Notes = append(r.head.Notes, notes...)
	for _, note := range notes {
		r.event(follow.Event{Step: "note", Text: note})
	}
}
