package history

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
)

// write runs f in one transaction, which other writers may share. Transactions come one after
// another, so that f may read what memory holds of hosts and change it; when one fails, that is
// read afresh from the file.
func (db *DB) write(ctx context.Context, what string, f func(tx *tx) error) error {
	err := ctx.Err()
	if err == nil {
		err = db.commits.do(what, f)
	}
	if err != nil {
		return fmt.Errorf("remember %s: %w", what, err)
	}
	return nil
}

// A tx is a transaction on the one connection that writes. Its statements are prepared once
// in the life of the connection.
type tx struct {
	conn    *sql.Conn
	stmts   map[string]*sql.Stmt
	raw     map[string]driver.Stmt // those for rows
	waiting []*pending
	keys    map[string]bool // of the rows that wait, or did in this transaction

	messages []Message // that this transaction puts into the outbox
}

// begin begins a transaction, on a new connection when there is none.
func (db *DB) begin() (*tx, error) {
	if db.unread {
		if err := db.loadLocked(); err != nil {
			return nil, err
		}
	}
	if db.tx == nil {
		conn, err := db.sql.Conn(context.Background())
		if err != nil {
			return nil, err
		}
		db.tx = &tx{conn: conn, stmts: map[string]*sql.Stmt{}, raw: map[string]driver.Stmt{}, keys: map[string]bool{}}
	}
	_, err := db.tx.Exec("BEGIN IMMEDIATE")
	return db.tx, err
}

func (t *tx) commit() error {
	_, err := t.Exec("COMMIT") // what waits goes first
	return err
}

// abandon rolls back what was begun, and reads the hosts as the file has them. The
// connection goes too: what made it fail may stay with it.
func (db *DB) abandon() error {
	if db.tx != nil {
		db.tx.exec("ROLLBACK") // it may not have begun
		db.tx.close()
		db.tx = nil
	}
	return db.loadLocked()
}

func (t *tx) close() {
	for _, s := range t.stmts {
		s.Close()
	}
	t.conn.Raw(func(any) error {
		for _, s := range t.raw {
			s.Close()
		}
		return driver.ErrBadConn // else it would wait for whoever wants one
	})
}

func (t *tx) prepared(query string) (*sql.Stmt, error) {
	if s := t.stmts[query]; s != nil {
		return s, nil
	}
	s, err := t.conn.PrepareContext(context.Background(), query)
	if err == nil {
		t.stmts[query] = s
	}
	return s, err
}

// Exec runs a statement that returns no rows, after those that wait.
func (t *tx) Exec(query string, args ...any) (sql.Result, error) {
	if err := t.flush(); err != nil {
		return nil, err
	}
	return t.exec(query, args...)
}

func (t *tx) exec(query string, args ...any) (sql.Result, error) {
	s, err := t.prepared(query)
	if err != nil {
		return nil, err
	}
	return s.Exec(args...)
}

// Query reads rows as the transaction sees them.
func (t *tx) Query(query string, args ...any) (*sql.Rows, error) {
	if err := t.flush(); err != nil {
		return nil, err
	}
	return t.conn.QueryContext(context.Background(), query, args...)
}
