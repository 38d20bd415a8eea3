// Package history remembers what was deployed where, when, and why.
//
// It is one SQLite file. A run is one attempt to bring the fleet to a commit; a result is
// what came of it on one host. A host that was begun and has no result is unknown, and is
// contacted again. "Last" is what a host was given, as remembered: a cache, which the
// host's own record corrects. A generation is what a host held after one successful run;
// history knows the commit each kept one came from. A failure is a bundle digest that did
// not work on a host. The outbox holds messages for people, each written in the same
// transaction as the result that it is about.
//
// Its promise: whatever kills the process, the file opens again and holds every transaction
// that ended, and none in part. It holds no secret and no contents of files.
package history

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"bellhop/internal/history/deliveries"
	"bellhop/internal/history/manifests"
	"bellhop/internal/history/outbox"
	"bellhop/internal/history/runcache"
	"bellhop/internal/history/stops"
	"bellhop/internal/history/store"
)

//go:embed migrations/*.sql
var migrations embed.FS

// How long things are remembered.
const (
	keepRuns     = 10_000
	keepDays     = 90
	keepFailures = 20 // by host
)

// Errors of a file that can't be opened.
var (
	ErrNewer   = store.ErrNewer
	ErrDamaged = store.ErrDamaged
)

// A DB is the history of one network. One process writes it, the holder of the deployer's
// lock, so that what it remembers of hosts in memory is what the file holds.
type DB struct {
	sql   *sql.DB
	clock func() time.Time

	writer *store.Writer
	atWork atomic.Int64           // hosts that were begun and have no result
	names  manifests.ServiceNames // for status

	mu sync.Mutex // serializes transactions, and guards what follows
	// unread says that memory may hold what was rolled back: the file could not be read since.
	unread bool
	mem    *memory
	outbox *outbox.Box[Message]
	pauses *stops.Pauses

	deliveries *deliveries.Log
	outcomes   *runcache.Cache[[]RunResult] // of whole runs; nil where another process may write
	changed    chan struct{}                // has room for one
}

// Open opens or makes the file at path for reading and writing, and brings its schema up to
// date. The file is readable by its owner alone.
func Open(path string) (*DB, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open history: %w", err)
	}

	f.Close()
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, fmt.Errorf("open history: %w", err)
	}

	db, err := open(path, "")
	if err != nil {
		return nil, err
	}

	db.outcomes = runcache.New[[]RunResult]()
	if err := db.start(path); err != nil {
		db.Close()
		return nil, fmt.Errorf("open history %s: %w", path, store.Explain(err))
	}

	return db, nil
}

// OpenRead opens the file for reading alone, beside whoever writes it.
func OpenRead(path string) (*DB, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("open history: %w", err)
	}

	// A WAL reader shares memory with the writer through a file beside it, so it opens for
	// writing where it may; query_only keeps the promise.
	db, err := open(path, "&_pragma=query_only(1)")
	if err != nil {
		return nil, err
	}
	if err = schema().Check(db.sql); err == nil {
		err = db.load()
	}
	if err != nil {
		db.Close()
		return nil, fmt.Errorf("read history %s: %w", path, store.Explain(err))
	}

	return db, nil
}

func open(path, more string) (*DB, error) {
	s, err := store.Open(path, more)
	if err != nil {
		return nil, fmt.Errorf("open history %s: %w", path, err)
	}

	db := &DB{sql: s, clock: time.Now, mem: newMemory(), changed: make(chan struct{}, 1)}
	db.writer = store.NewWriter(s, &db.mu, &db.atWork, store.Hooks{Begin: db.begin, Finish: db.finish, Committed: db.committed, RolledBack: db.loadLocked})
	db.outbox = outbox.New[Message](s, db.writer)
	db.pauses = stops.NewPauses(s, db.writer, db.queuePause)
	db.deliveries = deliveries.New(s, db.writer)
	return db, nil
}

// schema is what the tables of this release are, step by step.
func schema() store.Schema {
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		panic(err) // it is part of the program
	}
	return store.Schema{Migrations: dir}
}

// start brings the schema up to date and reads the hosts.
func (db *DB) start(path string) error {
	if err := schema().Upgrade(db.sql, path); err != nil {
		return err
	}
	return db.load()
}

// Close closes the file.
func (db *DB) Close() error {
	db.writer.Close()
	return db.sql.Close()
}

// AddDeliveries stores requests that reached the webhook, in their order.
func (db *DB) AddDeliveries(ctx context.Context, ds []deliveries.Delivery) error {
	return db.deliveries.Add(ctx, ds)
}

// Deliveries reads the newest of them, at most limit (0: 50).
func (db *DB) Deliveries(ctx context.Context, limit int) ([]deliveries.Delivery, error) {
	return db.deliveries.Newest(ctx, limit)
}

func (db *DB) load() error {
	db.mu.Lock()
	defer db.mu.Unlock()
	return db.loadLocked()
}

// loadLocked reads what memory holds, as the file has it at one moment.
func (db *DB) loadLocked() error {
	err := db.read(context.Background(), func(q *sql.Tx) error {
		mem, err := readMemory(q)
		if err != nil {
			return err
		}
		mem.manifests.KeepCache(db.mem.manifests)
		db.mem = mem
		db.atWork.Store(mem.deploying())
		return nil
	})
	db.unread = err != nil
	return err
}

func meta(q store.RowQuerier, name string) (string, error) {
	var v string
	err := q.QueryRow(`SELECT value FROM meta WHERE name = ?`, name).Scan(&v)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return v, err
}

func setMeta(tx *tx, name, value string) error {
	_, err := tx.Exec(`INSERT INTO meta(name, value) VALUES(?, ?) ON CONFLICT(name) DO UPDATE SET value = excluded.value WHERE value <> excluded.value`, name, value)
	return err
}
