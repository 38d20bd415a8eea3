package history

import (
	"context"
	"errors"
	"slices"
	"time"

	"bellhop/internal/history/services"
)

// Services is the state of single services of a host, where it differs from that of the host.
func (db *DB) Services(host string) []services.Status {
	db.mu.Lock()
	defer db.mu.Unlock()
	return slices.Clone(db.mem.services.Of(host))
}

// planServices stores the states of services that a plan of their host gives them. It is called inside
// write, as endServices is.
func (tx *tx) planServices(p Planned) error {
	switch {
	case p.Services != nil:
		return tx.db.mem.services.Set(tx.Tx, p.Name, p.Services)
	case p.Follows:
		return tx.db.mem.services.Set(tx.Tx, p.Name, nil)
	}
	return nil
}

// endServices stores the states of services after a push, and which of them failed.
func (tx *tx) endServices(run, host string, e End, now time.Time) error {
	isWhole := e.Stood() && e.Outcome != OutcomeHeldBack
	if e.Services != nil || isWhole {
		if err := tx.db.mem.services.Set(tx.Tx, host, e.Services); err != nil {
			return err
		}
	}

	return errors.Join(tx.db.mem.services.Mend(tx.Tx, host, e.Mended), tx.db.mem.services.Fail(tx.Tx, run, host, e.FailedServices, now))
}

// ServicesFailed remembers that services failed in a run that goes on without them.
func (db *DB) ServicesFailed(ctx context.Context, run, host string, failed []services.Failure) error {
	return db.write(ctx, "the failed services of "+host, func(tx *tx) error {
		return db.mem.services.Fail(tx.Tx, run, host, failed, db.clock())
	})
}

// FailedServices returns every failure of a service that is remembered, by host.
func (db *DB) FailedServices(ctx context.Context) (map[string][]services.Failure, error) {
	return services.Failures(ctx, db.sql)
}
