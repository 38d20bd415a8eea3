package history

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/history/packedrows"
	"bellhop/internal/history/store"
)

// openRuns are the runs that are not over. A host is open in a run that began it and has no
// result of it yet; the table begun has an entry for each. A run is unfinished until it ends by
// itself; a slow host may stay open in it longer.
type openRuns struct {
	byHost map[string][]openRun
	rows   *packedrows.Table[begunEntry]
	// unfinished are the runs without an end.
	unfinished map[string]bool
	// planned are the hosts that a run is to push and that are neither open in it nor have a
	// result of it, by run.
	planned map[string]map[string]bool
}

// An openRun is a run that a host is open in.
type openRun struct {
	run, digest string
	at          time.Time

	as      string          // the id of the run on the host, where that is another
	origins []bundle.Origin // where the bundle is composed

	row int64 // of openRuns.rows
}

// A begunEntry is an openRun as it is stored, in a row with others of its run.
type begunEntry struct {
	Host   string `json:"host"`
	Digest string `json:"digest"`
	At     int64  `json:"at"`
	As     string `json:"as,omitempty"`

	Origins []bundle.Origin `json:"origins,omitempty"`
}

func (e begunEntry) OfHost() string { return e.Host }

func newOpenRuns() *openRuns {
	return &openRuns{
		byHost: map[string][]openRun{}, rows: packedrows.New[begunEntry]("begun", "run", nil),
		unfinished: map[string]bool{}, planned: map[string]map[string]bool{},
	}
}

// readBegun reads what hosts are open in, the oldest run of a host first: all that a status needs.
// Rows are not rewritten when an entry does not count any more: a result overrules it.
func readBegun(q store.Querier) (*openRuns, error) {
	r := newOpenRuns()

	// results of runs that hosts may be open in, as "run host"
	over, err := store.Set(store.Column(q, `SELECT run || ' ' || host FROM results WHERE run IN (SELECT run FROM begun)`))
	if err != nil {
		return nil, err
	}
	err = r.rows.Read(q, func(row int64, run string, e begunEntry) {
		if over[run+" "+e.Host] {
			return
		}
		r.end(run, e.Host)
		r.rows.Retain(row)
		r.byHost[e.Host] = append(r.byHost[e.Host], openRun{run: run, digest: e.Digest, at: time.UnixMilli(e.At).UTC(), as: e.As, origins: e.Origins, row: row})
	})
	return r, err
}

// readOpenRuns reads all of them.
func readOpenRuns(q store.Querier) (*openRuns, error) {
	r, err := readBegun(q)
	if err != nil {
		return nil, err
	}

	if r.unfinished, err = store.Set(store.Column(q, `SELECT id FROM runs WHERE finished_at = 0`)); err != nil {
		return nil, err
	}
	if r.planned, err = readPlanned(q); err != nil {
		return nil, err
	}
	for host, runs := range r.byHost {
		for _, o := range runs {
			delete(r.planned[o.run], host)
		}
	}
	return r, nil
}

