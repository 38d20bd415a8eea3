package history

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"maps"
	"slices"

	"bellhop/internal/history/packedrows"
	"bellhop/internal/history/store"
)

// Opened lists, by host, the runs that it is open in.
func (db *DB) Opened() map[string][]string {
	db.mu.Lock()
	defer db.mu.Unlock()
	runs := map[string][]string{}
	for host, os := range db.mem.runs.All() {
		for _, o := range os {
			runs[host] = append(runs[host], o.Run+" "+o.Digest)
		}
	}
	return runs
}

// Kept lists what hosts keep, by host.
func (db *DB) Kept() map[string][]Generation {
	db.mu.Lock()
	defer db.mu.Unlock()
	all := map[string][]Generation{}
	for host, g := range db.mem.generations.All() {
		all[host] = append(all[host], g)
	}
	return all
}

// Ahead lists the hosts that runs are to push, by run.
func (db *DB) Ahead() map[string][]string {
	db.mu.Lock()
	defer db.mu.Unlock()
	ahead := map[string][]string{}
	for run, hosts := range db.mem.runs.Planned {
		if len(hosts) > 0 {
			ahead[run] = slices.Sorted(maps.Keys(hosts))
		}
	}
	return ahead
}

// Sound says what is wrong with the rows of lists: each counts for what memory has of it, none
// counts for nothing, and no result is of a run that is gone.
func (db *DB) Sound() error {
	db.mu.Lock()
	defer db.mu.Unlock()
	begun, kept := map[int64]int{}, map[int64]int{}
	for _, os := range db.mem.runs.All() {
		for _, o := range os {
			begun[o.Row]++
		}
	}
	for _, g := range db.mem.generations.All() {
		kept[g.Row]++
	}
	var orphans int
	err := db.sql.QueryRow(`SELECT count(*) FROM results WHERE run NOT IN (SELECT id FROM runs)`).Scan(&orphans)
	if orphans > 0 {
		err = errors.Join(err, fmt.Errorf("%d results of no run", orphans))
	}
	return errors.Join(err, sound(db, "begun", db.mem.runs.Rows, begun), sound(db, "kept", db.mem.generations.Rows, kept))
}

func sound[T packedrows.Entry](db *DB, table string, rows *packedrows.Table[T], want map[int64]int) error {
	var errs []error
	valid, waits := rows.Valid()
	if !maps.Equal(want, valid) {
		errs = append(errs, fmt.Errorf("%s: entries that count %v, want %v", table, valid, want))
	}
	if waits {
		errs = append(errs, fmt.Errorf("%s: something is left of a transaction", table))
	}
	inFile, err := store.Column(db.sql, `SELECT seq FROM `+table+` ORDER BY seq`)
	var inMemory []string
	for _, seq := range slices.Sorted(maps.Keys(want)) {
		inMemory = append(inMemory, fmt.Sprint(seq))
	}
	if !slices.Equal(inFile, inMemory) {
		errs = append(errs, fmt.Errorf("%s: the file has rows %v, want %v", table, inFile, inMemory))
	}
	return errors.Join(append(errs, err)...)
}

// Unreadable has the file not be readable until the returned func is called.
func (db *DB) Unreadable() (again func()) {
	db.mu.Lock()
	defer db.mu.Unlock()
	good := db.sql
	db.sql = sql.OpenDB(nowhere{})
	return func() {
		db.mu.Lock()
		defer db.mu.Unlock()
		db.sql.Close()
		db.sql = good
	}
}

type nowhere struct{}

func (nowhere) Connect(context.Context) (driver.Conn, error) { return nil, errors.New("it is away") }
func (nowhere) Driver() driver.Driver                        { return nil }

// Undone begins host in run, has a generation stand there, and takes all of it back.
func (db *DB) Undone(ctx context.Context, run, host string) error {
	return db.write(ctx, "nothing", func(tx *tx) error {
		db.mem.generations.Add(host, Generation{Generation: 1, Digest: "d", Commit: "c", At: db.clock()})
		return errors.Join(db.mem.runs.Begin(tx.Tx, Begin{Run: run, Host: host, Digest: "d"}, db.clock()), errors.New("no"))
	})
}
