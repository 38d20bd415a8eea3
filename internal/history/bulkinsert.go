package history

import (
	"context"
	"database/sql/driver"
	"slices"
	"strings"
)

// A table's rows that are written often wait within a transaction and go in by one statement for
// many: each statement costs several times what its row does, and a fleet's push ends on hundreds
// of hosts in one transaction.

// rows is a statement for one row or many of them.
type rows struct {
	head string // up to the rows
	cols int
	tail string // after them
	text map[int]string
}

func newRows(head string, cols int, tail string) *rows {
	r := &rows{head: head, cols: cols, tail: tail, text: map[int]string{}}
	for _, n := range rowCounts {
		one := "(" + strings.Repeat("?,", cols-1) + "?)"
		r.text[n] = head + strings.Repeat(one+",", n-1) + one + tail
	}
	return r
}

// rowCounts are how many rows one statement takes: few sizes, since each is prepared and kept.
var rowCounts = []int{32, 8, 1}

// A pending is what waits for one statement: fewer rows than the largest takes.
type pending struct {
	rows *rows
	args []driver.NamedValue // kept from one statement to the next
}

// add has a row written before the transaction's next other statement, or its end. key names
// the row where it may come twice: one that waits already, for whichever statement, is written
// first, so that the later one counts.
func (t *tx) add(r *rows, key string, args ...any) error {
	if t.keys[key] {
		if err := t.flush(); err != nil {
			return err
		}
	}
	t.keys[key] = true
	i := slices.IndexFunc(t.waiting, func(p *pending) bool { return p.rows == r })
	if i < 0 {
		i = len(t.waiting)
		t.waiting = append(t.waiting, &pending{rows: r})
	}
	p := t.waiting[i]
	for _, a := range args {
		p.args = append(p.args, driver.NamedValue{Value: value(a)})
	}
	if len(p.args) == rowCounts[0]*r.cols {
		return t.writeRows(p)
	}
	return nil
}

// value is a as a driver takes it.
func value(a any) driver.Value {
	switch a := a.(type) {
	case int:
		return int64(a)
	case State:
		return string(a)
	case Outcome:
		return string(a)
	}
	return a
}

// flush writes what waits.
func (t *tx) flush() error {
	clear(t.keys)
	for _, p := range t.waiting {
		if err := t.writeRows(p); err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) writeRows(p *pending) error {
	args := p.args
	p.args = p.args[:0]
	defer clear(args)
	for len(args) > 0 {
		i := slices.IndexFunc(rowCounts, func(n int) bool { return n*p.rows.cols <= len(args) })
		n := rowCounts[i]
		some := args[:n*p.rows.cols]
		for k := range some {
			some[k].Ordinal = k + 1
		}
		if err := t.execRaw(p.rows.text[n], some); err != nil {
			return err
		}
		args = args[len(some):]
	}
	return nil
}

// execRaw runs a statement past database/sql, which copies and converts each argument.
func (t *tx) execRaw(query string, args []driver.NamedValue) error {
	return t.conn.Raw(func(c any) error {
		ctx := context.Background()
		s := t.raw[query]
		if s == nil {
			var err error
			if s, err = c.(driver.ConnPrepareContext).PrepareContext(ctx, query); err != nil {
				return err
			}
			t.raw[query] = s
		}
		_, err := s.(driver.StmtExecContext).ExecContext(ctx, args)
		return err
	})
}

// column reads rows of one text.
func column(q querier, query string, args ...any) ([]string, error) {
	rows, err := q.Query(query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, rows.Err()
}

// set makes a set of what column read.
func set(all []string, err error) (map[string]bool, error) {
	if err != nil {
		return nil, err
	}
	m := make(map[string]bool, len(all))
	for _, s := range all {
		m[s] = true
	}
	return m, nil
}
