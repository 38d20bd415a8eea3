package history

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"sync"
	"time"
)

// Outgoing is the outbox as whoever sends its messages sees it.
type Outgoing struct {
	db *DB
	// queued has room for one: who is busy when a message comes looks once more afterwards.
	queued chan struct{}

	mu        sync.Mutex
	listeners []chan struct{} // of Listen
}

// A Mark is how far one target of messages was told.
type Mark struct {
	Seq  int64             // all rows up to and with this one; 0: none yet
	At   time.Time         // of the last message; zero: none yet
	Told map[string]string // what the target was told last of hosts that are not well, in the words of the sender
}

// Outgoing returns the outbox to send from.
func (db *DB) Outgoing() *Outgoing { return &db.outgoing }

// Queued receives after messages were put into the outbox. Messages that come shortly after each other may be one.
func (o *Outgoing) Queued() <-chan struct{} { return o.queued }

// Listen returns a channel of its own that receives as that of Queued does. It is kept for as long as the history is open.
func (o *Outgoing) Listen() <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()

	c := make(chan struct{}, 1)
	o.listeners = append(o.listeners, c)
	return c
}

func (o *Outgoing) signal() {
	o.mu.Lock()
	defer o.mu.Unlock()

	for _, c := range append(o.listeners, o.queued) {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// OutboxAfter reads the messages behind row seq, by whole transactions: at least limit messages, if so many wait.
func (o *Outgoing) OutboxAfter(ctx context.Context, seq int64, limit int) ([]Message, error) {
	return o.db.outboxAfter(ctx, seq, limit)
}

// Run reads one run; see DB.Run.
func (o *Outgoing) Run(ctx context.Context, id string) (*Run, error) { return o.db.Run(ctx, id) }

// Ack drops the messages up to and with row seq: every target was told.
func (o *Outgoing) Ack(ctx context.Context, seq int64) error {
	return o.db.write(ctx, "which messages were sent", func(tx *tx) error {
		_, err := tx.Exec(`DELETE FROM outbox WHERE seq <= ?`, seq)
		return err
	})
}

// Marks are those of all targets that were ever told something.
func (o *Outgoing) Marks(ctx context.Context) (map[string]Mark, error) {
	rows, err := o.db.sql.QueryContext(ctx, `SELECT name, seq, at, told FROM targets`)
	if err != nil {
		return nil, fmt.Errorf("read targets: %w", err)
	}
	defer rows.Close()

	marks := map[string]Mark{}
	for rows.Next() {
		var name, told string
		var m Mark
		var at sql.NullInt64

		if err := rows.Scan(&name, &m.Seq, &at, &told); err != nil {
			return nil, fmt.Errorf("read targets: %w", err)
		}
		if err := json.Unmarshal([]byte(told), &m.Told); err != nil {
			return nil, fmt.Errorf("read targets: %s: %w", name, err)
		}
		if at.Valid {
			m.At = time.UnixMilli(at.Int64).UTC()
		}
		marks[name] = m
	}
	return marks, rows.Err()
}

// SetMark stores how far a target was told.
func (o *Outgoing) SetMark(ctx context.Context, target string, m Mark) error {
	told, err := json.Marshal(m.Told)
	if err != nil {
		return err
	}
	var at sql.NullInt64
	if !m.At.IsZero() {
		at = sql.NullInt64{Int64: m.At.UnixMilli(), Valid: true}
	}

	return o.db.write(ctx, "what "+target+" was told", func(tx *tx) error {
		_, err := tx.Exec(`INSERT OR REPLACE INTO targets(name, seq, at, told) VALUES(?, ?, ?, ?)`, target, m.Seq, at, string(told))
		return err
	})
}

// Last is the number of the newest row; 0 when none waits.
func (o *Outgoing) Last(ctx context.Context) (seq int64, err error) {
	err = o.db.sql.QueryRowContext(ctx, `SELECT coalesce(max(seq), 0) FROM outbox`).Scan(&seq)
	return seq, err
}

// Waiting counts the transactions whose messages wait, for people who watch.
func (o *Outgoing) Waiting(ctx context.Context) (n int, err error) {
	err = o.db.sql.QueryRowContext(ctx, `SELECT count(*) FROM outbox`).Scan(&n)
	return n, err
}
