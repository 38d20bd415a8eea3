package history

import (
	"context"
	"errors"
	"fmt"

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
	hasMessage := false
	err := ctx.Err()
	if err == nil {
		err = db.writer.Do(func(t *store.Tx) error {
			before := len(db.queued)
			err := f(&tx{t, db})
			hasMessage = len(db.queued) > before
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("remember %s: %w", what, err)
	}
	if hasMessage {
		db.outgoing.signal()
	}
	db.signalChanged()
	return nil
}

// readAgain reads memory before a transaction, if it could not be read after the one before.
func (db *DB) readAgain() error {
	db.queued = db.queued[:0]
	if db.unread {
		return db.loadLocked()
	}
	return nil
}

// finish writes what a transaction comes to as a whole.
func (db *DB) finish(t *store.Tx) error {
	now := &tx{t, db}
	return errors.Join(db.mem.runs.Rows.Write(t), db.mem.generations.Rows.Write(t), now.writeOutbox())
}
