package history

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"
)

// Writers share transactions. Each waits until what it wrote is in the file, but a thousand
// hosts that end at about the same time are written by a few commits: one waits a
// moment when many hosts are at work, and writes for all who came meanwhile.
// One that fails is tried again alone, so that it fails for nobody else.

// A job is one writer's part of a transaction. It may be run twice.
type job struct {
	what string
	f    func(tx *tx) error
	done chan error // nil: it was written
}

const (
	// crowd is how many hosts must be at work before a writer waits for others.
	crowd = 8
	// gather is how long it then waits, for each host at work; mostGather caps it.
	gather     = time.Millisecond
	mostGather = 60 * time.Millisecond
	// beat is that of the clock at which it looks who came. The lines of a crowd are read at the
	// same one: a process that wakes rarely, for all there is to do, works less for each.
	beat = 20 * time.Millisecond
	// linger is how long whoever writes waits for more before it ends: a new one grows a new
	// stack, and SQLite's is deep.
	linger = time.Second
)

// write runs f in one transaction, which others may share. Transactions come one after
// another, so that f may read db.hosts and change it; when one fails, the hosts are read
// afresh.
func (db *DB) write(ctx context.Context, what string, f func(tx *tx) error) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("remember %s: %w", what, err)
	}
	j := &job{what: what, f: f, done: make(chan error, 1)}
	db.queue.Lock()
	db.jobs = append(db.jobs, j)
	lead := !db.led
	db.led = true
	if lead {
		db.leads.Go(db.lead)
	}
	db.queue.Unlock()
	if !lead {
		select {
		case db.more <- struct{}{}:
		default:
		}
	}
	if err := <-j.done; err != nil {
		return fmt.Errorf("remember %s: %w", what, err)
	}
	return nil
}

// lead writes for all who wait, until nobody does.
func (db *DB) lead() {
	for {
		if !db.waits() {
			return
		}
		if n := int(db.atWork.Load()); n >= crowd {
			db.gather(n)
		}
		db.queue.Lock()
		jobs := db.jobs
		db.jobs = nil
		db.queue.Unlock()
		db.together(jobs)
	}
}

// gather waits for others of n hosts at work, up to a beat at which nobody new came, or at which most
// are there.
func (db *DB) gather(n int) {
	left := min(time.Duration(n)*gather, mostGather)
	if left < beat {
		time.Sleep(left)
		return
	}
	for had := 0; left >= beat; left -= beat {
		time.Sleep(beat - time.Duration(time.Now().UnixNano())%beat)
		db.queue.Lock()
		came := len(db.jobs)
		db.queue.Unlock()
		if came == had || came >= n*3/4 {
			return
		}
		had = came
	}
}

// waits says whether somebody waits to be written for. Nobody leads when it says no.
func (db *DB) waits() bool {
	t := time.NewTimer(linger)
	defer t.Stop()
	for late := false; ; {
		db.queue.Lock()
		n, over := len(db.jobs), late || db.ended
		db.led = n > 0 || !over
		db.queue.Unlock()
		if n > 0 || over {
			return n > 0
		}
		select {
		case <-db.more:
		case <-t.C:
			late = true
		}
	}
}

// together writes jobs in one transaction, or each alone when that fails.
func (db *DB) together(jobs []*job) {
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.transact(jobs) == nil || len(jobs) == 1 {
		return
	}
	for _, j := range jobs {
		db.transact([]*job{j})
	}
}

// transact writes jobs in one transaction, and tells them so. It tells of a failure only to
// one that was alone.
func (db *DB) transact(jobs []*job) error {
	tx, err := db.begin()
	for i := 0; err == nil && i < len(jobs); i++ {
		err = jobs[i].f(tx)
	}
	if err == nil {
		err = errors.Join(db.begunRows.write(tx), db.keptRows.write(tx), tx.writeTold())
	}
	if err == nil {
		err = tx.commit()
	}
	if err != nil {
		err = errors.Join(err, db.abandon())
		if len(jobs) > 1 {
			return err
		}
	}
	for _, j := range jobs {
		j.done <- err
	}
	return err
}

// A tx is a transaction on the one connection that writes. Its statements are prepared once
// in the life of the connection.
type tx struct {
	conn    *sql.Conn
	stmts   map[string]*sql.Stmt
	raw     map[string]driver.Stmt // those for rows
	waiting []*pending
	told    []Message       // in this transaction
	keys    map[string]bool // of the rows that wait, or did in this transaction
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
