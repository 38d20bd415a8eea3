package deploy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"bellhop/deploy/commits"
	"bellhop/deploy/follow"
	"bellhop/deploy/plan"
	"bellhop/deploy/runlimit"
	"bellhop/deploy/testbranch"
	"bellhop/internal/fleet"
	"bellhop/internal/history"
	"bellhop/internal/plain"
)

// A run is one attempt that has begun.
type run struct {
	d       *Deployer
	req     plan.Request
	parent  context.Context // of the server or the command: hosts outlive the run, not this
	head    history.Start
	stored  bool // history has its plan
	quiet   bool // a plan that is only shown
	release func()
	cancel  context.CancelFunc // ends the time of the run
	tests   *testbranch.Tests  // nil: nobody looks for any
	cut     atomic.Bool        // a push was still under way on a host when this process had to end

	cancelling *cancelling // by a person
}

// start begins a run. The first run of a process first fetches the results of runs that an earlier
// process left open.
func (d *Deployer) start(ctx context.Context, req plan.Request, stop *cancelling) (r *run, rctx context.Context, done func(), err error) {
	d.settled.Do(func() {
		err = d.Settle(ctx)
		d.keeper().OpenKnown()
	})
	r, rctx, done = d.begin(ctx, req, stop)
	return r, rctx, done, err
}

// knowArch has the loader ask history for architectures, unless it was given something to ask.
func (d *Deployer) knowArch() {
	d.archKnown.Do(func() {
		if d.Loader.Arch == nil {
			d.Loader.Arch = d.arch
		}
	})
}

func (d *Deployer) begin(ctx context.Context, req plan.Request, stop *cancelling) (*run, context.Context, func()) {
	d.knowArch()
	if req.RunID == "" {
		req.RunID = history.NewRunID()
	}

	if req.Cause == "" {
		req.Cause = "deploy"
	}

	if req.Resume { // a person asks
		req.Retry = true
	}

	r := &run{d: d, req: req, parent: ctx, release: func() {}, cancelling: stop}
	r.head = history.Start{ID: req.RunID, Cause: req.Cause, By: req.By, At: time.Now(), Untold: req.Rollback != nil}
	return r, r.renew(), func() { r.release(); r.cancel() }
}

// renew gives the run all of its time, counted from now.
func (r *run) renew() context.Context {
	if r.cancel != nil {
		r.cancel()
	}
	limit := r.d.limits().Run
	ctx, cancel := context.WithTimeoutCause(r.parent, limit, &runlimit.TooLong{Run: r.req.RunID, Limit: limit})
	r.cancel = cancel
	return ctx
}

// lockPlanner keeps other runs and plans from planning, until release.
func (r *run) lockPlanner() {
	r.d.planner.Steps.Lock()
	r.release = sync.OnceFunc(r.d.planner.Steps.Unlock)
}

func (d *Deployer) limits() Limits { return d.Limits.withDefaults() }

func (d *Deployer) log() *slog.Logger {
	if d.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return d.Log
}

// arch is the remembered architecture of a host.
func (d *Deployer) arch(host string) string {
	return commits.ArchOf(d.History, host)
}

func (r *run) event(e follow.Event) {
	if r.quiet || r.d.Progress == nil {
		return
	}
	e.Run, e.At = r.req.RunID, time.Now()
	r.d.Progress(e)
}

// runTrack is the track of a trace that has the steps of runs.
const runTrack = "run"

// span begins a span of the run in the trace, and tells Took of its end. A plan that is only shown has none: it may be made while a
// run is under way.
func (r *run) span(name, text string) (end func()) {
	if r.quiet {
		return func() {}
	}
	traced := r.d.Trace.Span(runTrack, name, text)
	if r.d.Took == nil {
		return traced
	}

	began := time.Now()
	return func() {
		traced()
		r.d.Took(name, time.Since(began))
	}
}

