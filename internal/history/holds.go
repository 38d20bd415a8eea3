package history

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"bellhop/internal/history/openruns"
	"bellhop/internal/history/stops"
)

// Holds is the part of a history that knows which hosts are held. A hold begins and ends with a plan:
// see Planned.
type Holds struct{ db *DB }

// Holds is what db remembers of held hosts.
func (db *DB) Holds() Holds { return Holds{db} }

// Of is the hold of a host; nil when it is not held. The caller changes nothing in it.
func (h Holds) Of(host string) *stops.Hold {
	h.db.mu.Lock()
	defer h.db.mu.Unlock()
	return h.db.mem.holds.Of(host)
}

// ErrNothingHeld says that history does not know what a host held after a run.
var ErrNothingHeld = errors.New("nothing is known")

// ErrNotOver says that a run is still at work.
var ErrNotOver = errors.New("it is not over")

// A Past is what a host held at some time.
type Past struct {
	Digest string
	Commit string // of the run that brought it, "" when that run had none
}

// After is what a host held after a run: what the run brought, or else what an earlier one had. ErrNoRun,
// ErrNotOver and ErrNothingHeld say why it can't be told.
func (h Holds) After(ctx context.Context, run, host string) (p Past, err error) {
	err = h.db.read(ctx, func(tx *sql.Tx) error {
		ended, err := endOf(tx, run, host, h.isOpen(run, host))
		if err != nil {
			return err
		}

		row := tx.QueryRow(`SELECT r.digest, runs.commit_id FROM results r JOIN runs ON runs.id = r.run
			WHERE r.host = ?1 AND r.ended_at <= ?2 AND r.digest <> '' AND (r.outcome IN (?3, ?4) OR r.outcome = ?5 AND r.begun_at > 0)
			ORDER BY r.ended_at DESC, runs.seq DESC LIMIT 1`, host, ended, OutcomeDone, OutcomeNothing, OutcomeHeldBack)
		if err = row.Scan(&p.Digest, &p.Commit); errors.Is(err, sql.ErrNoRows) {
			return ErrNothingHeld
		}
		return err
	})
	if err != nil {
		return Past{}, fmt.Errorf("what %s held after run %s: %w", host, run, err)
	}
	return p, nil
}

// isOpen says whether a run is still to end on a host.
func (h Holds) isOpen(run, host string) bool {
	h.db.mu.Lock()
	defer h.db.mu.Unlock()
	isAtWork := slices.ContainsFunc(h.db.mem.runs.Of(host), func(o openruns.Run) bool { return o.Run == run })
	return isAtWork || h.db.mem.runs.Planned[run][host]
}

// endOf is when a run ended on a host, in Unix milliseconds; of a host that it was not about, or that it never came
// to, when it ended as a whole.
func endOf(tx *sql.Tx, run, host string, isOpen bool) (at int64, err error) {
	err = tx.QueryRow(`SELECT finished_at FROM runs WHERE id = ?`, run).Scan(&at)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, ErrNoRun
	} else if err != nil {
		return 0, err
	}

	var ended int64
	err = tx.QueryRow(`SELECT ended_at FROM results WHERE run = ? AND host = ?`, run, host).Scan(&ended)
	switch {
	case err == nil:
		return ended, nil
	case !errors.Is(err, sql.ErrNoRows):
		return 0, err
	case at == 0 || isOpen:
		return 0, ErrNotOver
	}
	return at, nil
}

// planHold begins or ends the hold of a host with a plan of it. On another machine nothing is held.
func (tx *tx) planHold(p Planned, elsewhere bool) error {
	switch {
	case p.Hold != nil:
		return tx.db.mem.holds.Set(tx.Tx, p.Name, p.Hold)
	case p.Resumes || elsewhere:
		return tx.db.mem.holds.Drop(tx.Tx, p.Name)
	}
	return nil
}

// stands is the digest that the result of a host has which is not pushed: of what is wanted, or of what it is held to
// and holds already.
func (p Planned) stands() string {
	if p.Hold != nil && p.Outcome == OutcomeNothing {
		return p.Hold.Digest
	}
	return p.Wanted
}

// End ends the holds of hosts, of which each waits for a plan from then on, by why: what failed on it before
// is tried again, and where a run stopped before it, it is begun.
func (h Holds) End(ctx context.Context, hosts []string, why string) error {
	return h.db.write(ctx, "the end of holds", func(tx *tx) error {
		for _, name := range hosts {
			host, known := h.db.mem.hosts[name]
			if !known || h.db.mem.holds.Of(name) == nil {
				continue
			}

			_, err := tx.Exec(`DELETE FROM failures WHERE host = ?`, name)
			if err := errors.Join(err, h.db.mem.services.TryAgain(tx.Tx, name)); err != nil {
				return err
			}

			delete(h.db.mem.failing, name)
			if host.Error = why; host.State == Held {
				host.State = Behind
			}
			if err := errors.Join(h.db.mem.holds.Drop(tx.Tx, name), h.db.mem.stopped.Drop(tx.Tx, name), tx.saveHost(host)); err != nil {
				return err
			}
		}
		return nil
	})
}

// TakeBack ends the hold that run began, where it holds still: the host was not brought back. former, unless
// it is nil, holds the host again. why is what the status says of it.
func (h Holds) TakeBack(ctx context.Context, host, run string, former *stops.Hold, why string) error {
	return h.db.write(ctx, "the end of the hold of "+host, func(tx *tx) error {
		now, known := h.db.mem.holds.Of(host), h.db.mem.hosts[host]
		if now == nil || now.Run != run {
			return nil
		}
		if err := tx.holdAgain(host, former); err != nil {
			return err
		}

		known.Error = why
		isAsWanted := known.Digest != "" && known.Digest == known.Wanted
		switch {
		case known.State == Pending || known.State == Unknown || known.State == Deploying:
		case former != nil && known.Digest == former.Digest:
			known.State = Held
		case former == nil && isAsWanted:
			known.State, known.Follows, known.Commit = Current, true, ""
		case former == nil && known.State.IsInVain(): // the rollback did not begin it
		default:
			known.State = Behind
		}

		if known.Name == "" {
			return nil
		}

		return tx.saveHost(known)
	})
}

// holdAgain gives a host the hold that it had before; nil for none.
func (tx *tx) holdAgain(host string, former *stops.Hold) error {
	if former == nil {
		return tx.db.mem.holds.Drop(tx.Tx, host)
	}
	return tx.db.mem.holds.Set(tx.Tx, host, former)
}

// renameHold gives new the hold of old.
func (tx *tx) renameHold(old, new string) error {
	hold, ok := tx.db.mem.holds.Find(old)
	if !ok {
		return tx.db.mem.holds.Drop(tx.Tx, new)
	}

	moved := *hold
	moved.Host = cmp.Or(hold.Host, old)
	return errors.Join(tx.db.mem.holds.Set(tx.Tx, new, &moved), tx.db.mem.holds.Drop(tx.Tx, old))
}

// asHeld is h after a push that ended as e, where the host is held. What the head wants is not what it is
// to hold: it is not current, and it is at rest once it holds what the hold names.
func (m *memory) asHeld(h Host, e End) Host {
	hold := m.holds.Of(h.Name)
	if hold == nil || !e.Stood() {
		return h
	}

	h.Follows, h.State = false, Behind
	h.Commit = e.Commit
	if h.Digest == hold.Digest {
		h.State = Held
	}
	return h
}
