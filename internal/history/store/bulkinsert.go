package store

import (
	"context"
	"database/sql/driver"
	"reflect"
	"slices"
	"strings"
)

// A table's rows that are written often wait within a transaction and go in by one statement for
// many: each statement costs several times what its row does, and a fleet's push ends on hundreds
// of hosts in one transaction.

// Rows is a statement for one row or many of them.
type Rows struct {
	head string // up to the rows
	cols int
	tail string // after them
	text map[int]string
}

// NewRows is a statement for rows of cols columns: head is its text up to the rows, tail that after them.
func NewRows(head string, cols int, tail string) *Rows {
	r := &Rows{head: head, cols: cols, tail: tail, text: map[int]string{}}
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
	rows *Rows
	args []driver.NamedValue // kept from one statement to the next
}

// Add has a row written before the transaction's next other statement, or its end. key names
// the row where it may come twice: one that waits already, for whichever statement, is written
// first, so that the later one counts.
func (t *Tx) Add(r *Rows, key string, args ...any) error {
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
	case string, int64, bool, []byte, nil:
		return a
	case int:
		return int64(a)
	}

	if v := reflect.ValueOf(a); v.Kind() == reflect.String { // a type of the caller's
		return v.String()
	}
	return a
}

// flush writes what waits.
func (t *Tx) flush() error {
	clear(t.keys)
	for _, p := range t.waiting {
		if err := t.writeRows(p); err != nil {
			return err
		}
	}
	return nil
}

func (t *Tx) writeRows(p *pending) error {
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
func (t *Tx) execRaw(query string, args []driver.NamedValue) error {
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
