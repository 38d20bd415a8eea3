package runlist

import (
	"database/sql"
	"strings"

	"bellhop/internal/history/runcache"
	"bellhop/internal/history/states"
)

// Outcomes reads the newest runs, at most limit of them. Of a host there are the name and the outcome alone, and one
// that has no result yet is not there. What reading has of a run is not read again, and must not be changed.
func Outcomes(tx *sql.Tx, limit int, reading runcache.Reading[[]Result]) (runs []Run, err error) {
	rows, err := tx.Query(columns+`ORDER BY seq DESC LIMIT ?`, limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()

	for rows.Next() {
		r, _, err := scan(rows)
		if err != nil {
			return nil, err
		}
		runs = append(runs, r)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}

	for i := range runs {
		known, ok := reading.Get(runs[i].ID)
		if !ok {
			if known, err = outcomesOf(tx, runs[i].ID); err != nil {
				return nil, err
			}
			reading.Put(runs[i].ID, known)
		}
		runs[i].Hosts = known
	}
	return runs, nil
}

// outcomesOf reads the outcomes of one run. SQLite makes one text of all hosts, which costs a third of a thousand rows. Neither
// a name nor an outcome holds a blank.
func outcomesOf(tx *sql.Tx, run string) ([]Result, error) {
	var lines string
	err := tx.QueryRow(`SELECT ifnull(group_concat(host || ' ' || outcome, char(10)), '') FROM results WHERE run = ? AND outcome <> ''`, run).Scan(&lines)
	if err != nil || lines == "" {
		return nil, err
	}

	outcomes := map[string]*states.Outcome{}
	all := make([]Result, 0, strings.Count(lines, "\n")+1)
	for line := range strings.SplitSeq(lines, "\n") {
		host, word, _ := strings.Cut(line, " ")
		if outcomes[word] == nil {
			outcomes[word] = new(states.Outcome(word))
		}
		all = append(all, Result{Name: host, Outcome: outcomes[word]})
	}
	return all, nil
}
