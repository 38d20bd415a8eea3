package history

import (
	"encoding/json"
	"errors"
	"fmt"
)

// What one transaction does to many hosts is one row, where the hosts are entries of a list: a row for
// each would cost a fleet's push more than it costs to speak to the hosts. Entries that do not count
// any more stay in their row, and the row goes when none of them counts; memory says which do, and who
// reads the file finds out by what came later.

// lists is such a table: seq, label, and hosts, a JSON list of entries.
type lists[T any] struct {
	table, label string
	counting     func(seq int64) []T // the entries of a row that count, as memory says
	last         int64               // row
	live         map[int64]int       // how many entries count, by row

	// of the transaction that is under way
	fresh []*sheet[T]
	empty []int64        // rows without an entry that counts
	stale map[int64]bool // rows that are written anew, without what does not count
}

// A sheet is a row that is not in the file yet.
type sheet[T any] struct {
	seq     int64
	label   string
	entries []T
}

func newLists[T any](table, label string, counting func(seq int64) []T) *lists[T] {
	return &lists[T]{table: table, label: label, counting: counting, live: map[int64]int{}, stale: map[int64]bool{}}
}

// read gives each entry to f, the oldest row first. f says by have and drop which of them count.
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
			f(s.seq, s.label, e)
		}
		all = append(all, s.seq)
		l.last = s.seq
	}
	l.empty = nil
	for _, seq := range all {
		if l.live[seq] == 0 {
			l.empty = append(l.empty, seq)
		}
	}
	return rows.Err()
}

// have says that an entry of a row counts.
func (l *lists[T]) have(seq int64) { l.live[seq]++ }

// add has an entry written, beside those before it when they have the same label, and returns its row.
// Entries stay in the order they came.
func (l *lists[T]) add(label string, e T) int64 {
	if n := len(l.fresh); n == 0 || l.fresh[n-1].label != label {
		l.last++
		l.fresh = append(l.fresh, &sheet[T]{seq: l.last, label: label})
	}
	s := l.fresh[len(l.fresh)-1]
	s.entries = append(s.entries, e)
	l.have(s.seq)
	return s.seq
}

// drop says that an entry of a row does not count any more.
func (l *lists[T]) drop(seq int64) {
	if l.live[seq]--; l.live[seq] == 0 {
		delete(l.live, seq)
		l.empty = append(l.empty, seq)
	}
}

// cleanse has all of host that does not count leave the rows, where nothing that comes later would
// overrule it.
func (l *lists[T]) cleanse(tx *tx, host string) error {
	for _, s := range l.fresh {
		l.stale[s.seq] = true
	}
	name, err := json.Marshal(host)
	if err != nil {
		return err
	}
	rows, err := tx.Query(`SELECT seq FROM `+l.table+` WHERE instr(hosts, ?) > 0`, string(name))
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var seq int64
		if err := rows.Scan(&seq); err != nil {
			return err
		}
		l.stale[seq] = true
	}
	return errors.Join(rows.Err(), rows.Close())
}

// write brings the table to what memory says, as the last that a transaction does.
func (l *lists[T]) write(tx *tx) error {
	for _, s := range l.fresh {
		if l.live[s.seq] == 0 {
			continue
		}
		if l.stale[s.seq] {
			delete(l.stale, s.seq)
			s.entries = l.counting(s.seq)
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
		hosts, err := json.Marshal(l.counting(seq))
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
