package history

import (
	"context"
	"time"

	"bellhop/internal/history/outbox"
	"bellhop/internal/history/results"
	"bellhop/internal/history/stops"
)

// A Message waits in the outbox until somebody sends it to people.
type Message struct {
	Seq    int64          `json:"-"` // of its transaction: all messages of one share it
	At     time.Time      `json:"at"`
	Kind   string         `json:"kind"` // "host", "run", "drift" or "pause"
	Run    string         `json:"run"`
	Host   string         `json:"host,omitempty"`
	Was    State          `json:"was,omitempty"` // state of the host before
	Now    string         `json:"now"`           // state of the host, outcome of the run, or of those below
	Commit string         `json:"commit,omitempty"`
	Error  string         `json:"error,omitempty"`
	Reason results.Reason `json:"reason,omitempty"` // of a host that is unconfirmed now

	// Untold says of the end of a run that it is no news by itself, beside what came of hosts: who asked saw it, or it
	// says nothing of whether pushes are deployed.
	Untold bool `json:"untold,omitempty"`
}

// What Now is of a drift and of a pause.
const (
	NowDrifted = "drifted" // Error says what differs
	NowClean   = "clean"
	NowPaused  = "paused" // Error says by whom and why
	NowResumed = "resumed"
)

// queue puts m into the outbox, in the transaction of the result that it is about. A host
// that keeps its state without an error gets no other message.
func (db *DB) queue(m Message) {
	unchanged := m.Kind == "host" && string(m.Was) == m.Now && m.Error == ""
	if unchanged {
		return
	}
	m.At = m.At.UTC()
	db.outbox.Queue(m)
}

// Outbox reads the oldest messages that wait, by whole transactions: at least limit messages,
// if so many wait.
func (db *DB) Outbox(ctx context.Context, limit int) ([]Message, error) {
	return db.Outgoing().OutboxAfter(ctx, 0, limit)
}

// Outgoing is the outbox as whoever sends its messages sees it.
type Outgoing struct {
	*outbox.Sender[Message]
	db *DB
}

// Outgoing returns the outbox to send from.
func (db *DB) Outgoing() Outgoing { return Outgoing{db.outbox.Sender(), db} }

// OutboxAfter reads the messages behind row seq, by whole transactions: at least limit messages, if so many wait.
func (o Outgoing) OutboxAfter(ctx context.Context, seq int64, limit int) ([]Message, error) {
	rows, err := o.After(ctx, seq, limit)

	var all []Message
	for _, row := range rows {
		for _, m := range row.Messages {
			m.Seq = row.Seq
			all = append(all, m)
		}
	}
	return all, err
}

// Run reads one run; see DB.Run.
func (o Outgoing) Run(ctx context.Context, id string) (*Run, error) { return o.db.Run(ctx, id) }

// Pauses is what db remembers of pauses.
func (db *DB) Pauses() *stops.Pauses { return db.pauses }

// queuePause tells people that runs are paused, or no longer.
func (db *DB) queuePause(was, now *stops.Pause) {
	m := Message{At: db.clock(), Kind: "pause"}
	switch {
	case was == nil && now != nil:
		m.Now, m.Error = NowPaused, now.Status().Text(0)
	case was != nil && now == nil:
		m.Now = NowResumed
	default:
		return
	}
	db.queue(m)
}
