package history

import (
	"context"
	"time"

	"bellhop/internal/history/results"
	"bellhop/internal/history/store"
)

// A HostAct is what came of something that a person did to a host beside deploying: a push of
// its keys, a reboot.
type HostAct struct {
	Host    string
	Outcome Outcome  // done, failed
	Changed []string // as in a RunResult
	Error   string
}

// Acted stores what a person did to hosts as a run without a commit. It changes nothing that is
// remembered of the hosts themselves.
func (db *DB) Acted(ctx context.Context, s Start, outcome Outcome, errText string, hosts []HostAct) error {
	return db.write(ctx, s.Cause+" "+s.ID, func(tx *tx) error {
		now := db.clock()
		if err := insertRun(tx, s); err != nil {
			return err
		}
		for _, h := range hosts {
			took := now.Sub(s.At).Round(time.Millisecond)
			if err := tx.Add(endedResult, "result "+s.ID+" "+h.Host,
				s.ID, h.Host, "", store.Millis(s.At), store.Millis(now), h.Outcome, list(h.Changed), results.NoDetails, took.Milliseconds(), h.Error); err != nil {
				return err
			}
		}
		_, err := tx.Exec(`UPDATE runs SET finished_at = ?, outcome = ?, error = ? WHERE id = ?`, store.Millis(now), outcome, errText, s.ID)
		return err
	})
}
