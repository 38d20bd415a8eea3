package history

import (
	"encoding/json"
	"fmt"
	"slices"
)

// What one transaction does to many hosts is one row, where the hosts are entries of a list: a row for
// each would cost a fleet's push more than it costs to speak to the hosts. Entries that do not count
// any more stay in their row, and the row goes when none of them counts. Memory says which do; who
// reads the file finds out, since a later entry of a host overrules those before it. What ends an
// entry otherwise must cleanse the rows of its host.

// named is an entry: a row may hold several of one host.
type named interface{ name() string }

// lists is such a table: seq, label, and hosts, a JSON list of entries.
type lists[T named] struct {
	table, label string
	// counting are the entries that count, of rows that are written anew, in their order; nil where
	// nothing is cleansed.
	counting func(rows map[int64]bool) map[int64][]T
	last     int64              // row
	live     map[int64]int      // how many entries count, by row
	rows     map[string][]int64 // that name a host, and others that went

	// of the transaction that is under way
	fresh []*sheet[T]
	empty []int64        // rows without an entry that counts
	stale map[int64]bool // rows that are written anew, without what does not count
}

// A sheet is a row that is not in the file yet.
type sheet[T named] struct {
	seq     int64
	label   string
	entries []T
}

func newLists[T named](table, label string, counting func(rows map[int64]bool) map[int64][]T) *lists[T] {
	return &lists[T]{table: table, label: label, counting: counting, live: map[int64]int{}, rows: map[string][]int64{}, stale: map[int64]bool{}}
}

// read gives each entry to f, the oldest row first. Of those that count f says so by have, and by drop
// when they turn out not to.
func (l *lists[T]) read(q querier, f func(seq int64, label string, e T)) error {
	rows, err := q.Query(`SELECT seq, ` + l.label + `, hosts FROM ` + l.table + ` ORDER BY seq`)
	if err != nil {
		return err
	}
	defer rows.Close()
	var all []int64
	for rows.Next() {
		var s sheet[T]
		var hosts []byte
		if err := rows.Scan(&s.seq, &s.label, &hosts); err != nil {
			return err
		}
		if err := json.Unmarshal(hosts, &s.entries); err != nil {
			return fmt.Errorf("row %d of %s: %w", s.seq, l.table, err)
		}
		for _, e := range s.entries {
			l.names(e.name(), s.seq)
			f(s.seq, s.label, e)
		}
		all = append(all, s.seq)
		l.last = s.seq
	}
	l.empty = slices.DeleteFunc(all, func(seq int64) bool { return l.live[seq] > 0 })
	return rows.Err()
}

// names notes that a row names host.
func (l *lists[T]) names(host string, seq int64) {
	rows := l.rows[host]
	if n := len(rows); n > 0 && rows[n-1] == seq {
		return
	}
	if len(rows) > 2*keepGenerations {
		rows = slices.DeleteFunc(rows, func(seq int64) bool { return l.live[seq] == 0 })
	}
	l.rows[host] = append(rows, seq)
}

// have says that an entry of a row counts.
func (l *lists[T]) have(seq int64) { l.live[seq]++ }

// add has an entry written, which counts, and returns its row: that of those before it when they have
// the same label. Entries stay in the order they came.
func (l *lists[T]) add(label string, e T) int64 {
	if n := len(l.fresh); n == 0 || l.fresh[n-1].label != label {
		l.last++
		l.fresh = append(l.fresh, &sheet[T]{seq: l.last, label: label})
	}
	s := l.fresh[len(l.fresh)-1]
	s.entries = append(s.entries, e)
	l.have(s.seq)
	l.names(e.name(), s.seq)
	return s.seq
}

// drop says that an entry of a row does not count any more.
func (l *lists[T]) drop(seq int64) {
	if l.live[seq]--; l.live[seq] == 0 {
		delete(l.live, seq)
		l.empty = append(l.empty, seq)
	}
}

// cleanse has all entries of host that do not count leave their rows; in those of left it has some
// that do.
func (l *lists[T]) cleanse(host string, left ...int64) {
	for _, seq := range l.rows[host] {
		l.stale[seq] = true
	}
	if l.rows[host] = left; len(left) == 0 {
		delete(l.rows, host)
	}
}

// write brings the table to what memory says, as the last that a transaction does.
func (l *lists[T]) write(tx *tx) error {
	var anew map[int64][]T
	if len(l.stale) > 0 {
		anew = l.counting(l.stale)
	}
	for _, s := range l.fresh {
		if l.live[s.seq] == 0 {
			continue
		}
		if l.stale[s.seq] {
			delete(l.stale, s.seq)
			s.entries = anew[s.seq]
		}
		hosts, err := json.Marshal(s.entries)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(`INSERT INTO `+l.table+`(seq, `+l.label+`, hosts) VALUES(?, ?, ?)`, s.seq, s.label, string(hosts)); err != nil {
			return err
		}
	}
	for seq := range l.stale {
		if l.live[seq] == 0 {
			continue
		}
		hosts, err := json.Marshal(anew[seq])
		if err != nil {
			return err
		}
		if _, err := tx.Exec(`UPDATE `+l.table+` SET hosts = ? WHERE seq = ?`, string(hosts), seq); err != nil {
			return err
		}
	}
	for _, seq := range l.empty {
		if l.live[seq] > 0 {
			continue // it was filled again
		}
		if _, err := tx.Exec(`DELETE FROM `+l.table+` WHERE seq = ?`, seq); err != nil {
			return err
		}
	}
	l.fresh, l.empty = nil, nil
	clear(l.stale)
	return nil
}
