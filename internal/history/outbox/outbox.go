// Package outbox keeps messages for people until they were sent: the outbox pattern.
//
// A message is put into the box in the transaction that stores what it is about; all messages of
// one transaction are one row. Whoever sends messages reads the oldest rows, sends them, and
// acknowledges them. There may be several targets, and a mark says how far one was told. What a
// message says is the caller's: to this package it is a value that JSON can hold.
//
// Its promise: a message of a transaction that ended is read until it is acknowledged, so that it
// is sent at least once, whatever ends the process in between.
package outbox

import (
	"database/sql"
	"encoding/json"

	"bellhop/internal/history/store"
)

// most is how many rows wait at most: nobody may be sending.
const most = 2_000

// A Box takes the messages of transactions. Its methods are called with the lock of the writer held.
type Box[M any] struct {
	queued []M  // by the transaction under way
	hasRow bool // that transaction wrote one
	sender *Sender[M]
}

// New is the box in db, which w writes.
func New[M any](db *sql.DB, w *store.Writer) *Box[M] {
	return &Box[M]{sender: &Sender[M]{sql: db, writer: w, queued: make(chan struct{}, 1)}}
}

// Sender is the side that messages leave by.
func (b *Box[M]) Sender() *Sender[M] { return b.sender }

// Begin forgets what a transaction queued that failed.
func (b *Box[M]) Begin() {
	clear(b.queued)
	b.queued, b.hasRow = b.queued[:0], false
}

// Queue puts m into the box with the transaction under way.
func (b *Box[M]) Queue(m M) { b.queued = append(b.queued, m) }

// Finish writes the messages of a transaction.
func (b *Box[M]) Finish(tx *store.Tx) error {
	if len(b.queued) == 0 {
		return nil
	}

	p, err := json.Marshal(b.queued)
	if err == nil {
		_, err = tx.Exec(`INSERT INTO outbox(messages) VALUES(?)`, string(p))
	}
	b.hasRow = err == nil
	return err
}

// Committed tells the senders that messages wait, if the transaction had some.
func (b *Box[M]) Committed() {
	if b.hasRow {
		b.sender.signal()
	}
}

// Prune drops the oldest rows where too many wait. It is called inside a transaction.
func (b *Box[M]) Prune(tx *store.Tx) error {
	_, err := tx.Exec(`DELETE FROM outbox WHERE seq <= (SELECT max(seq) FROM outbox) - ?`, most)
	return err
}
