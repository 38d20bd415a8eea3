package history

import (
	"errors"
	"slices"
	"time"

	"bellhop/internal/history/store"
)

// What came of a run follows from what came of its hosts. A slow host may end after its run did:
// then the run is judged again, so that it never says of a host what is not true any more. A run
// that ended by an error of its own, or was cancelled, stays as it was.

// judge is the outcome of a run by its hosts. One that is still at work counts for nothing yet.
func (tx *tx) judge(run string) (Outcome, error) {
	rows, err := tx.Query(`SELECT outcome, count(*), count(nullif(begun_at, 0)) FROM results WHERE run = ? GROUP BY outcome`, run)
	if err != nil {
		return "", err
	}
	defer rows.Close()
	var good, refused, bad, stopped, away int
	for rows.Next() {
		var outcome Outcome
		var n, begun int
		if err := rows.Scan(&outcome, &n, &begun); err != nil {
			return "", err
		}

		switch outcome {
		case OutcomeNothing, Deploying.Outcome(), Held.Outcome(), "":
		case OutcomePending:
			away = n
		case OutcomeDone:
			good += n
		case OutcomeRefused:
			refused += n
		case OutcomeCancelled:
			stopped += n
		case OutcomeHeldBack: // of those that were pushed, some services were brought
			good, bad = good+begun, bad+n
		default:
			bad += n
		}
	}

	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return "", err
	}

	if away > 0 {
		excused, err := tx.excused(run)
		if err != nil {
			return "", err
		}

		bad += away - excused
	}

	return outcomeOf(good, refused, bad, stopped), nil
}

// excused counts the hosts that a run could not reach and that are expected to be there at times only.
func (tx *tx) excused(run string) (n int, err error) {
	hosts, err := store.Column(tx, `SELECT host FROM results WHERE run = ? AND outcome = ?`, run, OutcomePending)
	for _, host := range hosts {
		if tx.db.mem.hosts[host].Reach.Sometimes {
			n++
		}
	}
	return n, err
}

func outcomeOf(good, refused, bad, stopped int) Outcome {
	switch {
	case stopped > 0:
		return OutcomeCancelled
	case bad+refused == 0 && good == 0:
		return OutcomeNothing
	case bad+refused == 0:
		return OutcomeDone
	case good > 0:
		return OutcomePartial
	case bad == 0:
		return OutcomeRefused
	}
	return OutcomeFailed
}

// judgeLate judges those of runs again that ended before one of their hosts did.
func (tx *tx) judgeLate(runs []string, now time.Time) error {
	for i, run := range runs {
		if tx.db.mem.runs.Unfinished[run] || slices.Contains(runs[:i], run) {
			continue
		}
		if err := tx.judgeAgain(run, now); err != nil {
			return err
		}
	}
	return nil
}

// judgeAgain judges one run, and queues a message when its outcome changed. A run that was cancelled stays so, unless
// all of its hosts were begun by then, went on by themselves, and have ended: what came of them is what came of the run. So
// ends a run that replaced the deployer itself.
func (tx *tx) judgeAgain(run string, now time.Time) error {
	outcome, err := tx.judge(run)
	if err != nil {
		return err
	}

	rows, err := tx.Query(`UPDATE runs SET outcome = ?1 WHERE id = ?2 AND finished_at > 0 AND error = '' AND outcome <> ?1
		AND (outcome <> ?3 OR NOT EXISTS (SELECT 1 FROM json_each(planned) WHERE value NOT IN (SELECT host FROM results WHERE run = ?2 AND outcome <> '')))
		RETURNING commit_id`,
		outcome, run, OutcomeCancelled)
	if err != nil {
		return err
	}
	defer rows.Close()
	m := Message{At: now, Kind: "run", Run: run, Now: string(outcome), Untold: true}
	if !rows.Next() {
		return rows.Err()
	}
	if err := errors.Join(rows.Scan(&m.Commit), rows.Close()); err != nil {
		return err
	}

	tx.db.queue(m)
	return nil
}
