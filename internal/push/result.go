package push

import (
	"context"
	"fmt"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/bundle/wire"
	"bellhop/internal/link"
	"bellhop/internal/plain"
)

// slowLine is after how long a line that is not there yet counts as one that can't be had. A host that
// its bundle cut off goes back soon, and answers the same dial then.
const slowLine = 3 * time.Second

// fetchResult looks for the result of a run whose line was lost by the error was. No result and
// no error: the run never began there.
func (p *Pusher) fetchResult(ctx context.Context, j *Job, filter *Filter, was error) (*bundle.Result, string, error) {
	defer p.Trace.Span(j.Host, "fetch the result", "")()
	until := time.Now().Add(max(reattach, p.Limits.Patience, j.confirmation.patience()))

	for wait := p.Limits.Retry; time.Now().Before(until) && pause(ctx, wait); wait = min(2*wait, longestWait(j.Confirm)) {
		began := time.Now()
		slow := time.AfterFunc(slowLine, func() { j.confirmation.lineTried(began, errNoAnswer) })
		s, err := p.Open(ctx, j.Target, j.things())
		slow.Stop()
		j.confirmation.lineTried(began, err)
		if isFinal(j, err) {
			return nil, "", lost(err)
		}
		if err != nil {
			was = lost(err)
			continue
		}

		s.clock = j.Clock
		s.Confirm(j.confirmation)
		res, err := s.Find(j.Run, filter)
		if err == nil && res == nil {
			err = p.believe(j, s)
		}
		boot := filter.Word(s.Hello.BootID)
		s.Close()
		if err == nil {
			return res, boot, nil
		}
		was = lost(err)
	}

	return nil, "", was
}

// longestWait is how long the next try for the result of a lost run may wait, where the host waits for so long to be
// confirmed: a line that works again is to be found within that time, or a good change is undone.
func longestWait(confirm time.Duration) time.Duration {
	const most = 10 * time.Second
	if confirm <= 0 {
		return most
	}
	return min(most, max(confirm/3, time.Second))
}

// isFinal says that no other try will find the result. A host that shows another key may go back by
// itself to the one that is pinned, when nobody confirms what it applied.
func isFinal(j *Job, err error) bool {
	goesBack := j.confirmation != nil && FateOf(err) == WrongKey
	return FateOf(err) == Failed || link.HardStop(err) && !goesBack
}

// Find asks a host for the result of a run: that which ended last, or the one at work. Nil: it
// was never begun, and can't be any more.
func (s *Session) Find(run string, filter *Filter) (*bundle.Result, error) {
	switch last := s.Hello.Last; {
	case last != nil && last.Run.Is(run):
		return wire.FilterResult(s.sinceThen(last), filter.Text), nil
	case s.Hello.Open.Is(run):
		if s.Hello.Waits { // the line may break before the host says so once more
			s.confirmation.reached()
			s.confirm()
		}
		return s.attach(s.Hello.Open, filter)
	}

	return s.void(run, filter)
}

// sinceThen is the result of a run that ended, with what the host holds by now: another deployer may have
// been there since, or somebody who restored a backup.
func (s *Session) sinceThen(last *bundle.HostResult) *bundle.HostResult {
	if s.Hello.Record == nil {
		return last
	}
	now := *last
	now.Record = s.Hello.Record
	return &now
}

// attach follows a run that is at work on the host already.
func (s *Session) attach(run plain.Foreign, filter *Filter) (*bundle.Result, error) {
	ask := bundle.HostAsk{Verb: bundle.AskAttach, Run: run}
	if err := wire.WriteFrame(s.stream, bundle.FrameAsk, ask); err != nil {
		return nil, lost(s.why(err))
	}
	res, err := s.follow(nil, filter, nil)
	if err != nil {
		return nil, lost(s.why(err))
	}

	return res, nil
}

// void has a host forget a run that was offered to it, unless it was begun: then it is followed.
func (s *Session) void(run string, filter *Filter) (*bundle.Result, error) {
	defer s.within(s.p.Limits.Host, "hear of run "+run)()

	if err := wire.WriteFrame(s.stream, bundle.FrameAsk, bundle.Ask{Verb: bundle.AskVoid, Run: run}); err != nil {
		return nil, lost(s.why(err))
	}
	m, err := s.r.Next()
	if err != nil {
		return nil, lost(s.why(err))
	}
	if reply, ok := m.(*bundle.HostReply); ok && reply.Error.IsEmpty() {
		return nil, nil
	}

	res, err := s.follow(m, filter, nil)
	if err != nil {
		return nil, lost(s.why(err))
	}

	return res, nil
}

// Undo has the host take away everything that bellhop owns there, and put back what stood there
// before. An error says that it did not, or not whole.
func (s *Session) Undo(run string, filter *Filter) (*bundle.Result, error) {
	defer s.within(s.p.Limits.Host, "undo")()

	if err := wire.WriteFrame(s.stream, bundle.FrameAsk, bundle.Ask{Verb: bundle.AskUndo, Run: run}); err != nil {
		return nil, s.why(err)
	}
	res, err := s.follow(nil, filter, nil)
	if err != nil {
		return nil, fmt.Errorf("undo: %w", s.why(err))
	}
	if res.Outcome != bundle.OutcomeDone && res.Outcome != bundle.OutcomeNothing {
		return res, fmt.Errorf("undo: %s: %s", res.Outcome, res.Error)
	}

	return res, nil
}
