// Package hosttable keeps one value of each host: as a row of a table, and in memory.
//
// A Layout says how a value is stored. Most hosts have none. A change is made inside a transaction,
// in the file and in memory alike; when the transaction fails, the table is read again.
package hosttable

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"bellhop/internal/history/store"
)

// A Layout is how a value of type T is stored.
type Layout[T any] struct {
	Table   string   // its first column is host
	Columns []string // the others
	// Values are what is stored in Columns.
	Values func(v T) ([]any, error)
	// Scan reads a value: scan takes a pointer for each of Columns.
	Scan func(scan func(dest ...any) error) (T, error)
	// Equal says that a need not be written where b is stored. Nil: each value is written.
	Equal func(a, b T) bool
}

// JSON is the layout of values that are one column of JSON. what says in an error what such a value is.
func JSON[T any](table, column, what string, equal func(a, b T) bool) Layout[T] {
	return Layout[T]{
		Table: table, Columns: []string{column}, Equal: equal,
		Values: func(v T) ([]any, error) {
			p, err := json.Marshal(v)
			return []any{string(p)}, err
		},
		Scan: func(scan func(dest ...any) error) (v T, err error) {
			var p []byte
			if err := scan(&p); err != nil {
				return v, err
			}
			if err := json.Unmarshal(p, &v); err != nil {
				return v, fmt.Errorf("%s: %w", what, err)
			}

			return v, nil
		},
	}
}

// A Table has the values by host. Its caller serializes the calls.
type Table[T any] struct {
	layout Layout[T]
	byHost map[string]T
	save   string // statements
	drop   string
}

// New is a table in which no host has a value.
func New[T any](l Layout[T]) *Table[T] {
	columns := strings.Join(append([]string{"host"}, l.Columns...), ", ")
	return &Table[T]{
		layout: l, byHost: map[string]T{},
		save: `INSERT OR REPLACE INTO ` + l.Table + `(` + columns + `) VALUES(?` + strings.Repeat(`, ?`, len(l.Columns)) + `)`,
		drop: `DELETE FROM ` + l.Table + ` WHERE host = ?`,
	}
}

// Read reads the table from the file.
func Read[T any](q store.Querier, l Layout[T]) (*Table[T], error) {
	rows, err := q.Query(`SELECT host, ` + strings.Join(l.Columns, ", ") + ` FROM ` + l.Table)
	if err != nil {
		return nil, err
	}
	defer rows.Close()

	t := New(l)
	for rows.Next() {
		var host string
		v, err := l.Scan(func(dest ...any) error { return rows.Scan(append([]any{&host}, dest...)...) })
		if err != nil {
			return nil, fmt.Errorf("%s of host %s: %w", l.Table, host, err)
		}

		t.byHost[host] = v
	}

	return t, rows.Err()
}

// Of is the value of a host; the zero value where it has none.
func (t *Table[T]) Of(host string) T { return t.byHost[host] }

// Find is Of, and says whether the host has a value.
func (t *Table[T]) Find(host string) (v T, ok bool) {
	v, ok = t.byHost[host]
	return v, ok
}

// All are the values by host. The caller changes nothing in the map.
func (t *Table[T]) All() map[string]T { return t.byHost }

// Set gives a host the value v. It is called inside a transaction, as the rest below is.
func (t *Table[T]) Set(tx *store.Tx, host string, v T) error {
	was, has := t.byHost[host]
	if has && t.layout.Equal != nil && t.layout.Equal(v, was) {
		return nil
	}

	values, err := t.layout.Values(v)
	if err != nil {
		return err
	}
	t.byHost[host] = v
	_, err = tx.Exec(t.save, append([]any{host}, values...)...)
	return err
}

// Drop takes the value of a host away.
func (t *Table[T]) Drop(tx *store.Tx, host string) error {
	if _, has := t.byHost[host]; !has {
		return nil
	}
	delete(t.byHost, host)
	_, err := tx.Exec(t.drop, host)
	return err
}

// Rename gives the host new what old has, which may be nothing.
func (t *Table[T]) Rename(tx *store.Tx, old, new string) error {
	v, has := t.byHost[old]
	if !has {
		return t.Drop(tx, new)
	}
	return errors.Join(t.Set(tx, new, v), t.Drop(tx, old))
}
