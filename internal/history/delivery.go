package history

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// A Delivery is one authenticated request that reached the webhook, and what it was answered.
type Delivery struct {
	ID     string    `json:"id"` // as the sender numbered it
	At     time.Time `json:"at"`
	Event  string    `json:"event"`
	Branch string    `json:"branch"`
	Commit string    `json:"commit"` // as it claimed; nothing obeys it
	Answer string    `json:"answer"` // what happened, and why
	Run    string    `json:"run"`    // that it rang; "" when it rang none
	Seen   bool      `json:"seen"`   // an earlier one had the same id
}

// AddDeliveries stores deliveries in one transaction, in their order. Whether one was seen
// before is found here.
func (db *DB) AddDeliveries(ctx context.Context, ds []Delivery) error {
	if len(ds) == 0 {
		return nil
	}
	return db.write(ctx, "deliveries", func(tx *tx) error {
		for _, d := range ds {
			if _, err := tx.Exec(`INSERT INTO deliveries(id, at, event, branch, commit_id, answer, run, seen)
				VALUES(?1,?2,?3,?4,?5,?6,?7, ?8 OR EXISTS(SELECT 1 FROM deliveries WHERE id = ?1))`,
				d.ID, millis(d.At), d.Event, d.Branch, d.Commit, d.Answer, d.Run, d.Seen); err != nil {
				return err
			}
		}
		return nil
	})
}

// SeenDelivery says whether a delivery of that id is stored.
func (db *DB) SeenDelivery(ctx context.Context, id string) (bool, error) {
	var seen bool
	if err := db.sql.QueryRowContext(ctx, `SELECT EXISTS(SELECT 1 FROM deliveries WHERE id = ?)`, id).Scan(&seen); err != nil {
		return false, fmt.Errorf("look for delivery: %w", err)
	}
	return seen, nil
}

// Deliveries reads the newest deliveries, at most limit of them (0: 50).
func (db *DB) Deliveries(ctx context.Context, limit int) ([]Delivery, error) {
	if limit <= 0 {
		limit = 50
	}
	rows, err := db.sql.QueryContext(ctx, `SELECT id, at, event, branch, commit_id, answer, run, seen FROM deliveries ORDER BY seq DESC LIMIT ?`, limit)
	if err != nil {
		return nil, fmt.Errorf("read deliveries: %w", err)
	}
	defer rows.Close()
	ds := []Delivery{}
	for rows.Next() {
		var d Delivery
		var at int64
		if err := rows.Scan(&d.ID, &at, &d.Event, &d.Branch, &d.Commit, &d.Answer, &d.Run, &d.Seen); err != nil {
			return nil, err
		}
		d.At = time.UnixMilli(at).UTC()
		ds = append(ds, d)
	}
	return ds, rows.Err()
}

// CountDeliveries counts those that are stored.
func (db *DB) CountDeliveries(ctx context.Context) (n int, err error) {
	if err := db.sql.QueryRowContext(ctx, `SELECT count(*) FROM deliveries`).Scan(&n); err != nil {
		return 0, fmt.Errorf("count deliveries: %w", err)
	}
	return n, nil
}

// A Message waits in the outbox to be told to people.
type Message struct {
	Seq    int64     `json:"-"` // those of one transaction have the same
	At     time.Time `json:"at"`
	Kind   string    `json:"kind"` // "host" or "run"
	Run    string    `json:"run"`
	Host   string    `json:"host,omitempty"`
	Was    string    `json:"was,omitempty"` // state of the host before
	Now    string    `json:"now"`           // state of the host, outcome of the run
	Commit string    `json:"commit,omitempty"`
	Error  string    `json:"error,omitempty"`
}

// tell puts m into the outbox, in the transaction of what it tells of. A host that stays as
// it was is not told again.
func tell(tx *tx, m Message) {
	if m.Kind != "host" || m.Was != m.Now || m.Error != "" {
		m.At = m.At.UTC()
		tx.told = append(tx.told, m)
	}
}

// writeTold writes what a transaction tells, as one row.
func (t *tx) writeTold() error {
	if len(t.told) == 0 {
		return nil
	}
	p, err := json.Marshal(t.told)
	clear(t.told)
	t.told = t.told[:0]
	if err == nil {
		_, err = t.Exec(`INSERT INTO outbox(messages) VALUES(?)`, string(p))
	}
	return err
}

// Outbox reads the oldest messages that wait, whole transactions: at least limit of them, if so many
// wait.
func (db *DB) Outbox(ctx context.Context, limit int) ([]Message, error) {
	rows, err := db.sql.QueryContext(ctx, `SELECT seq, messages FROM outbox ORDER BY seq LIMIT ?`, limit)
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

// Told drops messages up to and with seq.
func (db *DB) Told(ctx context.Context, seq int64) error {
	return db.write(ctx, "what was told", func(tx *tx) error {
		_, err := tx.Exec(`DELETE FROM outbox WHERE seq <= ?`, seq)
		return err
	})
}
