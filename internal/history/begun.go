package history

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// A host that was begun by a run and has no result there is open. It is an entry of the table begun;
// with the row of its result it is over.

// An opened is a run that a host is open in.
type opened struct {
	run, digest string
	at          time.Time

	row int64 // of db.begunRows
}

// A begunEntry is an opened as it is stored, in a row with others of its run.
type begunEntry struct {
	Host   string `json:"host"`
	Digest string `json:"digest"`
	At     int64  `json:"at"`
}

func (b begunEntry) name() string { return b.Host }

// readOpen lists the runs that each host is open in, oldest first. These rows are never cleansed: what
// does not count is overruled by a result.
func readOpen(q querier) (open map[string][]opened, rows *lists[begunEntry], err error) {
	open, rows = map[string][]opened{}, newLists[begunEntry]("begun", "run", nil)
	over, err := readOver(q)
	if err != nil {
		return nil, nil, err
	}
	err = rows.read(q, func(seq int64, run string, b begunEntry) {
		if over[run+" "+b.Host] {
			return
		}
		runs := slices.DeleteFunc(open[b.Host], func(o opened) bool {
			if o.run == run {
				rows.drop(o.row)
			}
			return o.run == run
		})
		rows.have(seq)
		open[b.Host] = append(runs, opened{run, b.Digest, time.UnixMilli(b.At).UTC(), seq})
	})
	return open, rows, err
}

// readOver lists the results of runs that hosts may be open in, as "run host".
func readOver(q querier) (map[string]bool, error) {
	return set(column(q, `SELECT run || ' ' || host FROM results WHERE run IN (SELECT run FROM begun)`))
}

// opens has host be open in run. It is called inside write.
func (db *DB) opens(tx *tx, run, host, digest string) error {
	if i := slices.IndexFunc(db.open[host], func(o opened) bool { return o.run == run }); i >= 0 {
		if db.open[host][i].digest == digest {
			return nil
		}
		db.closes(run, host)
	}
	if !db.ahead[run][host] { // not planned, or at work there before: a result does not count any more
		if _, err := tx.Exec(`DELETE FROM results WHERE run = ? AND host = ?`, run, host); err != nil {
			return err
		}
		if _, err := tx.Exec(`UPDATE runs SET planned = json_insert(planned, '$[#]', ?1)
			WHERE id = ?2 AND NOT EXISTS(SELECT 1 FROM json_each(planned) WHERE value = ?1)`, host, run); err != nil {
			return err
		}
	}
	delete(db.ahead[run], host)
	o := opened{run: run, digest: digest, at: db.clock()}
	o.row = db.begunRows.add(run, begunEntry{host, digest, millis(o.at)})
	db.open[host] = append(db.open[host], o)
	return nil
}

// closes says that host has a result in run, or will have before the transaction ends. It returns
// when it was begun there, the zero time when it is not open.
func (db *DB) closes(run, host string) (begun time.Time) {
	db.open[host] = slices.DeleteFunc(db.open[host], func(o opened) bool {
		if o.run == run {
			begun = o.at
			db.begunRows.drop(o.row)
		}
		return o.run == run
	})
	if len(db.open[host]) == 0 {
		delete(db.open, host)
	}
	return begun
}

// giveUp ends what host is open in: nobody hears any more what came of it. It is called inside write.
func (db *DB) giveUp(tx *tx, host string, now time.Time) error {
	for _, o := range slices.Clone(db.open[host]) {
		db.closes(o.run, host)
		if err := tx.add(ended, "result "+o.run+" "+host, o.run, host, o.digest, millis(o.at), millis(now), Unknown, "[]", noDetails, 0, ""); err != nil {
			return err
		}
	}
	return nil
}

// openIn are the hosts that are open in run.
func (db *DB) openIn(run string) []string {
	var hosts []string
	for host, runs := range db.open {
		if slices.ContainsFunc(runs, func(o opened) bool { return o.run == run }) {
			hosts = append(hosts, host)
		}
	}
	return hosts
}

// interrupted lists what is open, oldest first.
func (db *DB) interrupted(tx *tx) ([]Interrupted, error) {
	var all []Interrupted
	commits := map[string]string{}
	for host, runs := range db.open {
		for _, o := range runs {
			commit, ok := commits[o.run]
			if !ok {
				found, err := column(tx, `SELECT commit_id FROM runs WHERE id = ?`, o.run)
				if err != nil {
					return nil, err
				}
				commit = strings.Join(found, "") // at most one
				commits[o.run] = commit
			}
			all = append(all, Interrupted{Run: o.run, Host: host, Digest: o.digest, Commit: commit, BegunAt: o.at})
		}
	}
	slices.SortFunc(all, func(a, b Interrupted) int {
		return cmp.Or(a.BegunAt.Compare(b.BegunAt), strings.Compare(a.Run, b.Run), strings.Compare(a.Host, b.Host))
	})
	return all, nil
}
