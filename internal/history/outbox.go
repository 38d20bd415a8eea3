package history

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// The outbox is the pattern of that name: a message for people is a row, and the transaction that
// writes a result writes it too. Whoever sends messages reads the oldest rows,
// sends them, and acknowledges them, so that each is sent at least once, whatever ends the
// process in between.

// A Message waits in the outbox until somebody sends it to people.
type Message struct {
	Seq    int64     `json:"-"` // of its transaction: all messages of one share it
	At     time.Time `json:"at"`
	Kind   string    `json:"kind"` // "host", "run", "drift" or "pause"
	Run    string    `json:"run"`
	Host   string    `json:"host,omitempty"`
	Was    State     `json:"was,omitempty"` // state of the host before
	Now    string    `json:"now"`           // state of the host, outcome of the run, or of those below
	Commit string    `json:"commit,omitempty"`
	Error  string    `json:"error,omitempty"`
	Reason Reason    `json:"reason,omitempty"` // of a host that is unconfirmed now

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
func (t *tx) queue(m Message) {
	unchanged := m.Kind == "host" && string(m.Was) == m.Now && m.Error == ""
	if unchanged {
		return
	}
	m.At = m.At.UTC()
	t.db.queued = append(t.db.queued, m)
}

// writeOutbox writes the messages of a transaction as one row.
func (t *tx) writeOutbox() error {
	if len(t.db.queued) == 0 {
		return nil
	}

	p, err := json.Marshal(t.db.queued)
	clear(t.db.queued)
	t.db.queued = t.db.queued[:0]
	if err == nil {
		_, err = t.Exec(`INSERT INTO outbox(messages) VALUES(?)`, string(p))
	}
	return err
}

// Outbox reads the oldest messages that wait, by whole transactions: at least limit messages,
// if so many wait.
func (db *DB) Outbox(ctx context.Context, limit int) ([]Message, error) {
	return db.outboxAfter(ctx, 0, limit)
}

func (db *DB) outboxAfter(ctx context.Context, after int64, limit int) ([]Message, error) {
	rows, err := db.sql.QueryContext(ctx, `SELECT seq, messages FROM outbox WHERE seq > ? ORDER BY seq LIMIT ?`, after, limit)
	if err != nil {
		return nil, fmt.Errorf("read outbox: %w", err)
	}
	defer rows.Close()

	var all []Message
	for rows.Next() && len(all) < limit {
		var seq int64
		var p []byte
		var ms []Message

		if err := rows.Scan(&seq, &p); err != nil {
			return nil, err
		}
		if err := json.Unmarshal(p, &ms); err != nil {
			return nil, fmt.Errorf("read outbox: row %d: %w", seq, err)
		}
		for i := range ms {
			ms[i].Seq = seq
		}
		all = append(all, ms...)
	}
	return all, rows.Err()
}
