package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
)

// A Tx is a transaction on the one connection that writes. Its statements are prepared once
// in the life of the connection.
type Tx struct {
	conn    *sql.Conn
	stmts   map[string]*sql.Stmt
	raw     map[string]driver.Stmt // those for rows
	waiting []*pending
	keys    map[string]bool // of the rows that wait, or did in this transaction
}

func (t *Tx) commit() error {
	_, err := t.Exec("COMMIT") // what waits goes first
	return err
}

func (t *Tx) close() {
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

func (t *Tx) prepared(query string) (*sql.Stmt, error) {
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
func (t *Tx) Exec(query string, args ...any) (sql.Result, error) {
	if err := t.flush(); err != nil {
		return nil, err
	}
	return t.exec(query, args...)
}

func (t *Tx) exec(query string, args ...any) (sql.Result, error) {
	s, err := t.prepared(query)
	if err != nil {
		return nil, err
	}
	return s.Exec(args...)
}

// Query reads rows as the transaction sees them.
func (t *Tx) Query(query string, args ...any) (*sql.Rows, error) {
	if err := t.flush(); err != nil {
		return nil, err
	}
	return t.conn.QueryContext(context.Background(), query, args...)
}
