// Package store opens one SQLite file and writes it, for many writers at once.
//
// A Writer makes the transactions. Writers that come at about the same time share one (group commit),
// and within a transaction rows of a table that is written often go in by one statement for many
// (Rows). A Schema brings a file to the tables of this release, and copies it before. The package knows
// no table: history has them.
//
// Its promise: Writer.Do returns nil when all that its function wrote is in the file, and an error when
// nothing of it is, whoever shared the transaction.
package store

import (
	"database/sql"
	"net/url"

	_ "modernc.org/sqlite" // database/sql driver "sqlite"
)

// Open opens the file at path. more are further parameters of the driver, each with an & before it.
func Open(path, more string) (*sql.DB, error) {
	u := url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath()}
	// With WAL and NORMAL a killed process loses nothing, and a power cut at most the last
	// transactions, never the file. What is lost that way the hosts' own records correct.
	dsn := u.String() + "?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)" +
		"&_pragma=cache_size(-4096)&_txlock=immediate&_time_format=sqlite" + more
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, err
	}

	db.SetMaxOpenConns(4)
	return db, nil
}
