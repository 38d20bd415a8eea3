package deploy

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"bellhop/deploy/follow"
	"bellhop/deploy/plan"
	"bellhop/deploy/tally"
	"bellhop/internal/history"
	"bellhop/internal/push"
)

// A batch pushes the hosts of a run, wave by wave, a number of them at once. It knows how long each
// takes, to detach one that holds up the others: the push there continues in the background.
type batch struct {
	d    *Deployer
	run  *run
	plan *plan.Plan
	sum  *tally.Tally

	workers sync.WaitGroup // until no worker is left that the run waits for

	mu    sync.Mutex         // guards what follows
	left  []*plan.HostPlan   // of this wave, not begun yet
	later [][]*plan.HostPlan // waves after this one

	cancelled bool               // nothing is begun any more
	ended     bool               // one has ended
	longest   time.Duration      // that one took which ended
	waited    map[*hostPush]bool // the pushes that the run waits for
}

// A hostPush is one host that is being pushed.
type hostPush struct {
	host   *plan.HostPlan
	began  time.Time
	ctx    context.Context // of this push alone; cancel ends it
	clock  *push.Clock     // of ctx
	cancel context.CancelFunc
}

// patienceStep is how often a batch looks for hosts that are slow.
const patienceStep = 100 * time.Millisecond

func newBatch(d *Deployer, r *run, p *plan.Plan) *batch {
	return &batch{d: d, run: r, plan: p, later: p.Order, sum: tally.New(p.Fleet.Rollout.MaxFailures), waited: map[*hostPush]bool{}}
}

// push pushes the hosts of a wave that was begun, n at once, and returns when each has ended or was
// detached. When ctx ends no other host is begun.
func (b *batch) push(ctx context.Context, n int) {
	ended := make(chan struct{})
	var watcher sync.WaitGroup
	watcher.Go(func() { b.watch(ctx, ended) })

	for range n {
		b.workers.Add(1)
		b.addWorker(ctx)
	}
	b.workers.Wait()
	close(ended)
	watcher.Wait()

	for _, hp := range b.takeLeft() {
		b.d.end(b.run, hp, history.End{Outcome: history.OutcomeCancelled, State: hp.State, Error: notBegun(ctx)})
	}
}

// notBegun says why a host was not begun when its run ended.
func notBegun(ctx context.Context) string {
	cause := context.Cause(ctx)
	if errors.Is(cause, context.Canceled) {
		return "not begun: bellhop ended"
	}
	return "not begun: " + cause.Error()
}

// takeLeft takes the hosts of this wave that were not begun.
func (b *batch) takeLeft() []*plan.HostPlan {
	b.mu.Lock()
	defer b.mu.Unlock()

	left := b.left
	b.left = nil
	return left
}

// addWorker starts a worker. The deployer's own group counts it too, which a worker with a detached
// host leaves later than the run's.
func (b *batch) addWorker(ctx context.Context) { b.d.work.Go(func() { b.work(ctx) }) }

// work pushes one host after another, until none is left or its host is detached: then
// detach has started another worker. A goroutine for each host would grow a stack for each.
func (b *batch) work(ctx context.Context) {
	for {
		one := b.next(ctx)
		if one == nil {
			b.workers.Done()
			return
		}
		b.pushOne(one)
		if !b.stopWaiting(one, true) {
			return
		}
	}
}

// next begins the next host, which the run waits for from then on. It is nil when none is left, or
// ctx has ended.
func (b *batch) next(ctx context.Context) *hostPush {
	b.mu.Lock()
	defer b.mu.Unlock()

	if len(b.left) == 0 || ctx.Err() != nil {
		return nil
	}
	one := &hostPush{host: b.left[0], began: time.Now()}
	one.ctx, one.cancel, one.clock = push.NewClock(b.run.parent, b.d.limits().Host, &one.host.Bundle.Manifest)
	b.left = b.left[1:]
	b.waited[one] = true
	return one
}

// stopWaiting ends the wait for a host that ended, or is detached, and returns whether the run waited
// for it until now. The goroutine that gets true owns the worker slot.
func (b *batch) stopWaiting(one *hostPush, ended bool) (waited bool) {
	b.mu.Lock()
	defer b.mu.Unlock()

	waited = b.waited[one]
	delete(b.waited, one)
	if waited && ended {
		b.ended = true
		b.longest = max(b.longest, one.clock.Took())
	}
	return waited
}

func (b *batch) pushOne(one *hostPush) {
	defer one.cancel()
	defer b.d.Trace.Span(one.host.Name, "push", b.run.head.ID)()

	known := b.leaveOut(one.ctx, one.host)
	e, open, isEnd := known.end(b.plan)
	if !isEnd {
		b.d.hosts.SetPushing(one.host.Name, true)
		e, open = b.d.push(one.ctx, one.clock, b.run, b.plan, known.hp)
		b.d.hosts.SetPushing(one.host.Name, false)
	}
	if open {
		b.run.cut.Store(true)
		return
	}

	e.Took = time.Since(one.began)
	e.FailedServices = append(e.FailedServices, known.failed...)
	b.sum.Count(one.host, e)
	b.d.end(b.run, known.hp, e)
}

// watch detaches hosts that are slow while others wait: the pushes there continue, and the run may end
// without them. When ctx ends it detaches all.
func (b *batch) watch(ctx context.Context, ended <-chan struct{}) {
	tick := time.NewTicker(patienceStep)
	defer tick.Stop()

	for {
		select {
		case <-ended:
			return
		case <-ctx.Done():
			b.detachAll(ctx)
			return
		case <-tick.C:
		}

		for _, one := range b.underWay() {
			if why, slow := b.slow(one.clock.Took()); slow {
				b.detach(ctx, one, why)
			}
		}
	}
}

// underWay lists the pushes that the run waits for.
func (b *batch) underWay() []*hostPush {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Collect(maps.Keys(b.waited))
}

// detachAll ends the wait for every host, when the run's time is over or bellhop ends. Where hosts
// are not detached they end too.
func (b *batch) detachAll(ctx context.Context) {
	why := "the run's time is over"
	if b.run.parent.Err() != nil {
		why = "bellhop ends"
	}

	for _, one := range b.underWay() {
		if !b.d.Detach {
			one.cancel()
			continue
		}
		if b.run.parent.Err() != nil {
			b.run.cut.Store(true)
		}
		b.detach(ctx, one, why)
	}
}

func (b *batch) detach(ctx context.Context, one *hostPush, why string) {
	if !b.stopWaiting(one, false) {
		return
	}
	defer b.addWorker(ctx)

	b.run.event(follow.Event{Host: one.host.Name, Step: "detached", Text: why + "; it goes on by itself"})
	b.d.log().Warn("host was detached", "host", one.host.Name, "run", b.run.head.ID, "cause", why, "took", time.Since(one.began))
}

// slow says whether a host that took so long is to be detached, and why.
func (b *batch) slow(took time.Duration) (why string, slow bool) {
	limit, heldUp := b.patience()
	switch {
	case !b.d.Detach || took < limit:
		return "", false
	case heldUp:
		return "slower than its peers", true
	}
	return "another push waits", b.d.bell.pushWaits()
}

// patience is how long a host may take, and whether one that takes longer holds up others: those
// that wait for a worker, or the run, in which a peer has ended already.
func (b *batch) patience() (limit time.Duration, heldUp bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.longest + b.d.limits().Patience, b.ended || len(b.left) > 0
}
