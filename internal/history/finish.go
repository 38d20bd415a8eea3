package history

import (
	"context"
	"errors"
	"time"

	"bellhop/internal/history/deliveries"
	"bellhop/internal/history/store"
)

// FinishRun stores a run's outcome; "" has it follow from what came of its hosts. A run that was
// never planned, as when the repo can't be read, is stored whole.
func (db *DB) FinishRun(ctx context.Context, s Start, outcome Outcome, errText string) error {
	return db.write(ctx, "the end of run "+s.ID, func(tx *tx) error {
		now := db.clock()
		if err := insertRun(tx, s); err != nil {
			return err
		}

		outcome := outcome // f may run twice
		if outcome == "" {
			var err error
			if outcome, err = tx.judge(s.ID); err != nil {
				return err
			}
		}

		left := db.mem.runs.Finish(s.ID)
		if _, err := tx.Exec(`UPDATE runs SET finished_at = ?, outcome = ?, error = ?, planned = ? WHERE id = ?`, store.Millis(now), outcome, errText, list(left), s.ID); err != nil {
			return err
		}

		tx.db.queue(Message{At: now, Kind: "run", Run: s.ID, Now: string(outcome), Commit: s.Commit, Error: errText, Untold: s.Untold})
		return tx.prune(now)
	})
}

// prune drops what is too old to keep: runs that ended everywhere, deliveries, and messages.
func (tx *tx) prune(now time.Time) error {
	old := now.AddDate(0, 0, -keepDays)
	runs, err := store.Column(tx, `SELECT id FROM runs WHERE finished_at > 0 AND (max(started_at, finished_at) < ? OR seq <= (SELECT max(seq) FROM runs) - ?)`, store.Millis(old), keepRuns)
	if err != nil {
		return err
	}
	for _, run := range runs {
		if len(tx.db.mem.runs.HostsIn(run)) > 0 {
			continue
		}
		for _, q := range []string{`DELETE FROM results WHERE run = ?`, `DELETE FROM evidence WHERE run = ?`, `DELETE FROM runs WHERE id = ?`} {
			if _, err := tx.Exec(q, run); err != nil {
				return err
			}
		}
	}
	return errors.Join(tx.db.outbox.Prune(tx.Tx), deliveries.Prune(tx.Tx, old))
}

// Recover is called once by the process that has the lock, before its first run: hosts that
// an earlier process began are unknown, its runs ended without a word. It returns the hosts
// to be asked, oldest first.
func (db *DB) Recover(ctx context.Context) ([]Interrupted, error) {
	var open []Interrupted
	err := db.write(ctx, "what was left open", func(tx *tx) error {
		var err error
		if open, err = db.mem.runs.Interrupted(tx.Tx); err != nil {
			return err
		}

		for _, o := range open {
			h, ok := db.mem.hosts[o.Host]
			if !ok || h.State == Released {
				continue
			}
			if h.Follows {
				h.Commit, h.Follows = db.mem.top, false
			}

			// Nor is it known what the host holds: until it says so, it equals nothing wanted.
			h.Digest = ""
			h.State, h.Run, h.Error = Unknown, o.Run, "bellhop stopped while run "+o.Run+" was at work there"
			if err := tx.saveHost(h); err != nil {
				return err
			}
		}

		_, err = tx.Exec(`UPDATE runs SET finished_at = ?, outcome = ?, error = 'bellhop stopped while it ran' WHERE finished_at = 0`, store.Millis(db.clock()), OutcomeCancelled)
		db.mem.runs.Forget()
		return err
	})
	return open, err
}
