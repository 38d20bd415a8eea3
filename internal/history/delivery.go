package history

import (
	"context"
	"fmt"
	"time"

	"bellhop/internal/history/store"
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

	// Amends says that this is no new delivery: it changes answer and run of the stored one with
	// the same ID and At.
	Amends bool `json:"-"`
}

// AddDeliveries stores deliveries in one transaction, in their order. Whether one was seen
// before is found here.
func (db *DB) AddDeliveries(ctx context.Context, ds []Delivery) error {
	if len(ds) == 0 {
		return nil
	}
	return db.write(ctx, "deliveries", func(tx *tx) error {
		for _, d := range ds {
			if d.Amends {
				if _, err := tx.Exec(`UPDATE deliveries SET answer = ?, run = ? WHERE id = ? AND at = ?`, d.Answer, d.Run, d.ID, store.Millis(d.At)); err != nil {
					return err
				}
				continue
			}
			if _, err := tx.Exec(`INSERT INTO deliveries(id, at, event, branch, commit_id, answer, run, seen)
				VALUES(?1,?2,?3,?4,?5,?6,?7, ?8 OR EXISTS(SELECT 1 FROM deliveries WHERE id = ?1))`,
				d.ID, store.Millis(d.At), d.Event, d.Branch, d.Commit, d.Answer, d.Run, d.Seen); err != nil {
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
