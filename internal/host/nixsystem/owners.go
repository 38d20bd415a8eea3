package nixsystem

import (
	"context"
	"sync"
	"time"

	"bellhop/internal/host/machine"
)

// Owners gives keys to those of their owners that the host has, and names the keys whose owner it does not have. A
// switch makes users and removes users, so it is called while one is under way and after it. Nil: there are no keys.
type Owners func(context.Context) (late []string, err error)

// ownersEvery is how often keys are given to their owners while a switch is under way: units that it starts
// after it made the users find keys that they can read.
const ownersEvery = 20 * time.Millisecond

// given is what came of the keys in the end.
type given struct {
	late []string // those whose owner is not there
	err  error    // of giving them
}

// switchWithOwners is switchTo, with keys given to owners that come and go.
func (c commands) switchWithOwners(ctx context.Context, owners Owners, system, verb string) (st machine.CommandState, keys given, err error) {
	if owners == nil {
		st, err = c.switchTo(ctx, system, verb)
		return st, keys, err
	}

	during, end := context.WithCancel(ctx)
	var work sync.WaitGroup
	work.Go(func() {
		for {
			select {
			case <-during.Done():
				return
			case <-time.After(ownersEvery):
				_, _ = owners(during) // what could not be done is tried again, and after the switch it counts
			}
		}
	})
	st, err = c.switchTo(ctx, system, verb)
	end()
	work.Wait()

	if ctx.Err() != nil {
		return st, keys, err
	}
	keys.late, keys.err = owners(ctx)
	return st, keys, err
}
