package helper

import (
	"context"
	"errors"
	"fmt"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/host/check"
	"bellhop/internal/host/machine"
	"bellhop/internal/host/restart"
)

// lockEvery is how often a restart looks whether the run before it has ended.
const lockEvery = 50 * time.Millisecond

// restart restarts the units of a service, behind the run that is at work here, if there is one.
func (s *session) restart(ctx context.Context, run, service string) error {
	if !check.RunName.MatchString(run) {
		return s.reply(bundle.Reply{Error: fmt.Sprintf("run id %q", run)})
	}

	unlock, err := s.lockInTurn(ctx)
	if err != nil {
		return s.refuse(run, err)
	}
	defer unlock()

	res, err := restart.Service(ctx, s.m, service, s.event)
	if err != nil {
		return s.refuse(run, err)
	}
	res.Run = run
	return s.result(res)
}

// event tells of a step at once.
func (s *session) event(step, text string) {
	_ = s.say(bundle.FrameEvent, bundle.Event{Step: step, Text: text, At: time.Now().UnixMilli()}) // a line that is gone shows at the result
}

// lockInTurn waits for the lock as long as the deployer is there: a helper that was left behind by a
// connection that broke must not restart anything later on.
func (s *session) lockInTurn(ctx context.Context) (unlock func(), err error) {
	unlock, err = s.m.Lock(0)
	if !errors.Is(err, machine.ErrBusy) {
		return unlock, err
	}
	s.event("wait", "another run is at work")

	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_, _, _ = s.in.Next() // the deployer has said all: this returns when it is gone
	}()

	for errors.Is(err, machine.ErrBusy) {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-gone:
			return nil, errors.New("the deployer is gone")
		case <-time.After(lockEvery):
			unlock, err = s.m.Lock(0)
		}
	}
	return unlock, err
}
