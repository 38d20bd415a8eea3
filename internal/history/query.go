package history

import "database/sql"

// querier is what both a transaction and the file can do.
type querier interface {
	Query(string, ...any) (*sql.Rows, error)
}

// rowQuerier can ask for one row too.
type rowQuerier interface {
	querier
	QueryRow(string, ...any) *sql.Row
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
