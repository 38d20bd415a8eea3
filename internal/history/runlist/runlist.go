// Package runlist reads runs with what came of them on each host, as status pages and "bellhop history" list them.
package runlist

import (
	"database/sql"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"bellhop/internal/history/null"
	"bellhop/internal/history/results"
	"bellhop/internal/history/states"
	"bellhop/internal/history/store"
)

// A Run is one attempt to bring the fleet to a commit. Its JSON, and that of its results, is a contract.
type Run struct {
	ID         string          `json:"id"`
	Commit     *string         `json:"commit"`
	Author     *string         `json:"author"`
	Subject    *string         `json:"subject"`
	Cause      string          `json:"cause"`
	StartedAt  time.Time       `json:"started_at"`
	FinishedAt *time.Time      `json:"finished_at"`
	Outcome    *states.Outcome `json:"outcome"` // null while it runs
	Hosts      []Result        `json:"hosts"`

	By    string   `json:"-"` // who asked
	Error string   `json:"-"`
	Notes []string `json:"-"`
}

// A Result is what came of a run on one host. What is not known yet is null.
type Result struct {
	Name    string          `json:"name"`
	Outcome *states.Outcome `json:"outcome"` // null while it runs
	Changed []string        `json:"changed"`
	TookMs  int64           `json:"took_ms"`
	Error   *string         `json:"error"`
	Reason  *results.Reason `json:"reason"` // why it was unconfirmed; null with any other outcome

	Evidence []results.Evidence `json:"evidence"` // what the host saw of what failed
	Restored []results.Restored `json:"restored"` // files that somebody edited on the host, and the run put back

	Notes   []string        `json:"-"` // for people, as Notes has them
	Details json.RawMessage `json:"-"`
}

// Read reads runs with all their results: those that where, the end of the statement, chooses, in its order.
func Read(tx *sql.Tx, where string, args ...any) ([]Run, error) {
	rows, err := tx.Query(columns+where, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()

	all := []Run{}
	var planned [][]string
	for rows.Next() {
		r, hosts, err := scan(rows)
		if err != nil {
			return nil, err
		}
		all, planned = append(all, r), append(planned, hosts)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}

	for i := range all {
		if all[i].Hosts, err = resultsOf(tx, all[i].ID, planned[i]); err != nil {
			return nil, err
		}
	}
	return all, nil
}

const columns = `SELECT id, commit_id, author, subject, cause, by_whom, started_at, finished_at, outcome, error, notes, planned FROM runs `

// scan reads a run, and the hosts that it is to push.
func scan(rows *sql.Rows) (r Run, planned []string, err error) {
	var commit, author, subject, outcome, notes, names string
	var started, finished int64
	if err := rows.Scan(&r.ID, &commit, &author, &subject, &r.Cause, &r.By, &started, &finished, &outcome, &r.Error, &notes, &names); err != nil {
		return r, nil, err
	}
	r.Commit, r.Author, r.Subject, r.Outcome = null.Text(commit), null.Text(author), null.Text(subject), null.Text(states.Outcome(outcome))
	r.StartedAt, r.FinishedAt = time.UnixMilli(started).UTC(), null.Time(store.Time(finished))
	return r, planned, errors.Join(json.Unmarshal([]byte(notes), &r.Notes), json.Unmarshal([]byte(names), &planned))
}

// resultsOf reads what came of a run, and adds those in planned that have no result yet.
func resultsOf(tx *sql.Tx, run string, planned []string) ([]Result, error) {
	rows, err := tx.Query(`SELECT host, outcome, changed, took_ms, error, details FROM results WHERE run = ? ORDER BY host`, run)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	rs := []Result{}
	for rows.Next() {
		r := empty("")
		var outcome, changed, errText, details string
		if err := rows.Scan(&r.Name, &outcome, &changed, &r.TookMs, &errText, &details); err != nil {
			return nil, err
		}
		if err := json.Unmarshal([]byte(changed), &r.Changed); err != nil {
			return nil, err
		}

		r.Outcome, r.Error, r.Details = null.Text(states.Outcome(outcome)), null.Text(errText), json.RawMessage(details)
		r.Notes, r.Reason, r.Restored = results.NotesOf(details), results.ReasonOf(details), results.RestoredOf(details)
		rs = append(rs, r)
	}

	slices.Sort(planned)
	known := len(rs)
	for _, name := range planned {
		if _, ok := slices.BinarySearchFunc(rs[:known], name, func(r Result, name string) int { return strings.Compare(r.Name, name) }); !ok {
			rs = append(rs, empty(name))
		}
	}

	if len(rs) > known {
		slices.SortFunc(rs, func(a, b Result) int { return strings.Compare(a.Name, b.Name) })
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return nil, err
	}

	seen, err := results.ReadEvidence(tx, run)
	for i, r := range rs {
		if all, ok := seen[r.Name]; ok {
			rs[i].Evidence = all
		}
	}

	return rs, err
}

// empty is that of a host of which nothing is known yet.
func empty(host string) Result {
	return Result{Name: host, Changed: []string{}, Evidence: []results.Evidence{}, Restored: []results.Restored{}, Details: json.RawMessage("{}")}
}
