// Package notify tells people what came of their pushes.
//
// A change is what happened to one host, or to a run as a whole: it failed, it is away, it is well again. A target is
// one place that messages go to. Changes are rows of history's outbox; each target has a mark there, up to which it
// was told.
//
// Its promise: each change that a target wants reaches it at least once, whatever ends the process in between, unless
// it was undone before anybody could be told. One run makes one message. After a message the changes of ten minutes
// are joined, but the failure of another host is held back for one minute at most. A target that hangs or refuses
// holds nobody else, and no error holds a piece of its URL.
package notify

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"bellhop/internal/history"
	"bellhop/internal/history/outbox"
)

// A Target is one place that messages go to.
type Target struct {
	Name   string
	URL    string                 // of a messenger, or https://… for a signed POST; a secret. "": Find says
	Events []Event                // what it is told of
	Wants  func(host string) bool // the hosts that it is told of; nil: all
	// Find opens the URL. It is called for each message that is sent, and for nothing else.
	Find func() (string, error)
}

// An Event is a kind of change.
type Event string

const (
	Failed    Event = "failed"
	Recovered Event = "recovered"
	Away      Event = "away"
	Drift     Event = "drift"
	Paused    Event = "paused"
)

// Outbox is what history has for a sender: rows in the order of their numbers, and a mark for each target.
type Outbox interface {
	OutboxAfter(ctx context.Context, seq int64, limit int) ([]history.Message, error)
	Last(ctx context.Context) (seq int64, err error)
	Ack(ctx context.Context, seq int64) error
	Marks(ctx context.Context) (map[string]outbox.Mark, error)
	SetMark(ctx context.Context, target string, m outbox.Mark) error
	Run(ctx context.Context, id string) (*history.Run, error)
	// Queued receives when rows may have come.
	Queued() <-chan struct{}
}

// A Sender sends what waits in the outbox. Its fields are set before Run.
type Sender struct {
	Outbox Outbox
	// Targets are those of the config that is deployed, and its network. It is called when rows wait.
	Targets func(ctx context.Context) (targets []Target, network string, err error)
	// RunURL is the address of the page of a run; "" when there is none. Nil: no run has a page.
	RunURL func(run string) string
	Log    *slog.Logger

	post func(ctx context.Context, t Target, m Message) error // Post, but in tests
	sent chan sent                                            // what came of a message
	goes func(func())                                         // begins a goroutine that Run waits for
}

// SendTime is how long one message to one target may take.
const SendTime = 30 * time.Second

// Times of a sender.
const (
	firstWait = 5 * time.Second  // from a change to its message, so that a run's hosts are joined
	awayWait  = 2 * time.Minute  // the same of a host that stopped answering between runs: most of them reboot
	joinTime  = 10 * time.Minute // after a message, for which changes are joined
	failWait  = time.Minute      // for which the failure of a host may be held back meanwhile
	firstWake = 5 * time.Second  // after a target refused; twice as long each time
	lastWake  = 10 * time.Minute
	gather    = 100 * time.Millisecond
	batchRows = 500
)

// Run sends until ctx ends. What can't be sent is tried again, later and later.
func (s *Sender) Run(ctx context.Context) {
	if s.post == nil {
		s.post = Post
	}

	s.sent = make(chan sent)
	var wg sync.WaitGroup
	defer wg.Wait()
	s.goes = wg.Go
	queues := map[string]*queue{}
	for {
		again := s.round(ctx, queues)
		timer := time.NewTimer(again)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-s.Outbox.Queued():
			timer.Stop()
			time.Sleep(gather) // one event writes several rows
		case one := <-s.sent:
			timer.Stop()
			s.end(ctx, one)
		case <-timer.C:
		}
	}
}

// round reads new rows, sends what is due, and returns when to look again.
func (s *Sender) round(ctx context.Context, queues map[string]*queue) time.Duration {
	last, err := s.Outbox.Last(ctx)
	var targets []Target
	var network string
	if err == nil {
		targets, network, err = s.Targets(ctx)
	}
	if err == nil && len(targets) == 0 && last > 0 {
		err = s.Outbox.Ack(ctx, last) // nobody is to be told of what there was before the question
	}
	if err == nil {
		err = s.read(ctx, targets, queues)
	}
	if err != nil {
		if ctx.Err() == nil {
			s.Log.Warn("messages wait", "err", err)
		}
		return firstWake * 6
	}

	for _, t := range targets {
		s.start(ctx, t, network, queues[t.Name])
	}

	s.ack(ctx, queues)
	return untilNext(queues)
}