// readPlanned lists the hosts that unfinished runs are to push and that have no result yet.
func readPlanned(q store.Querier) (map[string]map[string]bool, error) {
	rows, err := q.Query(`SELECT runs.id, names.value FROM runs, json_each(planned) AS names
		WHERE finished_at = 0 AND NOT EXISTS(SELECT 1 FROM results WHERE run = runs.id AND host = names.value)`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()

	planned := map[string]map[string]bool{}
	for rows.Next() {
		var run, host string
		if err := rows.Scan(&run, &host); err != nil {
			return nil, err
		}
		if planned[run] == nil {
			planned[run] = map[string]bool{}
		}
		planned[run][host] = true
	}
	return planned, rows.Err()
}

// begin has host be open in run since now. It is called inside a transaction, as end and giveUp
// are.
func (r *openRuns) begin(tx *tx, run, host, digest string, now time.Time) error {
	return r.beginAs(tx, Begin{Run: run, Host: host, Digest: digest}, now)
}

// beginAs is begin of an offer that is not the first of its run, or not of a whole bundle.
func (r *openRuns) beginAs(tx *tx, b Begin, now time.Time) error {
	run, host, digest := b.Run, b.Host, b.Digest
	if o := r.find(run, host); o != nil {
		if o.digest == digest {
			return nil
		}
		r.end(run, host)
	}

	// A host that was not planned, or was at work in this run before, may have a result: it does
	// not count any more.
	if !r.planned[run][host] {
		for _, query := range []string{`DELETE FROM results WHERE run = ? AND host = ?`, `DELETE FROM evidence WHERE run = ? AND host = ?`} {
			if _, err := tx.Exec(query, run, host); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(`UPDATE runs SET planned = json_insert(planned, '$[#]', ?1)
			WHERE id = ?2 AND NOT EXISTS(SELECT 1 FROM json_each(planned) WHERE value = ?1)`, host, run); err != nil {
			return err
		}
	}
	delete(r.planned[run], host)

	o := openRun{run: run, digest: digest, at: now, as: b.As, origins: b.Origins}
	o.row = r.rows.Add(run, begunEntry{Host: host, Digest: digest, At: store.Millis(now), As: b.As, Origins: b.Origins})
	r.byHost[host] = append(r.byHost[host], o)
	return nil
}

func (r *openRuns) find(run, host string) *openRun {
	for i := range r.byHost[host] {
		if o := &r.byHost[host][i]; o.run == run {
			return o
		}
	}
	return nil
}

// end says that host has a result of run, or will have before the transaction ends. It returns
// when the host was begun there, the zero time when it is not open.
func (r *openRuns) end(run, host string) (begun time.Time) {
	if r.find(run, host) == nil {
		return time.Time{}
	}

	r.byHost[host] = slices.DeleteFunc(r.byHost[host], func(o openRun) bool {
		if o.run != run {
			return false
		}
		begun = o.at
		r.rows.Release(o.row)
		return true
	})
	if len(r.byHost[host]) == 0 {
		delete(r.byHost, host)
	}
	return begun
}

// giveUp ends all that host is open in with the outcome unknown: no process waits for it any
// more.
func (r *openRuns) giveUp(tx *tx, host string, now time.Time) error {
	for _, o := range slices.Clone(r.byHost[host]) {
		r.end(o.run, host)
		if err := tx.Add(endedResult, "result "+o.run+" "+host,
			o.run, host, o.digest, store.Millis(o.at), store.Millis(now), OutcomeUnknown, "[]", noDetails, 0, ""); err != nil {
			return err
		}
	}
	return nil
}

// finish says that run is over, and returns the hosts that are still open in it or were never
// begun, sorted: a host that was detached stays on the run's list until it ends.
func (r *openRuns) finish(run string) (left []string) {
	left = slices.AppendSeq(r.hostsIn(run), maps.Keys(r.planned[run]))
	delete(r.unfinished, run)
	delete(r.planned, run)

	slices.Sort(left)
	return left
}

// hostsIn are the hosts that are open in run.
func (r *openRuns) hostsIn(run string) []string {
	var hosts []string
	for host := range r.byHost {
		if r.find(run, host) != nil {
			hosts = append(hosts, host)
		}
	}
	return hosts
}

// An Interrupted is a host that was begun and has no result.
type Interrupted struct {
	Run, Host, Digest, Commit string
	As                        string          // the id of the run on the host
	Origins                   []bundle.Origin // of services that stay as they were, where the bundle is composed
	BegunAt                   time.Time
}

// interrupted lists what is open, oldest first.
func (r *openRuns) interrupted(tx *tx) ([]Interrupted, error) {
	var all []Interrupted
	commits := map[string]string{}

	for host, runs := range r.byHost {
		for _, o := range runs {
			commit, ok := commits[o.run]
			if !ok {
				found, err := store.Column(tx, `SELECT commit_id FROM runs WHERE id = ?`, o.run)
				if err != nil {
					return nil, err
				}
				commit = strings.Join(found, "") // at most one
				commits[o.run] = commit
			}
			all = append(all, Interrupted{Run: o.run, As: cmp.Or(o.as, o.run), Origins: o.origins, Host: host, Digest: o.digest, Commit: commit, BegunAt: o.at})
		}
	}

	slices.SortFunc(all, func(a, b Interrupted) int {
		return cmp.Or(a.BegunAt.Compare(b.BegunAt), strings.Compare(a.Run, b.Run), strings.Compare(a.Host, b.Host))
	})
	return all, nil
}
