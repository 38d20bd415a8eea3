package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
)

// A Writer makes all transactions that write to a file, one after another.
type Writer struct {
	sql     *sql.DB
	mu      sync.Locker
	hooks   Hooks
	commits *groupCommit
	tx      *Tx // its connection; nil: nothing was written yet, or the last transaction failed
}

// Hooks tie what the caller keeps in memory to the transactions. They are called with the Writer's lock held.
type Hooks struct {
	// Begin is called before each transaction, which an error prevents.
	Begin func() error
	// Finish writes the last statements of each transaction.
	Finish func(tx *Tx) error
	// Committed is called after each transaction that is in the file.
	Committed func()
	// RolledBack is called after a transaction that failed: memory may hold what it would have written.
	RolledBack func() error
}

// NewWriter is the writer of a file. mu is held from the begin of a transaction until its end, and
// guards what the caller keeps in memory. atWork is how many hosts are being deployed to: so many
// jobs may come soon.
func NewWriter(db *sql.DB, mu sync.Locker, atWork *atomic.Int64, hooks Hooks) *Writer {
	w := &Writer{sql: db, mu: mu, hooks: hooks}
	w.commits = newGroupCommit(w.writeTogether, atWork)
	return w
}

// Do runs f in a transaction, which other callers may share, and returns once it is in the file or
// has failed. f may be run twice.
func (w *Writer) Do(f func(tx *Tx) error) error { return w.commits.do(f) }

// Write is Do while ctx lasts. what says in an error what could not be remembered.
func (w *Writer) Write(ctx context.Context, what string, f func(tx *Tx) error) error {
	err := ctx.Err()
	if err == nil {
		err = w.Do(f)
	}
	if err != nil {
		return fmt.Errorf("remember %s: %w", what, err)
	}
	return nil
}

// Close ends the writer once it has written what was asked for.
func (w *Writer) Close() {
	w.commits.close()

	w.mu.Lock()
	defer w.mu.Unlock()
	w.drop()
}

// drop closes the connection.
func (w *Writer) drop() {
	if w.tx != nil {
		w.tx.close()
		w.tx = nil
	}
}

// writeTogether in one transaction, or one by one when that fails.
func (w *Writer) writeTogether(jobs []*job) {
	w.mu.Lock()
	defer w.mu.Unlock()

	if w.transact(jobs) == nil || len(jobs) == 1 {
		return
	}
	for _, j := range jobs {
		_ = w.transact([]*job{j}) // the job's own writer hears of it
	}
}

// transact writes jobs in one transaction and answers their writers. Of a failure it tells only
// a job that was alone.
func (w *Writer) transact(jobs []*job) error {
	tx, err := w.begin()
	for i := 0; err == nil && i < len(jobs); i++ {
		err = jobs[i].f(tx)
	}
	if err == nil {
		err = w.hooks.Finish(tx)
	}
	if err == nil {
		err = tx.commit()
	}

	if err != nil {
		err = errors.Join(err, w.abandon())
		if len(jobs) > 1 {
			return err
		}
	} else {
		w.hooks.Committed()
	}
	for _, j := range jobs {
		j.done <- err
	}
	return err
}

// begin begins a transaction, on a new connection when there is none.
func (w *Writer) begin() (*Tx, error) {
	if err := w.hooks.Begin(); err != nil {
		return nil, err
	}

	if w.tx == nil {
		conn, err := w.sql.Conn(context.Background())
		if err != nil {
			return nil, err
		}
		w.tx = &Tx{conn: conn, stmts: map[string]*sql.Stmt{}, raw: map[string]driver.Stmt{}, keys: map[string]bool{}}
	}
	_, err := w.tx.Exec("BEGIN IMMEDIATE")
	return w.tx, err
}

// abandon rolls back what was begun. The connection goes too: what made it fail may stay with it.
func (w *Writer) abandon() error {
	if w.tx != nil {
		w.tx.exec("ROLLBACK") // it may not have begun
		w.drop()
	}
	return w.hooks.RolledBack()
}
