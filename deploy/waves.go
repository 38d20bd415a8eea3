package deploy

import (
	"context"
	"fmt"

	"bellhop/deploy/follow"
	"bellhop/deploy/plan"
	"bellhop/internal/history"
	"bellhop/internal/plain"
)

// A run goes over its hosts in waves. Before each wave but the first it looks at what came of the hosts
// before, and stops when more than max_failures of them failed as a whole. What the hosts of a wave
// hold follows package rollout; here is what a run makes of it.

// wave pushes the hosts of one wave, unless the run has stopped.
func (b *batch) wave(ctx context.Context, i, n int) {
	hosts := b.beginWave(i)
	if why, isFirm := b.sum.Stops(); why != "" {
		b.leave(b.takeLeft(), history.End{Outcome: history.Behind.Outcome(), Error: why, Stopped: isFirm})
		return
	}
	if hosts == 0 { // the run was cancelled
		return
	}
	if len(b.plan.Order) > 1 {
		b.run.event(follow.Event{Step: "wave", Text: fmt.Sprintf("wave %d of %d: %s", i+1, len(b.plan.Order), plain.Few(b.plan.Waves()[i]))})
	}
	b.push(ctx, min(n, hosts))
}

// beginWave has the hosts of one wave wait to be pushed, and returns how many there are: none when the run
// was cancelled.
func (b *batch) beginWave(i int) int {
	b.mu.Lock()
	defer b.mu.Unlock()

	if b.cancelled {
		return 0
	}
	b.left, b.later = b.plan.Order[i], b.plan.Order[i+1:]
	return len(b.left)
}

// leave ends hosts that a run stops before, as e. Where the stop is firm their commit is not tried there
// again unless a person asks.
func (b *batch) leave(hosts []*plan.HostPlan, e history.End) {
	e.Untouched = true
	for _, hp := range hosts {
		e := e
		e.State = history.Behind
		if !hp.Last.Had {
			e.State = history.Never
		}
		if hp.Isolation != nil || hp.Hold != nil {
			e.Whole = hp.Wanted()
		}
		b.d.end(b.run, hp, e)
	}
}
