package store

import (
	"errors"
	"fmt"

	"modernc.org/sqlite"
)

// ErrDamaged is a file that is no database, or not any more. What it held is a cache: hosts
// are asked when it is gone. It is not thrown away unasked, since it is the log of runs too.
var ErrDamaged = errors.New("the file is damaged")

// Result codes of SQLite, https://www.sqlite.org/rescode.html.
const (
	codeCorrupt  = 11
	codeCantOpen = 14
	codeNotADB   = 26
)

// Explain adds to an error of the database what kind of trouble it is.
func Explain(err error) error {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code() & 0xff {
	case codeCorrupt, codeNotADB:
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	case codeCantOpen:
		return fmt.Errorf("%w: may you write in its folder? whoever only reads makes bellhop.db-shm there too", err)
	}
	return err
}
