// Package deliveries remembers the authenticated requests that reached the webhook, and what each
// was answered.
//
// A delivery has the id that its sender gave it; one that comes again has the same. What it claims
// is kept for people, and nothing obeys it.
package deliveries

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"bellhop/internal/history/store"
)

// most is how many are kept.
const most = 10_000

// A Delivery is one authenticated request that reached the webhook, and what it was answered. Its
// JSON is a contract.
type Delivery struct {
	ID     string    `json:"id"` // as the sender numbered it
	At     time.Time `json:"at"`
	Event  string    `json:"event"`
	Branch string    `json:"branch"`
	Commit string    `json:"commit"` // as it claimed; nothing obeys it
	Answer string    `json:"answer"` // what happened, and why
	Run    string    `json:"run"`    // that it rang; "" when it rang none
	Seen   bool      `json:"seen"`   // an earlier one had the same id

	// Amends says that this is no new delivery: it changes answer and run of the stored one with
	// the same ID and At.
	Amends bool `json:"-"`
}

// A Log is the deliveries in a file.
type Log struct {
	sql    *sql.DB
	writer *store.Writer
}

// New is the log in db, which w writes.
func New(db *sql.DB, w *store.Writer) *Log { return &Log{db, w} }

// Add stores deliveries in one transaction, in their order. Whether one was seen before is found here.
func (l *Log) Add(ctx context.Context, ds []Delivery) error {
	if len(ds) == 0 {
		return nil
	}
	return l.writer.Write(ctx, "deliveries", func(tx *store.Tx) error {
		for _, d := range ds {
			if err := add(tx, d); err != nil {
				return err
			}
		}
		return nil
	})
}

func add(tx *store.Tx, d Delivery) error {
	if d.Amends {
		_, err := tx.Exec(`UPDATE deliveries SET answer = ?, run = ? WHERE id = ? AND at = ?`, d.Answer, d.Run, d.ID, store.Millis(d.At))
		return err
	}
	_, err := tx.Exec(`INSERT INTO deliveries(id, at, event, branch, commit_id, answer, run, seen)
		VALUES(?1,?2,?3,?4,?5,?6,?7, ?8 OR EXISTS(SELECT 1 FROM deliveries WHERE id = ?1))`,
		d.ID, store.Millis(d.At), d.Event, d.Branch, d.Commit, d.Answer, d.Run, d.Seen)
	return err
}

// Newest reads the newest deliveries, at most limit of them (0: 50).
func (l *Log) Newest(ctx context.Context, limit int) ([]Delivery, error) {
	if limit <= 0 {
		limit = 50
	}

	rows, err := l.sql.QueryContext(ctx, `SELECT id, at, event, branch, commit_id, answer, run, seen FROM deliveries ORDER BY seq DESC LIMIT ?`, limit)
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

// Prune drops those from before old, and the oldest where there are too many. It is called inside a transaction.
func Prune(tx *store.Tx, old time.Time) error {
	_, err := tx.Exec(`DELETE FROM deliveries WHERE at < ? OR seq <= (SELECT max(seq) FROM deliveries) - ?`, store.Millis(old), most)
	return err
}
