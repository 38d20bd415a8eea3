package history

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/history/openruns"
	"bellhop/internal/history/results"
	"bellhop/internal/history/store"
)

// A push whose end was not heard may have ended on its host any way. What the host needs to hear to tell it
// is kept with the result, as its details.

type lostRun struct {
	As      string          `json:"as,omitempty"`
	Origins []bundle.Origin `json:"origins,omitempty"`
}

// lostDetails are the details of a result of o that was not heard.
func lostDetails(o openruns.Run) string {
	if o.As == "" && len(o.Origins) == 0 {
		return results.NoDetails
	}
	p, err := json.Marshal(lostRun{o.As, o.Origins})
	if err != nil {
		panic(err) // plain strings always encode
	}
	return string(p)
}

// openIn is what the host is open in as run.
func (tx *tx) openIn(run, host string) (openruns.Run, bool) {
	open := tx.db.mem.runs.Of(host)
	i := slices.IndexFunc(open, func(o openruns.Run) bool { return o.Run == run })
	if i < 0 {
		return openruns.Run{}, false
	}
	return open[i], true
}

// A LostPush is a push whose end was not heard.
type LostPush struct {
	Interrupted
	At time.Time // when that was given up
}

// Lost is the newest push to a host, where its end was not heard; ok is false where it was.
func (db *DB) Lost(ctx context.Context, host string) (lost LostPush, ok bool, err error) {
	var details string
	var outcome Outcome
	var begun, ended int64
	lost.Host = host
	err = db.sql.QueryRowContext(ctx, `SELECT r.run, r.digest, r.details, r.begun_at, r.ended_at, r.outcome, runs.commit_id FROM results r JOIN runs ON runs.id = r.run
		WHERE r.host = ? AND r.begun_at > 0 ORDER BY r.ended_at DESC, runs.seq DESC LIMIT 1`, host).
		Scan(&lost.Run, &lost.Digest, &details, &begun, &ended, &outcome, &lost.Commit)
	if errors.Is(err, sql.ErrNoRows) || err == nil && outcome != OutcomeUnknown {
		return LostPush{}, false, nil
	}

	var its lostRun
	if err == nil {
		err = json.Unmarshal([]byte(details), &its)
	}
	if err != nil {
		return LostPush{}, false, fmt.Errorf("read what was lost on %s: %w", host, err)
	}

	lost.As, lost.Origins, lost.BegunAt = its.As, its.Origins, store.Time(begun)
	lost.At = store.Time(ended)
	if lost.As == "" {
		lost.As = lost.Run
	}

	return lost, true, nil
}

// LostAnywhere is the newest push to any host, of a bundle that isIt accepts, of which the end was not heard, or is not
// heard yet; one without a digest where there is none. A host may hold what it brought and have another name since.
func (db *DB) LostAnywhere(ctx context.Context, isIt func(digest string) bool) (lost Interrupted, err error) {
	open, err := db.interrupted()
	if err != nil {
		return Interrupted{}, err
	}
	for _, o := range slices.Backward(open) {
		if isIt(o.Digest) {
			return o, nil
		}
	}

	rows, err := db.sql.QueryContext(ctx, `SELECT r.run, r.host, r.digest, r.details, runs.commit_id FROM results r JOIN runs ON runs.id = r.run
		WHERE r.outcome = ? AND r.begun_at > 0 ORDER BY r.ended_at DESC, runs.seq DESC`, OutcomeUnknown)
	if err != nil {
		return Interrupted{}, fmt.Errorf("read what was lost: %w", err)
	}
	defer rows.Close()

	for rows.Next() {
		var details string
		var its lostRun
		err := rows.Scan(&lost.Run, &lost.Host, &lost.Digest, &details, &lost.Commit)
		if err == nil && !isIt(lost.Digest) {
			continue
		}
		if err == nil {
			err = json.Unmarshal([]byte(details), &its)
		}
		if err != nil {
			return Interrupted{}, fmt.Errorf("read what was lost: %w", err)
		}
		lost.As, lost.Origins = cmp.Or(its.As, lost.Run), its.Origins
		return lost, nil
	}
	return Interrupted{}, rows.Err()
}

// interrupted lists what hosts are open in, the oldest first.
func (db *DB) interrupted() ([]Interrupted, error) {
	db.mu.Lock()
	defer db.mu.Unlock()
	return db.mem.runs.Interrupted(db.sql)
}

// Found stores what came of a push whose end was not heard when it came, on a host that was left alone
// since: what is planned for the host stays as it is.
func (db *DB) Found(ctx context.Context, run, host string, e End) error {
	return db.write(ctx, "what was found of run "+run+" on "+host, func(tx *tx) error {
		h, known := db.mem.hosts[host]
		if !known {
			return nil
		}

		now := db.clock()
		if err := tx.saveResult(run, host, e, now); err != nil {
			return err
		}
		if err := tx.saveStanding(run, &h, e, now); err != nil {
			return err
		}
		if err := db.mem.services.Fail(tx.Tx, run, host, e.FailedServices, now); err != nil {
			return err
		}

		tx.db.queue(Message{At: now, Kind: "host", Run: run, Host: host, Was: Unknown, Now: string(h.State), Commit: e.Commit, Error: e.Error, Reason: e.Reason})
		return tx.judgeLate([]string{run}, now)
	})
}

// GiveUp ends all that a host which left the repo is open in with the outcome unknown, since it can't be asked
// and no run will. Any other host is left as it is: its next push hears what came of it.
func (db *DB) GiveUp(ctx context.Context, host string) error {
	return db.write(ctx, "that "+host+" is asked no more", func(tx *tx) error {
		if h := db.mem.hosts[host]; h.State != Released {
			return nil
		}

		now := db.clock()
		var runs []string
		for _, o := range db.mem.runs.Of(host) {
			runs = append(runs, o.Run)
		}
		if err := tx.giveUp(host, now); err != nil {
			return err
		}
		return tx.judgeLate(runs, now)
	})
}
