package history

import (
	"context"
	"errors"

	"bellhop/internal/history/store"
)

// A tx is a transaction of the file, with the messages that it puts into the outbox.
type tx struct {
	*store.Tx
	db *DB
}

// write runs f in one transaction, which other writers may share. Transactions come one after
// another, so that f may read what memory holds of hosts and change it; when one fails, that is
// read afresh from the file.
func (db *DB) write(ctx context.Context, what string, f func(tx *tx) error) error {
	return db.writer.Write(ctx, what, func(t *store.Tx) error { return f(&tx{t, db}) })
}

// begin reads memory before a transaction, if it could not be read after the one before.
func (db *DB) begin() error {
	db.outbox.Begin()
	if db.unread {
		return db.loadLocked()
	}
	return nil
}

// finish writes what a transaction comes to as a whole.
func (db *DB) finish(t *store.Tx) error {
	return errors.Join(db.mem.runs.Rows.Write(t), db.mem.generations.Rows.Write(t), db.outbox.Finish(t))
}

// committed tells those who wait for a change.
func (db *DB) committed() {
	db.outbox.Committed()
	db.outcomes.Committed()
	db.signalChanged()
}
