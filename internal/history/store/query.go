package store

import "database/sql"

// A Querier is what both a transaction and the file can do.
type Querier interface {
	Query(string, ...any) (*sql.Rows, error)
}

// A RowQuerier can ask for one row too.
type RowQuerier interface {
	Querier
	QueryRow(string, ...any) *sql.Row
}

// Column reads rows of one text.
func Column(q Querier, query string, args ...any) ([]string, error) {
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

// Set makes a set of what Column read.
func Set(all []string, err error) (map[string]bool, error) {
	if err != nil {
		return nil, err
	}
	m := make(map[string]bool, len(all))
	for _, s := range all {
		m[s] = true
	}
	return m, nil
}
