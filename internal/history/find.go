package history

import (
	"context"
	"encoding/json"
	"errors"
	"time"
)

// A RunFilter chooses runs. What is zero chooses all.
type RunFilter struct {
	Limit    int       // at most so many, the newest; 0: 50
	Hosts    []string  // runs that list one of them
	Since    time.Time // runs that began then or later
	Outcomes []Outcome // runs that ended so, or did on a host; with Hosts, on one of these
}

// Find reads the runs that f chooses, newest first.
func (db *DB) Find(ctx context.Context, f RunFilter) (History, error) {
	hosts, err := json.Marshal(append([]string{}, f.Hosts...))
	outcomes, err2 := json.Marshal(append([]Outcome{}, f.Outcomes...))
	if err := errors.Join(err, err2); err != nil {
		return History{}, err
	}

	since := int64(0)
	if !f.Since.IsZero() {
		since = f.Since.UnixMilli()
	}

	limit := f.Limit
	if limit <= 0 {
		limit = 50
	}

	return db.runs(ctx, `WHERE started_at >= ?2
		AND (?3 = '[]'
			OR EXISTS(SELECT 1 FROM results r WHERE r.run = runs.id AND r.host IN (SELECT value FROM json_each(?3)))
			OR EXISTS(SELECT 1 FROM json_each(planned) WHERE value IN (SELECT value FROM json_each(?3))))
		AND (?4 = '[]'
			OR ?3 = '[]' AND outcome IN (SELECT value FROM json_each(?4))
			OR EXISTS(SELECT 1 FROM results r WHERE r.run = runs.id AND r.outcome IN (SELECT value FROM json_each(?4))
				AND (?3 = '[]' OR r.host IN (SELECT value FROM json_each(?3)))))
		ORDER BY seq DESC LIMIT ?1`, limit, since, string(hosts), string(outcomes))
}
