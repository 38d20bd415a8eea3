// Package bell decides when a server makes runs: it is the trigger queue.
//
// A webhook, a poll, the start, and whatever finds that a host needs a run all ring. A ring is never
// lost, and a crowd that rings is one run. What a person asks for is a run of its own, queued behind the
// current one, which a person can cancel. How a run is made is the caller's (Runs).
package bell

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"bellhop/deploy/commits"
	"bellhop/deploy/follow"
	"bellhop/deploy/plan"
	"bellhop/internal/history"
	"bellhop/internal/history/stops"
)

// A Bell decides when a Deployer looks. It has one slot: all who ring before a run is taken
// share that run, and ring again for a run that is under way. So no push is lost, however
// many ring, and no ring waits for more than one run. What a person asks for is a run of its
// own, queued behind the current one.
//
// A request goes through three states, and Serve alone moves it on:
//
//	waiting   Ring put it into the slot, or Do into the queue
//	current   Serve took it: the queue first; the slot when Gap is over or the head has moved
//	ended     its log is closed, Looked was called; after a failed look a timer polls
type Bell struct {
	// Gap is the least time between the starts of two runs that were rung for; it keeps a
	// crowd of ringers to one run. 0 means 2 s. A head that moved does not wait it out.
	Gap time.Duration

	// Looked is called after each run with the commit that the run found at the branch's head, ""
	// when it could not read it. byClock says that the poll interval alone started the run. Nil: it is
	// not called.
	Looked func(ctx context.Context, commit string, byClock bool)

	runs Runs
	wake chan struct{}

	mu      sync.Mutex
	slot    *plan.Request // rung and not taken
	queue   []plan.Request
	current string
	atWork  Run       // the current run
	fails   int       // looks in a row that failed
	head    string    // that the newest run was held against; "" when it could not tell
	peek    time.Time // when the remote may be asked again whether its head moved
}

// Runs is what a bell needs to make runs, and to know when. All of it is set.
type Runs struct {
	// Prepare is a run that can be cancelled from now on, and is made once.
	Prepare func(req plan.Request) Run
	// Wait waits for the hosts that runs left at work.
	Wait func(ctx context.Context) error
	// Watch begins what is done beside runs while the bell is served, and Unwatch ends it.
	Watch   func(ctx context.Context)
	Unwatch func()
	// Head returns what asks the remote for the branch's head; nil where nothing can tell.
	Head   func() func(ctx context.Context) (string, error)
	Pauses *stops.Pauses
	Logs   *follow.Logs
	Log    func() *slog.Logger
}

// A Run is a run that was asked for.
type Run struct {
	// Make makes it, and returns it as history has it.
	Make func(ctx context.Context) (*history.Run, error)
	// Cancel cancels it for somebody, and completes out; false when it has ended.
	Cancel func(by string, out *Cancelled) bool
}

const (
	bellGap        = 2 * time.Second
	bellPeek       = 250 * time.Millisecond // between questions whether the head moved
	retryLookFirst = 5 * time.Second        // after a look that failed
	retryLookLast  = 5 * time.Minute
)

// New is a bell that makes runs.
func New(runs Runs) *Bell { return &Bell{runs: runs, wake: make(chan struct{}, 1)} }

// Ring asks for a look at the remote, and returns the id of the run that will look. It never
// waits: it takes no lock that a run holds.
func (b *Bell) Ring(cause string) (run string) { return b.ring(cause, plan.TriggerEvent) }

// Poll is Ring by the clock alone: a run that finds nothing new is not stored.
func (b *Bell) Poll(cause string) (run string) { return b.ring(cause, plan.TriggerClock) }

func (b *Bell) ring(cause string, trigger plan.Trigger) (run string) {
	b.mu.Lock()
	defer b.mu.Unlock()

	if b.slot == nil {
		b.slot = &plan.Request{Cause: cause, Trigger: trigger, RunID: history.NewRunID()}
		b.runs.Logs.Open(b.slot.RunID)
		b.rouse()
		return b.slot.RunID
	}

	b.slot.Share(cause, trigger)
	return b.slot.RunID
}

// Do queues a run of its own, and returns its id.
func (b *Bell) Do(req plan.Request) (run string) {
	b.mu.Lock()
	defer b.mu.Unlock()

	req.RunID = history.NewRunID()
	b.queue = append(b.queue, req)
	b.runs.Logs.Open(req.RunID)
	b.rouse()
	return req.RunID
}

// Current is the run that is under way, "" when there is none.
func (b *Bell) Current() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.current
}

// Waiting lists the runs that were asked for and have not begun.
func (b *Bell) Waiting() []string {
	b.mu.Lock()
	defer b.mu.Unlock()

	var ids []string
	for _, r := range b.queue {
		ids = append(ids, r.RunID)
	}
	if b.slot != nil {
		ids = append(ids, b.slot.RunID)
	}
	return ids
}

