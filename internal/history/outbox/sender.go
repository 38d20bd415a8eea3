package outbox

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"bellhop/internal/history/store"
)

// A Sender is the outbox as whoever sends its messages sees it.
type Sender[M any] struct {
	sql    *sql.DB
	writer *store.Writer
	// queued has room for one: who is busy when a message comes looks once more afterwards.
	queued chan struct{}

	mu        sync.Mutex
	listeners []chan struct{} // of Listen
}

// A Row has the messages of one transaction.
type Row[M any] struct {
	Seq      int64
	Messages []M
}

// A Mark is how far one target of messages was told.
type Mark struct {
	Seq  int64             // all rows up to and with this one; 0: none yet
	At   time.Time         // of the last message; zero: none yet
	Told map[string]string // what the target was told last of hosts that are not well, in the words of the sender
}

// Queued receives after messages were put into the outbox. Messages that come shortly after each other may be one.
func (s *Sender[M]) Queued() <-chan struct{} { return s.queued }

// Listen returns a channel of its own that receives as that of Queued does. It is kept for as long as the history is open.
func (s *Sender[M]) Listen() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()

	c := make(chan struct{}, 1)
	s.listeners = append(s.listeners, c)
	return c
}

func (s *Sender[M]) signal() {
	s.mu.Lock()
	defer s.mu.Unlock()

	for _, c := range append(s.listeners, s.queued) {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// After reads the rows behind row seq, the oldest first: with at least limit messages, if so many wait.
func (s *Sender[M]) After(ctx context.Context, seq int64, limit int) ([]Row[M], error) {
	rows, err := s.sql.QueryContext(ctx, `SELECT seq, messages FROM outbox WHERE seq > ? ORDER BY seq LIMIT ?`, seq, limit)
	if err != nil {
		return nil, fmt.Errorf("read outbox: %w", err)
	}
	defer rows.Close()

	var all []Row[M]
	for n := 0; n < limit && rows.Next(); {
		var p []byte
		var row Row[M]

		if err := rows.Scan(&row.Seq, &p); err != nil {
			return nil, err
		}
		if err := json.Unmarshal(p, &row.Messages); err != nil {
			return nil, fmt.Errorf("read outbox: row %d: %w", row.Seq, err)
		}
		all = append(all, row)
		n += len(row.Messages)
	}
	return all, rows.Err()
}

// Ack drops the messages up to and with row seq: every target was told.
func (s *Sender[M]) Ack(ctx context.Context, seq int64) error {
	return s.writer.Write(ctx, "which messages were sent", func(tx *store.Tx) error {
		_, err := tx.Exec(`DELETE FROM outbox WHERE seq <= ?`, seq)
		return err
	})
}

// Marks are those of all targets that were ever told something.
func (s *Sender[M]) Marks(ctx context.Context) (map[string]Mark, error) {
	rows, err := s.sql.QueryContext(ctx, `SELECT name, seq, at, told FROM targets`)
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
func (s *Sender[M]) SetMark(ctx context.Context, target string, m Mark) error {
	told, err := json.Marshal(m.Told)
	if err != nil {
		return err
	}
	var at sql.NullInt64
	if !m.At.IsZero() {
		at = sql.NullInt64{Int64: m.At.UnixMilli(), Valid: true}
	}

	return s.writer.Write(ctx, "what "+target+" was told", func(tx *store.Tx) error {
		_, err := tx.Exec(`INSERT OR REPLACE INTO targets(name, seq, at, told) VALUES(?, ?, ?, ?)`, target, m.Seq, at, string(told))
		return err
	})
}

// Last is the number of the newest row; 0 when none waits.
func (s *Sender[M]) Last(ctx context.Context) (seq int64, err error) {
	err = s.sql.QueryRowContext(ctx, `SELECT coalesce(max(seq), 0) FROM outbox`).Scan(&seq)
	return seq, err
}

// Waiting counts the transactions whose messages wait, for people who watch.
func (s *Sender[M]) Waiting(ctx context.Context) (n int, err error) {
	err = s.sql.QueryRowContext(ctx, `SELECT count(*) FROM outbox`).Scan(&n)
	return n, err
}
