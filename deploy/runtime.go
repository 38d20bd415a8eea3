package deploy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"bellhop/deploy/plan"
	"bellhop/internal/push"
)

// A run has a limit, 30 minutes by default, so that one that hangs does not hold the next. The steps
// before services have timeouts of their own: what they may take comes on top of it, or a backup
// that takes an hour would leave the hosts of the next wave where they are.

// A tooLong is the cause of the end of a run that took too long.
type tooLong struct {
	run   string
	limit time.Duration
}

func (e *tooLong) Error() string { return fmt.Sprintf("run %s: not done in %v", e.run, e.limit) }

// stepsTime is how long the steps before services of all hosts of some waves may hold up a run that pushes n hosts
// at once.
func stepsTime(waves [][]*plan.HostPlan, n int) (all time.Duration) {
	for _, wave := range waves {
		var longest time.Duration
		for _, hp := range wave {
			longest = max(longest, push.LongestSteps(&hp.Bundle.Manifest))
		}
		rounds := (len(wave) + n - 1) / n
		all += longest * time.Duration(rounds)
	}
	return all
}

// withStepsTime is ctx, of a run, with more time. It ends with parent, that of the server or the command, as
// ctx does.
func withStepsTime(ctx, parent context.Context, more time.Duration) (context.Context, context.CancelFunc) {
	if more <= 0 {
		return context.WithCancel(ctx)
	}

	longer, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		cause := context.Cause(ctx)
		var late *tooLong
		if !errors.As(cause, &late) {
			cancel(cause)
			return
		}
		time.AfterFunc(more, func() { cancel(&tooLong{late.run, late.limit + more}) })
	})
	stopParent := context.AfterFunc(parent, func() { cancel(context.Cause(parent)) })
	return longer, func() { stop(); stopParent(); cancel(nil) }
}