// read gives each target the rows that it has not seen. The queue of a target that is no more is dropped.
func (s *Sender) read(ctx context.Context, targets []Target, queues map[string]*queue) error {
	marks, err := s.Outbox.Marks(ctx)
	if err != nil {
		return err
	}

	for name := range queues {
		if !slices.ContainsFunc(targets, func(t Target) bool { return t.Name == name }) {
			delete(queues, name)
		}
	}

	for _, t := range targets {
		q := queues[t.Name]
		if q == nil {
			m, isKnown := marks[t.Name]
			q = newQueue(m, isKnown)
			queues[t.Name] = q
		}
		if q.busy {
			continue // rows wait until it is known what the target was told
		}
		if err := s.fill(ctx, t, q); err != nil {
			return err
		}
		if _, isKnown := marks[t.Name]; !isKnown {
			if err := s.Outbox.SetMark(ctx, t.Name, outbox.Mark{Seq: q.marked, Told: map[string]string{}}); err != nil {
				return err // with a mark it is not new, and nothing that waits is of old times
			}
		}
	}

	return nil
}

// fill reads rows until there are no more.
func (s *Sender) fill(ctx context.Context, t Target, q *queue) error {
	for {
		rows, err := s.Outbox.OutboxAfter(ctx, q.read, batchRows)
		if err != nil || len(rows) == 0 {
			return err
		}
		for _, m := range rows {
			q.add(t, m)
		}
		q.read = rows[len(rows)-1].Seq
		q.isNew = q.isNew && len(rows) >= batchRows
	}
}

// A sent is what came of one message.
type sent struct {
	target string
	queue  *queue
	err    error
}

// start begins to send to one target what is due, if anything is. It does not wait: a target that is slow holds nobody else.
func (s *Sender) start(ctx context.Context, t Target, network string, q *queue) {
	isDue := len(q.changes) > 0 && !time.Now().Before(q.due())
	if q.busy || !isDue {
		return
	}

	q.busy = true
	m := s.message(ctx, network, q)
	s.goes(func() {
		sending, cancel := context.WithTimeout(ctx, SendTime)
		defer cancel()
		err := s.post(sending, t, m)
		select {
		case s.sent <- sent{t.Name, q, err}:
		case <-ctx.Done():
		}
	})
}

// end notes what came of a message.
func (s *Sender) end(ctx context.Context, one sent) {
	q := one.queue
	q.busy = false
	if one.err != nil {
		q.refused(time.Now())
		if ctx.Err() == nil {
			s.Log.Error("message not sent", "target", one.target, "err", one.err, "again", q.wait)
		}
		return
	}

	q.sent(time.Now())
	s.Log.Info("message sent", "target", one.target)
	if err := s.Outbox.SetMark(ctx, one.target, q.mark()); err != nil && ctx.Err() == nil {
		s.Log.Error("message sent, and may be sent again", "target", one.target, "err", err)
	}
}

// ack drops the rows that no target needs any more.
func (s *Sender) ack(ctx context.Context, queues map[string]*queue) {
	done := int64(-1)
	for name, q := range queues {
		if len(q.changes) == 0 && q.read > q.marked && !q.busy {
			if err := s.Outbox.SetMark(ctx, name, q.mark()); err != nil {
				return // the rows stay
			}
			q.marked = q.read
		}
		if done < 0 || q.marked < done {
			done = q.marked
		}
	}

	if done > 0 {
		if err := s.Outbox.Ack(ctx, done); err != nil && ctx.Err() == nil {
			s.Log.Warn("messages that were sent are kept", "err", err)
		}
	}
}

// untilNext is how long nothing is due. Changes that come meanwhile end the wait.
func untilNext(queues map[string]*queue) time.Duration {
	next := time.Hour
	for _, q := range queues {
		if len(q.changes) > 0 && !q.busy {
			next = min(next, max(time.Until(q.due()), 0))
		}
	}

	return next
}