// PushWaits says that a run waits that more than the clock asked for.
func (b *Bell) PushWaits() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.queue) > 0 || b.slot != nil && b.slot.Trigger != plan.TriggerClock
}

// Serve settles what an earlier process left open, rings once, and makes runs until ctx
// ends. Then no other host is begun; hosts at work continue without it and are asked for
// their results at the next start.
func (b *Bell) Serve(ctx context.Context) error {
	b.runs.Watch(ctx)
	defer b.runs.Unwatch()
	b.Ring("start")

	gap := b.Gap
	if gap <= 0 {
		gap = bellGap
	}
	var last time.Time // start of the newest run that was rung for

	for {
		req, ok := b.take(!time.Now().Before(last.Add(gap)) || b.moved(ctx))
		if !ok {
			select {
			case <-ctx.Done():
				return b.stop()
			case <-b.wake:
			case <-b.soon(last.Add(gap)):
			case <-b.pauseEnds():
				b.Ring("the time of the pause is over")
			}
			continue
		}

		if ctx.Err() != nil {
			return b.stop()
		}
		if req.Automatic() {
			last = time.Now()
		}
		b.run(ctx, req)
	}
}

// stopTime is how long the end waits for hosts that have applied their bundles: each is confirmed, or else
// would go back. It is less than systemd gives the server (TimeoutStopSec=60).
const stopTime = 45 * time.Second

// stop waits for the pushes whose connections were just closed, and for hosts that wait to be confirmed.
func (b *Bell) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	return b.runs.Wait(ctx)
}

// soon fires when the slot may be taken, or the remote asked again; never while nothing is
// in it.
func (b *Bell) soon(at time.Time) <-chan time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()

	if b.slot == nil {
		return nil
	}
	if b.runs.Head() != nil && b.head != "" && b.peek.Before(at) {
		at = b.peek
	}
	return time.After(time.Until(at))
}

// moved says that somebody rang and the branch's head is not the one that the newest run was
// held against. It costs one question to the remote, so a push is not made to wait because
// another came shortly before, and a crowd that rings for one commit is still one run.
func (b *Bell) moved(ctx context.Context) bool {
	b.mu.Lock()
	head := b.head
	canTell := b.runs.Head() != nil && head != ""
	ask := b.slot != nil && canTell && !time.Now().Before(b.peek)
	if ask {
		b.peek = time.Now().Add(bellPeek)
	}
	b.mu.Unlock()
	if !ask {
		return false
	}
	now, err := b.runs.Head()(ctx)
	return err == nil && now != head
}

// take takes the next request: those made by hand first, in their order.
func (b *Bell) take(rung bool) (plan.Request, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()

	var req plan.Request
	switch {
	case len(b.queue) > 0:
		req, b.queue = b.queue[0], b.queue[1:]
	case b.slot != nil && rung:
		req, b.slot = *b.slot, nil
	default:
		return req, false
	}
	b.current, b.atWork = req.RunID, b.runs.Prepare(req)
	return req, true
}

func (b *Bell) run(ctx context.Context, req plan.Request) {
	b.mu.Lock()
	now := b.atWork
	b.mu.Unlock()

	hr, err := now.Make(ctx)
	if err != nil {
		b.runs.Log().Error("run failed", "run", req.RunID, "cause", req.Cause, "err", err)
	}

	commit := b.ended(ctx, req, hr, err)
	looked := req.Rollback == nil // which asks no remote
	if b.Looked != nil && looked {
		b.Looked(ctx, commit, req.Trigger == plan.TriggerClock)
	}
}

// ended notes what came of a run, and returns the commit that it found the branch at.
func (b *Bell) ended(ctx context.Context, req plan.Request, hr *history.Run, err error) (commit string) {
	b.mu.Lock()
	defer b.mu.Unlock()

	b.current, b.atWork = "", Run{}
	if hr != nil && hr.Commit != nil && req.Rollback == nil {
		commit = *hr.Commit
		b.head = commit
	}
	b.runs.Logs.Close(req.RunID, hr, err)
	if req.Automatic() {
		b.retry(ctx, err)
	}
	return commit
}

// retry polls after a look at the remote that failed, at growing intervals: the push that rang
// need not wait for the next poll. It is called under mu.
func (b *Bell) retry(ctx context.Context, err error) {
	if err == nil || errors.Is(err, commits.ErrRefused) {
		b.fails = 0
		return
	}
	wait := min(retryLookFirst<<min(b.fails, 8), retryLookLast)
	b.fails++
	time.AfterFunc(wait, func() {
		if ctx.Err() == nil {
			b.Poll("poll again")
		}
	})
}

func (b *Bell) rouse() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}
