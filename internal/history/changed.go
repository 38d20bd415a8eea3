package history

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
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
	err := db.read(ctx, func(tx *sql.Tx) error {
		rows, err := tx.Query(`SELECT id, commit_id, author, subject, cause, by_whom, started_at, finished_at, outcome, error, notes, planned
			FROM runs ORDER BY seq DESC LIMIT ?`, limit)
		if err != nil {
			return err
		}
		defer rows.Close()

		for rows.Next() {
			r, _, err := scanRun(rows)
			if err != nil {
				return err
			}
			runs = append(runs, r)
		}
		if err := rows.Err(); err != nil {
			return err
		}

		for i := range runs {
			known, ok := reading.Get(runs[i].ID)
			if !ok {
				if known, err = outcomesOf(tx, runs[i].ID); err != nil {
					return err
				}
				reading.Put(runs[i].ID, known)
			}
			runs[i].Hosts = known
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read outcomes of runs: %w", err)
	}
	return runs, nil
}

// outcomesOf reads the outcomes of one run. SQLite makes one text of all hosts, which costs a third of a thousand rows. Neither
// a name nor an outcome holds a blank.
func outcomesOf(tx *sql.Tx, run string) ([]RunResult, error) {
	var lines string
	err := tx.QueryRow(`SELECT ifnull(group_concat(host || ' ' || outcome, char(10)), '') FROM results WHERE run = ? AND outcome <> ''`, run).Scan(&lines)
	if err != nil || lines == "" {
		return nil, err
	}

	outcomes := map[string]*Outcome{}
	all := make([]RunResult, 0, strings.Count(lines, "\n")+1)
	for line := range strings.SplitSeq(lines, "\n") {
		host, word, _ := strings.Cut(line, " ")
		if outcomes[word] == nil {
			outcomes[word] = new(Outcome(word))
		}
		all = append(all, RunResult{Name: host, Outcome: outcomes[word]})
	}
	return all, nil
}
