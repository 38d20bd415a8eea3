package history

import (
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

// A pending is what waits for one statement.
type pending struct {
	rows *rows
	args []any
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
	if key != "" {
		t.keys[key] = true
	}
	i := slices.IndexFunc(t.waiting, func(p *pending) bool { return p.rows == r })
	if i < 0 {
		i = len(t.waiting)
		t.waiting = append(t.waiting, &pending{rows: r})
	}
	t.waiting[i].args = append(t.waiting[i].args, args...)
	return nil
}

// flush writes what waits.
func (t *tx) flush() error {
	waiting := t.waiting
	t.waiting = nil
	clear(t.keys)
	for _, p := range waiting {
		for _, n := range rowCounts {
			for size := n * p.rows.cols; len(p.args) >= size; p.args = p.args[size:] {
				if _, err := t.exec(p.rows.text[n], p.args[:size]...); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
