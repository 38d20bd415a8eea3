package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/pressly/goose/v3"
)

// ErrNewer is a file that a newer bellhop wrote. It is not written, since what it has more would be
// lost without a word.
var ErrNewer = errors.New("a newer bellhop wrote it: use that one, or one that is newer still")

// A Schema has the steps that lead from an empty file to the tables of this release.
type Schema struct {
	Migrations fs.FS // files 00001_NAME.sql and so on, as goose reads them
}

// Check says why a file can't be read as it is: nothing wrote it, or another release.
func (s Schema) Check(db *sql.DB) error {
	v, err := s.version(db)
	switch {
	case err != nil:
		return err
	case v == 0:
		return errors.New("it is empty, or no history: the first run of bellhop serve or bellhop deploy makes it")
	case v < s.newest():
		return errors.New("an older bellhop wrote it: start the server of this one, or deploy once, which brings it up to date")
	}
	return nil
}

// Upgrade brings the file at path, which db is, to this release. It is copied before it is changed.
func (s Schema) Upgrade(db *sql.DB, path string) error {
	v, err := s.version(db)
	if errors.Is(err, ErrNewer) {
		return fmt.Errorf("%w%s", err, copiesOf(path, s.newest()))
	} else if err != nil {
		return err
	}
	if v > 0 && v < s.newest() {
		if err := copyTo(db, copyName(path, v)); err != nil {
			return fmt.Errorf("copy it before it is changed: %w", err)
		}
	}

	p, err := goose.NewProvider(goose.DialectSQLite3, db, s.Migrations)
	if err != nil {
		return err
	}
	_, err = p.Up(context.Background())
	return err
}

// version is that of the file's schema, 0 for a file without one. A newer one than this bellhop's is
// an error.
func (s Schema) version(db *sql.DB) (v int64, err error) {
	err = db.QueryRow(`SELECT count(*) FROM sqlite_schema WHERE name = 'goose_db_version'`).Scan(&v)
	if err != nil || v == 0 {
		return 0, err
	}
	if err = db.QueryRow(`SELECT max(version_id) FROM goose_db_version`).Scan(&v); err == nil && v > s.newest() {
		err = ErrNewer
	}
	return v, err
}

// newest is the number of the last migration.
func (s Schema) newest() (v int64) {
	entries, err := fs.ReadDir(s.Migrations, ".")
	if err != nil {
		panic(err) // it is part of the program
	}

	for _, e := range entries {
		n, _, _ := strings.Cut(e.Name(), "_")
		if i, err := strconv.ParseInt(n, 10, 64); err == nil {
			v = max(v, i)
		}
	}
	return v
}