// sync asks the remote what the branch holds now.
func (d *Deployer) sync(ctx context.Context, r *run) (commits.Snapshot, error) {
	defer r.span("sync", "")()
	if !r.quiet {
		if err := r.gate(ctx); err != nil {
			return commits.Snapshot{}, err
		}
	}

	r.event(follow.Event{Step: "sync"})
	look := d.Sync
	if r.quiet && d.Look != nil {
		look = d.Look
	}
	if r.req.AllowRewritten && !r.quiet && d.SyncRewritten != nil {
		look = d.SyncRewritten
	}

	snap, err := look(ctx)
	d.repo.Looked(err)
	if err != nil {
		return commits.Snapshot{}, fmt.Errorf("read the repo: %w", err)
	}

	r.head.Commit, r.head.Author, r.head.Subject = snap.Commit, snap.Author, snap.Subject
	if snap.Rewritten {
		r.head.Notes = append(r.head.Notes, "the branch was rewritten")
		r.head.Cause += " (history rewritten)"
		d.log().Warn("branch was rewritten", "commit", snap.Commit)
	}

	for _, value := range plan.UnknownConsents(snap.Message) {
		note := fmt.Sprintf("trailer %q allows nothing: want %q or %q", plan.AllowTrailer+": "+value, plan.AllowTrailer+": "+plan.AllowPrune+" HOST", plan.AllowTrailer+": "+plan.AllowVolumes+" HOST")
		r.head.Notes = append(r.head.Notes, note)
		r.event(follow.Event{Step: "note", Text: note})
	}

	if snap.Moved != "" {
		r.head.Notes = append(r.head.Notes, "the repo has moved to "+snap.Moved+": set --repo to it")
	}
	return snap, nil
}

// load reads the commit, and looks for errors that refuse it as a whole. It locks the planner
// until the plan is stored.
func (d *Deployer) load(ctx context.Context, r *run, snap commits.Snapshot) (*fleet.Fleet, error) {
	r.lockPlanner()
	d.loads++
	commit := plain.Short(snap.Commit) + " " + snap.Subject
	r.event(follow.Event{Step: "load", Text: commit})
	defer r.span("load", commit)()
	if r.req.Trigger == plan.TriggerClock {
		if known := d.repo.Refusal(snap.Commit); known != nil {
			return nil, commits.Refuse(known)
		}
	}

	began := time.Now()
	defer d.repo.StartLoading(snap.Commit)()
	f, err := d.Loader.Load(ctx, snap.Tree)
	var ps, found fleet.Problems
	if err != nil && !errors.As(err, &ps) {
		return nil, fmt.Errorf("load %s: %w", plain.Short(snap.Commit), err)
	}

	if d.Check != nil {
		old := d.accepted(ctx)
		if old.Commit != snap.Commit {
			found = d.Check(ctx, old, snap)
		}
	}

	if ctx.Err() != nil { // what was found was cut short
		return nil, fmt.Errorf("load %s: %w", plain.Short(snap.Commit), context.Cause(ctx))
	}

	for _, p := range found {
		if p.Warning {
			d.log().Warn(p.Message, "file", p.File)
		} else if !contains(ps, p) {
			ps = append(ps, p)
		}
	}

	if len(ps) > 0 {
		ps = ps.Capped()
		d.repo.Refused(snap.Commit, ps, time.Since(began))
		return nil, commits.Refuse(ps)
	}

	d.planner.Accept(snap)
	return f, nil
}

// contains says whether p is among ps already.
func contains(ps fleet.Problems, p *fleet.Problem) bool {
	return slices.ContainsFunc(ps, func(q *fleet.Problem) bool { return q.File == p.File && q.Line == p.Line && q.Message == p.Message })
}

// accepted is the commit that was accepted last: what is new since then is looked at.
func (d *Deployer) accepted(ctx context.Context) commits.Snapshot {
	snap := d.planner.Accepted()
	if snap.Tree != nil || d.At == nil {
		return snap
	}
	commit, err := d.History.Accepted()
	if err != nil || commit == "" {
		return commits.Snapshot{}
	}
	if snap, err = d.At(ctx, commit); err != nil {
		return commits.Snapshot{} // then all of it is new
	}
	return snap
}

