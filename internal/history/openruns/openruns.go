// Package openruns remembers which runs are not over, and which hosts they still work on.
//
// A host is open in a run that began it and has no result of it yet; the table begun has an entry for
// each (package packedrows). A run is unfinished until it ends by itself; a slow host may stay open in it
// longer.
package openruns

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/history/packedrows"
	"bellhop/internal/history/store"
)

// A Set is the runs that are not over. Its caller serializes the calls.
type Set struct {
	byHost map[string][]Run
	// Rows are those of the table begun.
	Rows *packedrows.Table[Entry]
	// Unfinished are the runs without an end.
	Unfinished map[string]bool
	// Planned are the hosts that a run is to push and that are neither open in it nor have a
	// result of it, by run.
	Planned map[string]map[string]bool
}

// A Run is a run that a host is open in.
type Run struct {
	Run, Digest string
	At          time.Time
	As          string          // the id of the run on the host, where that is another
	Origins     []bundle.Origin // where the bundle is composed

	Row int64 // that has it, of the table begun
}

// An Entry is a Run as it is stored, in a row with others of its run.
type Entry struct {
	Host   string `json:"host"`
	Digest string `json:"digest"`
	At     int64  `json:"at"`
	As     string `json:"as,omitempty"`

	Origins []bundle.Origin `json:"origins,omitempty"`
}

// OfHost is the host that is open.
func (e Entry) OfHost() string { return e.Host }

// New is a set without a run.
func New() *Set {
	return &Set{
		byHost: map[string][]Run{}, Rows: packedrows.New[Entry]("begun", "run", nil),
		Unfinished: map[string]bool{}, Planned: map[string]map[string]bool{},
	}
}

// ReadBegun reads what hosts are open in, the oldest run of a host first: all that a status needs.
// Rows are not rewritten when an entry does not count any more: a result overrules it.
func ReadBegun(q store.Querier) (*Set, error) {
	r := New()

	// results of runs that hosts may be open in, as "run host"
	over, err := store.Set(store.Column(q, `SELECT run || ' ' || host FROM results WHERE run IN (SELECT run FROM begun)`))
	if err != nil {
		return nil, err
	}
	err = r.Rows.Read(q, func(row int64, run string, e Entry) {
		if over[run+" "+e.Host] {
			return
		}
		r.End(run, e.Host)
		r.Rows.Retain(row)
		r.byHost[e.Host] = append(r.byHost[e.Host], Run{Run: run, Digest: e.Digest, At: time.UnixMilli(e.At).UTC(), As: e.As, Origins: e.Origins, Row: row})
	})
	return r, err
}

// Read reads all of them.
func Read(q store.Querier) (*Set, error) {
	r, err := ReadBegun(q)
	if err != nil {
		return nil, err
	}

	if r.Unfinished, err = store.Set(store.Column(q, `SELECT id FROM runs WHERE finished_at = 0`)); err != nil {
		return nil, err
	}
	if r.Planned, err = readPlanned(q); err != nil {
		return nil, err
	}
	for host, runs := range r.byHost {
		for _, o := range runs {
			delete(r.Planned[o.Run], host)
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

// A Begin is an offer that goes out to a host.
type Begin struct {
	Run, Host, Digest string
	As                string          // id of the run on the host, where that is another: a second try
	Origins           []bundle.Origin // of services that stay as they were, where the bundle is composed
}

// Begin has a host be open in a run since now. It is called inside a transaction, as End and GiveUp are.
func (r *Set) Begin(tx *store.Tx, b Begin, now time.Time) error {
	run, host, digest := b.Run, b.Host, b.Digest
	if o := r.find(run, host); o != nil {
		if o.Digest == digest {
			return nil
		}
		r.End(run, host)
	}

	// A host that was not planned, or was at work in this run before, may have a result: it does
	// not count any more.
	if !r.Planned[run][host] {
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

	delete(r.Planned[run], host)

	o := Run{Run: run, Digest: digest, At: now, As: b.As, Origins: b.Origins}
	o.Row = r.Rows.Add(run, Entry{Host: host, Digest: digest, At: store.Millis(now), As: b.As, Origins: b.Origins})
	r.byHost[host] = append(r.byHost[host], o)
	return nil
}

func (r *Set) find(run, host string) *Run {
	for i := range r.byHost[host] {
		if o := &r.byHost[host][i]; o.Run == run {
			return o
		}
	}
	return nil
}

// End says that host has a result of run, or will have before the transaction ends. It returns
// when the host was begun there, the zero time when it is not open.
func (r *Set) End(run, host string) (begun time.Time) {
	if r.find(run, host) == nil {
		return time.Time{}
	}

	r.byHost[host] = slices.DeleteFunc(r.byHost[host], func(o Run) bool {
		if o.Run != run {
			return false
		}
		begun = o.At
		r.Rows.Release(o.Row)
		return true
	})
	if len(r.byHost[host]) == 0 {
		delete(r.byHost, host)
	}
	return begun
}

// GiveUp ends all that host is open in, and calls each for it: no process waits for it any more.
func (r *Set) GiveUp(host string, each func(o Run) error) error {
	for _, o := range slices.Clone(r.byHost[host]) {
		r.End(o.Run, host)
		if err := each(o); err != nil {
			return err
		}
	}
	return nil
}

// Of is what host is open in, the oldest first.
func (r *Set) Of(host string) []Run { return r.byHost[host] }

// All goes over the hosts that are open in any run.
func (r *Set) All() iter.Seq2[string, []Run] { return maps.All(r.byHost) }

// Forget ends every run without a word on what its hosts have: the process that made them is gone.
func (r *Set) Forget() {
	clear(r.Unfinished)
	clear(r.Planned)
}

// Finish says that run is over, and returns the hosts that are still open in it or were never
// begun, sorted: a host that was detached stays on the run's list until it ends.
func (r *Set) Finish(run string) (left []string) {
	left = slices.AppendSeq(r.HostsIn(run), maps.Keys(r.Planned[run]))
	delete(r.Unfinished, run)
	delete(r.Planned, run)

	slices.Sort(left)
	return left
}

// HostsIn are the hosts that are open in run.
func (r *Set) HostsIn(run string) []string {
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

// Interrupted lists what is open, oldest first.
func (r *Set) Interrupted(q store.Querier) ([]Interrupted, error) {
	var all []Interrupted
	commits := map[string]string{}

	for host, runs := range r.byHost {
		for _, o := range runs {
			commit, ok := commits[o.Run]
			if !ok {
				found, err := store.Column(q, `SELECT commit_id FROM runs WHERE id = ?`, o.Run)
				if err != nil {
					return nil, err
				}
				commit = strings.Join(found, "") // at most one
				commits[o.Run] = commit
			}
			all = append(all, Interrupted{Run: o.Run, As: cmp.Or(o.As, o.Run), Origins: o.Origins, Host: host, Digest: o.Digest, Commit: commit, BegunAt: o.At})
		}
	}

	slices.SortFunc(all, func(a, b Interrupted) int {
		return cmp.Or(a.BegunAt.Compare(b.BegunAt), strings.Compare(a.Run, b.Run), strings.Compare(a.Host, b.Host))
	})
	return all, nil
}
