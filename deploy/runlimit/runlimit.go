// Package runlimit bounds how long a run may take, so that one that hangs does not hold the next: 30 minutes by
// default. The steps before services have timeouts of their own. What they may take comes on top of it, or a backup
// that takes an hour would leave the hosts of the next wave where they are.
package runlimit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"bellhop/deploy/plan"
	"bellhop/internal/push"
)

// A TooLong is the cause of the end of a run that took too long.
type TooLong struct {
	Run   string
	Limit time.Duration
}

func (e *TooLong) Error() string { return fmt.Sprintf("run %s: not done in %v", e.Run, e.Limit) }

// StepsTime is how long the steps before services of all hosts of some waves may hold up a run that pushes n hosts
// at once.
func StepsTime(waves [][]*plan.HostPlan, n int) (all time.Duration) {
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

// WithStepsTime is ctx, of a run, with more time. It ends with parent, that of the server or the command, as
// ctx does.
func WithStepsTime(ctx, parent context.Context, more time.Duration) (context.Context, context.CancelFunc) {
	if more <= 0 {
		return context.WithCancel(ctx)
	}

	longer, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		cause := context.Cause(ctx)
		var late *TooLong
		if !errors.As(cause, &late) {
			cancel(cause)
			return
		}
		time.AfterFunc(more, func() { cancel(&TooLong{late.Run, late.Limit + more}) })
	})
	stopParent := context.AfterFunc(parent, func() { cancel(context.Cause(parent)) })
	return longer, func() { stop(); stopParent(); cancel(nil) }
}