// failed ends a run that could not be made.
func (r *run) failed(err error) (*history.Run, error) {
	if errors.Is(err, errResumedLater) {
		return r.finish(history.OutcomeDone, nil)
	}
	r.head.Untold = r.head.Untold || r.req.By != "" || errors.Is(err, ErrPaused)
	outcome := history.OutcomeFailed
	switch {
	case errors.Is(err, context.Canceled):
		outcome = history.OutcomeCancelled
	case errors.Is(err, commits.ErrRefused): // paused, or a history that was rewritten
		outcome = history.OutcomeRefused
	}
	if r.isOldNews(err) {
		return r.unstored(outcome), err
	}
	return r.finish(outcome, err)
}

// refused ends a run whose commit is refused whole: that commit is the top one, and every
// host says so.
func (r *run) refused(snap commits.Snapshot, err error) (*history.Run, error) {
	if !errors.Is(err, commits.ErrRefused) {
		return r.failed(err)
	}

	r.head.Refused = true
	text := err.Error()
	var hosts []history.Planned
	for name, h := range r.d.History.Hosts() {
		if h.State == history.Released {
			continue
		}
		p := history.Planned{Name: name, State: history.Refused, Error: text, Keys: h.KeysExpected, Reach: h.Reach, Listed: true, Outcome: history.OutcomeRefused}
		if r.d.hosts.Pushing(name) {
			p.State, p.Error, p.Listed, p.Outcome = history.Deploying, "", false, ""
		}
		hosts = append(hosts, p)
	}

	slices.SortFunc(hosts, func(a, b history.Planned) int { return strings.Compare(a.Name, b.Name) })
	if serr := r.d.History.Plan(context.Background(), r.head, snap.Commit, hosts, nil); serr != nil {
		return nil, errors.Join(err, serr)
	}

	r.d.log().Error("commit refused", "commit", snap.Commit, "cause", r.req.Cause, "err", text)
	return r.finish(history.OutcomeRefused, err)
}

// finish stores the run's outcome, or with "" what came of its hosts, and returns the run as
// history has it, with err.
func (r *run) finish(outcome history.Outcome, err error) (*history.Run, error) {
	r.release()
	text := ""
	if err != nil {
		text = err.Error()
	}

	ctx := context.Background() // the end is stored whatever ended it
	if serr := r.d.History.FinishRun(ctx, r.head, outcome, text); serr != nil {
		return nil, errors.Join(err, serr)
	}

	hr, rerr := r.d.History.Run(ctx, r.head.ID)
	if rerr == nil && hr.Outcome != nil {
		outcome = *hr.Outcome
	}

	r.event(follow.Event{Step: "end", Outcome: outcome, Text: text})
	r.d.log().Info("run ended", "run", r.head.ID, "commit", r.head.Commit, "cause", r.req.Cause, "outcome", outcome, "took", time.Since(r.head.At).Round(time.Millisecond), "err", text)
	return hr, errors.Join(err, rerr)
}

// tell ends a run whose hosts were pushed: history's outbox has it from here.
func (r *run) tell() (*history.Run, error) {
	if !r.stored { // a poll that found nothing
		return r.unstored(history.OutcomeNothing), nil
	}
	if by := r.cancelling.who(); by != "" {
		r.head.Notes = append(r.head.Notes, "cancelled by "+by)
	}
	var outcome history.Outcome // what came of its hosts says
	if r.cut.Load() {
		outcome = history.OutcomeCancelled
	}
	hr, err := r.finish(outcome, nil)
	if err == nil {
		r.keepCommits()
	}
	return hr, err
}

// keepCommits has git keep the commits of generations. One that git has no more, after a forced
// push, never comes back: it is logged once, not by every run.
func (r *run) keepCommits() {
	d := r.d
	if d.Keep == nil {
		return
	}
	err := d.Keep(d.History.Commits())
	if d.repo.NotKept(err) {
		d.log().Warn("commits of generations can't be kept", "err", err)
	}
}

// unstored is a run that history does not keep: a poll that found nothing new.
func (r *run) unstored(outcome history.Outcome) *history.Run {
	now := time.Now().UTC()
	r.event(follow.Event{Step: "end", Outcome: outcome})
	return &history.Run{ID: r.head.ID, Commit: &r.head.Commit, Author: &r.head.Author, Subject: &r.head.Subject, Cause: r.head.Cause,
		StartedAt: r.head.At.UTC(), FinishedAt: &now, Outcome: &outcome, Hosts: []history.RunResult{}}
}
