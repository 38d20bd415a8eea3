package history

import (
	"context"
	"errors"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/history/looks"
	"bellhop/internal/history/null"
)

// Looks is what is remembered of looks at hosts.
type Looks struct{ db *DB }

// Looks hands it out.
func (db *DB) Looks() Looks { return Looks{db} }

// Last is what the last look at a host found; ok is false when there was none.
func (l Looks) Last(host string) (_ looks.Look, ok bool) {
	l.db.mu.Lock()
	defer l.db.mu.Unlock()
	return l.db.mem.looks.Find(host)
}

// Store remembers what a look found on a host, and that the host was heard. A host that is not known
// is no error and nothing happens.
func (l Looks) Store(ctx context.Context, host string, look looks.Look) error {
	look.At = look.At.UTC().Truncate(time.Millisecond)
	return l.db.write(ctx, "the look at "+host, func(tx *tx) error {
		h, known := l.db.mem.hosts[host]
		if !known {
			return nil
		}
		if err := tx.saveLook(host, look); err != nil {
			return err
		}
		return tx.saveContact(host, h.contacted(false, l.db.clock()))
	})
}

// saveLook remembers what a look found.
func (tx *tx) saveLook(host string, look looks.Look) error {
	was, has := tx.db.mem.looks.Find(host)
	if has && was.Equal(look) {
		return nil
	}
	tx.queueDrift(host, was, look)
	return tx.db.mem.looks.Set(tx.Tx, host, look)
}

// queueDrift tells people that something on a host differs from what was deployed, or that nothing does any more.
func (tx *tx) queueDrift(host string, was, now looks.Look) {
	m := Message{At: now.At, Kind: "drift", Host: host}
	switch {
	case was.Drifted == 0 && now.Drifted > 0:
		m.Now, m.Error = NowDrifted, now.DriftText()
	case was.Drifted > 0 && now.Drifted == 0 && !now.Unknown:
		m.Now = NowClean
	default:
		return
	}
	tx.db.queue(m)
}

// endLook brings the last look in step with what came of a push: what was edited on the host is put
// back, what was restarted runs. The next look says the rest.
func (tx *tx) endLook(host string, e End) error {
	if !e.Stood() {
		return nil
	}

	look, wasLookedAt := tx.db.mem.looks.Find(host)
	res, said := e.Details.(*bundle.Result)
	isFirst := !wasLookedAt || look.IsOfRun() || look.Unknown
	if isFirst && said {
		return tx.firstUnits(host, res)
	}
	if isFirst {
		return nil
	}

	look = look.AfterRun(e.Outcome == OutcomeNothing)
	if said {
		look = look.With(res)
	}
	return tx.saveLook(host, look)
}

// firstUnits remembers what a run said of units at its end, on a host of which no look told any.
func (tx *tx) firstUnits(host string, res *bundle.Result) error {
	look, ok := looks.OfRun(res)
	if !ok {
		return nil
	}
	return tx.saveLook(host, look)
}

// renameLook gives new what is remembered of old.
func (tx *tx) renameLook(old, new string) error {
	look, ok := tx.db.mem.looks.Find(old)
	if !ok {
		return tx.db.mem.looks.Drop(tx.Tx, new)
	}
	return errors.Join(tx.saveLook(new, look), tx.db.mem.looks.Drop(tx.Tx, old))
}

// show adds what a look found to a host's status.
func (s *HostStatus) show(look looks.Look) {
	s.LookedAt = null.Time(look.At)
	if look.Unknown || look.IsOfRun() && look.HasFailed() { // why units failed is told by a look alone
		return
	}
	s.Units = &looks.UnitStatus{Running: look.Running, Failed: append([]looks.FailedUnit{}, look.Failed...)}
	if !look.IsOfRun() {
		s.Drift, s.RebootRequired = &look.Drifted, &look.RebootRequired
	}
}
