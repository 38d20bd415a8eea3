package follow

import (
	"context"
	"slices"
	"sync"

	"bellhop/internal/history"
	"bellhop/internal/plain"
)

const (
	keepLogs      = 64        // runs whose events can be followed
	keepBytes     = 256 << 10 // of the events of one run
	eventOverhead = 128       // bytes that an event costs beside its texts

	mostHostText = 8 << 10  // of an event of one host
	mostRunText  = 64 << 10 // of an event of the run itself: a refused commit lists its problems
)

// Logs are the events of runs, by run.
type Logs struct {
	mu    sync.Mutex
	logs  map[string]*runLog
	order []string // oldest first
}

// A runLog is what happened in one run.
type runLog struct {
	events  []Event
	bytes   int           // that events cost
	dropped int           // events that were kept no longer
	more    chan struct{} // closed and made anew when there is more
	ended   bool
	run     *history.Run
	err     error
}

// NewLogs has no run.
func NewLogs() *Logs { return &Logs{logs: map[string]*runLog{}} }

// Open begins the log of a run, and forgets the oldest that has ended when there are many.
func (l *Logs) Open(run string) {
	l.mu.Lock()
	defer l.mu.Unlock()

	l.logs[run] = &runLog{more: make(chan struct{})}
	l.order = append(l.order, run)
	for i := 0; len(l.order) > keepLogs && i < len(l.order); {
		if !l.logs[l.order[i]].ended {
			i++
			continue
		}
		delete(l.logs, l.order[i])
		l.order = slices.Delete(l.order, i, i+1)
	}
}

// Add keeps one event of a run that is open.
func (l *Logs) Add(e Event) {
	l.mu.Lock()
	defer l.mu.Unlock()

	one := l.logs[e.Run]
	if one == nil || one.ended {
		return
	}
	limit := mostHostText
	if e.Host == "" {
		limit = mostRunText
	}
	if len(e.Text) > limit {
		e.Text = plain.Text(e.Text, limit)
	}
	one.events = append(one.events, e)
	one.bytes += e.cost()
	one.drop()
	close(one.more)
	one.more = make(chan struct{})
}

// cost is about what an event costs in memory.
func (e Event) cost() int {
	return eventOverhead + len(e.Run) + len(e.Host) + len(e.Step) + len(e.Text) + len(e.Outcome)
}

// drop drops the oldest events when there are too many bytes: a quarter, since it copies the rest.
func (l *runLog) drop() {
	if l.bytes <= keepBytes {
		return
	}

	n := 0
	for l.bytes > keepBytes/4*3 && n < len(l.events)-1 {
		l.bytes -= l.events[n].cost()
		n++
	}
	l.dropped += n
	l.events = slices.Clone(l.events[n:]) // a follower may be reading the old ones
}

// since returns the events from number n on, and the number of the one after them.
func (l *runLog) since(n int) (events []Event, next int) {
	n = max(n, l.dropped)
	events = l.events[n-l.dropped:]
	return events, n + len(events)
}

// Close ends the log of a run.
func (l *Logs) Close(run string, hr *history.Run, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()

	if one := l.logs[run]; one != nil && !one.ended {
		one.ended, one.run, one.err = true, hr, err
		close(one.more)
	}
}

// Events are those of a run that are kept so far, the oldest first; none when the run is not, or no longer, known.
func (l *Logs) Events(run string) []Event {
	l.mu.Lock()
	defer l.mu.Unlock()

	one := l.logs[run]
	if one == nil {
		return nil
	}
	return slices.Clone(one.events)
}

// Follow calls each with every event of a run that is kept, from its first, until the run has
// ended, and returns the run and its error. history.ErrNoRun says that the run is not, or no longer,
// known; history may have it.
func (l *Logs) Follow(ctx context.Context, run string, each func(Event)) (*history.Run, error) {
	for next := 0; ; {
		l.mu.Lock()
		one := l.logs[run]
		if one == nil {
			l.mu.Unlock()
			return nil, history.ErrNoRun
		}
		var events []Event
		events, next = one.since(next)
		more, ended := one.more, one.ended
		l.mu.Unlock()

		for _, e := range events {
			each(e)
		}
		if ended {
			return one.run, one.err
		}
		select {
		case <-more:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
