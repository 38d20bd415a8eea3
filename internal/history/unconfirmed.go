package history

import (
	"database/sql"
	"errors"
	"fmt"
	"time"

	"bellhop/internal/history/results"
	"bellhop/internal/history/store"
)

// A PastEnd is how a bundle ended on a host before.
type PastEnd struct {
	CutOff bool           // the run was killed there, by a power cut or by whoever
	Reason results.Reason // why it was unconfirmed; "" when it was not
}

// LastEnd is how digest ended on host when something came of it there last, before run.
func (db *DB) LastEnd(host, digest, run string) (PastEnd, error) {
	var p PastEnd
	err := db.sql.QueryRow(`SELECT coalesce(json_extract(details, '$.cut_off'), 0), coalesce(json_extract(details, '$.reason'), '') FROM results
		WHERE host = ? AND digest = ? AND run <> ? AND begun_at > 0 AND outcome NOT IN ('', ?, ?, ?) ORDER BY ended_at DESC LIMIT 1`,
		host, digest, run, OutcomePending, OutcomeUnknown, OutcomeCancelled).Scan(&p.CutOff, &p.Reason)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return p, fmt.Errorf("read the results of %s: %w", host, err)
	}
	return p, nil
}

// saveReason writes why h is unconfirmed, where that is another reason than before. It is called inside
// write.
func saveReason(tx *tx, old, h Host) error {
	if old.Reason == h.Reason && old.ReasonAt.Equal(h.ReasonAt) {
		return nil
	}
	query, args := `DELETE FROM unconfirmed WHERE host = ?`, []any{h.Name}
	if h.Reason != "" {
		query, args = `INSERT OR REPLACE INTO unconfirmed(host, reason, at) VALUES(?,?,?)`, append(args, string(h.Reason), store.Millis(h.ReasonAt))
	}
	_, err := tx.Exec(query, args...)
	return err
}

// readReasons gives unconfirmed hosts their reasons.
func readReasons(q store.Querier, hosts map[string]Host) error {
	rows, err := q.Query(`SELECT host, reason, at FROM unconfirmed`)
	if err != nil {
		return err
	}
	defer rows.Close()

	for rows.Next() {
		var name string
		var reason results.Reason
		var at int64
		if err := rows.Scan(&name, &reason, &at); err != nil {
			return err
		}
		if h, ok := hosts[name]; ok {
			h.Reason, h.ReasonAt = reason, store.Time(at)
			hosts[name] = h
		}
	}
	return rows.Err()
}

// withReason is h with the reason, since now unless it was unconfirmed before. In any other state it
// has none.
func (h Host) withReason(reason results.Reason, now time.Time) Host {
	switch {
	case h.State != Unconfirmed || reason == "":
		h.Reason, h.ReasonAt = "", time.Time{}
	case h.ReasonAt.IsZero() || h.Reason != reason:
		h.Reason, h.ReasonAt = reason, now.UTC().Truncate(time.Millisecond)
	}
	return h
}
