package notify

import (
	"cmp"
	"slices"
	"time"

	"bellhop/internal/history"
	"bellhop/internal/history/outbox"
)

// A queue holds what one target has not been told yet. It does no work by itself.
type queue struct {
	read     int64             // the last row that was looked at
	marked   int64             // the last row that the stored mark is behind
	last     time.Time         // of the last message
	reported map[string]string // by subject: what the target believes; no entry: that all is well
	changes  map[string]change // by subject: what it is to be told
	busy     bool              // a message is on its way; nothing else here changes meanwhile

	isNew bool          // no row was read yet, and there is no mark
	wait  time.Duration // after the last refusal; 0: there was none
	retry time.Time     // not before
}

// A change is what happened to one host, to a run as a whole, or to all runs.
type change struct {
	event  Event
	host   string // "" of a run and of a pause
	isWell bool   // what was told before is over
	state  string
	reason string
	err    string
	run    string
	commit string
	ended  bool      // its run has: no more hosts of it are to come
	since  time.Time // when the target should first have known
}

// newQueue is the queue of a target; isKnown says that it has the mark m.
func newQueue(m outbox.Mark, isKnown bool) *queue {
	q := &queue{isNew: !isKnown, read: m.Seq, marked: m.Seq, last: m.At, reported: map[string]string{}, changes: map[string]change{}}
	for host, state := range m.Told {
		q.reported[host] = state
	}
	return q
}

// mark is what has to be remembered once all that was read is told.
func (q *queue) mark() outbox.Mark {
	return outbox.Mark{Seq: q.read, At: q.last, Told: q.reported}
}

// add takes a row of the outbox in. A new target is not told of old times.
func (q *queue) add(t Target, m history.Message) {
	if q.isNew && time.Since(m.At) > joinTime {
		q.marked = m.Seq
		return
	}
	if m.Kind == "run" {
		defer q.hurry(m)
	}
	if m.Host != "" && t.Wants != nil && !t.Wants(m.Host) {
		return
	}

	c, ok := changeOf(m)
	if !ok {
		return
	}

	about := subject(m)
	believed := q.reported[about]
	switch {
	case c.isWell && believed == "":
		delete(q.changes, about) // it went wrong and right again before anybody was told
	case !c.isWell && believed == q.belief(about, c):
		delete(q.changes, about)
	case !slices.Contains(t.Events, c.event):
		delete(q.changes, about)
		q.believe(about, c)
	default:
		if was, waits := q.changes[about]; waits && was.event == c.event {
			c.since = was.since
		}
		q.changes[about] = c
	}
}

// subject is what a row is about: a host by its name, the runs as "". No name holds a blank.
func subject(m history.Message) string {
	switch m.Kind {
	case "drift":
		return "drift of " + m.Host
	case "pause":
		return "pause of runs"
	}
	return m.Host
}

// hurry makes what a run changed due at its end: nothing more is to come.
func (q *queue) hurry(m history.Message) {
	for host, c := range q.changes {
		if c.run == m.Run {
			c.ended = true
			q.changes[host] = c
		}
	}
}

// changeOf is what a row tells; false when it is nothing that people wait for.
func changeOf(m history.Message) (change, bool) {
	c := change{host: m.Host, state: m.Now, reason: string(m.Reason), err: m.Error, run: m.Run, commit: m.Commit, since: m.At}
	switch m.Kind {
	case "run":
		return runChange(c, m)
	case "drift":
		c.event, c.isWell = Drift, m.Now == history.NowClean
		return c, true
	case "pause":
		c.event, c.isWell = Paused, m.Now == history.NowResumed
		return c, true
	}

	switch history.State(m.Now) {
	case history.Failed, history.RolledBack, history.Unconfirmed, history.HeldBack, history.Refused:
		c.event = Failed
	case history.Pending:
		c.event = Away
	case history.Current, history.Released:
		c.event, c.isWell = Recovered, true
	default:
		return c, false // behind, deploying, held: more is to come, or a person did it
	}

	return c, true
}

// runChange is what the end of a run tells beyond its hosts: that it could not be made at all.
func runChange(c change, m history.Message) (change, bool) {
	if m.Untold {
		return c, false
	}

	switch history.Outcome(m.Now) {
	case history.OutcomeFailed, history.OutcomeRefused:
		c.event = Failed
		return c, m.Error != ""
	case history.OutcomeCancelled:
		return c, false
	}

	c.event, c.isWell = Recovered, true
	return c, true
}

// belief is what a target knows of a host once it was told c: a later change that comes to the same is no news.
func (q *queue) belief(about string, c change) string {
	switch {
	case c.isWell:
		return ""
	case c.event == Away, c.event == Drift, c.event == Paused:
		return string(c.event) // every push finds it away
	case about == "":
		return string(c.event) + "\n" + c.err
	}
	return c.state + "\n" + c.commit
}

func (q *queue) believe(about string, c change) {
	if b := q.belief(about, c); b != "" {
		q.reported[about] = b
		return
	}
	delete(q.reported, about)
}

// due is when the message must be sent. There are changes.
func (q *queue) due() time.Time {
	var due time.Time
	isFirst := true
	for host, c := range q.changes {
		at := c.since
		switch {
		case c.event == Away && c.run == "":
			at = at.Add(awayWait)
		case !c.ended:
			at = at.Add(firstWait)
		}
		if joined := q.last.Add(joinTime); joined.After(at) {
			at = joined
			if c.event == Failed && q.reported[host] == "" {
				at = earlier(at, c.since.Add(failWait))
			}
		}
		if isFirst || at.Before(due) {
			due, isFirst = at, false
		}
	}

	if q.retry.After(due) {
		return q.retry
	}

	return due
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// sent notes that the target knows all that waited.
func (q *queue) sent(now time.Time) {
	for host, c := range q.changes {
		q.believe(host, c)
	}
	clear(q.changes)
	q.last, q.marked, q.wait, q.retry = now, q.read, 0, time.Time{}
}

// refused notes that the target could not be told.
func (q *queue) refused(now time.Time) {
	q.wait = min(cmp.Or(q.wait*2, firstWake), lastWake)
	q.retry = now.Add(q.wait)
}
