package history

import (
	"context"
	"database/sql"
	"fmt"

	"bellhop/internal/history/runlist"
)

// Changed receives after transactions. Several that come shortly after each other may be one. It is for one reader.
func (db *DB) Changed() <-chan struct{} { return db.changed }

func (db *DB) signalChanged() {
	select {
	case db.changed <- struct{}{}:
	default: // the reader will look once more anyway
	}
}

// RunOutcomes reads the newest runs, at most limit of them, without what makes a run of many hosts dear to read: of a host
// there are the name and the outcome alone, and a host that has no result yet is not there. Nobody changes what it returns.
func (db *DB) RunOutcomes(ctx context.Context, limit int) ([]Run, error) {
	var runs []Run
	reading := db.outcomes.Begin()
	err := db.read(ctx, func(tx *sql.Tx) (err error) {
		runs, err = runlist.Outcomes(tx, limit, reading)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read outcomes of runs: %w", err)
	}
	return runs, nil
}
