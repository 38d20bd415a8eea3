package services

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"bellhop/internal/history/hosttable"
	"bellhop/internal/history/store"
)

// A Set is the services of all hosts that are not as their host is. Its caller serializes the calls.
type Set struct {
	states *hosttable.Table[[]Status] // of hosts that have such services
}

// stored is how the states are stored.
func stored() hosttable.Layout[[]Status] {
	return hosttable.JSON("host_services", "services", "services", func(a, b []Status) bool { return slices.EqualFunc(a, b, Status.equal) })
}

// NewSet is a set without a service.
func NewSet() *Set { return &Set{hosttable.New(stored())} }

// Read reads the set from the file.
func Read(q store.Querier) (*Set, error) {
	states, err := hosttable.Read(q, stored())
	return &Set{states}, err
}

// Of are the services of a host whose state is not that of the host. The caller changes nothing in the list.
func (s *Set) Of(host string) []Status { return s.states.Of(host) }

// Set stores the services of a host; none drops what was there. It is called inside a transaction, as the
// rest below is.
func (s *Set) Set(tx *store.Tx, host string, all []Status) error {
	if len(all) == 0 {
		return s.states.Drop(tx, host)
	}
	return s.states.Set(tx, host, slices.Clone(all))
}

// Fail remembers that services failed on a host in a run.
func (s *Set) Fail(tx *store.Tx, run, host string, failed []Failure, now time.Time) error {
	for _, f := range failed {
		if _, err := tx.Exec(`INSERT OR REPLACE INTO failed_services(host, service, digest, run, error, at) VALUES(?,?,?,?,?,?)`,
			host, f.Service, f.Digest, run, f.Error, store.Millis(now)); err != nil {
			return err
		}
	}
	if len(failed) == 0 {
		return nil
	}
	_, err := tx.Exec(`DELETE FROM failed_services WHERE host = ?1 AND (service, digest) NOT IN
		(SELECT service, digest FROM failed_services WHERE host = ?1 ORDER BY at DESC LIMIT ?2)`, host, keepFailures)
	return err
}

// Mend forgets failures of a host that holds these services now.
func (s *Set) Mend(tx *store.Tx, host string, mended []Failure) error {
	for _, f := range mended {
		if _, err := tx.Exec(`DELETE FROM failed_services WHERE host = ? AND service = ? AND digest = ?`, host, f.Service, f.Digest); err != nil {
			return err
		}
	}
	return nil
}

// TryAgain forgets all failures of a host.
func (s *Set) TryAgain(tx *store.Tx, host string) error {
	_, err := tx.Exec(`DELETE FROM failed_services WHERE host = ?`, host)
	return err
}

// Forget drops all that is remembered of the services of a host.
func (s *Set) Forget(tx *store.Tx, host string) error {
	return errors.Join(s.TryAgain(tx, host), s.states.Drop(tx, host))
}

// Rename gives the host new what is remembered of old.
func (s *Set) Rename(tx *store.Tx, old, new string) error {
	if err := s.Forget(tx, new); err != nil {
		return err
	}
	if _, err := tx.Exec(`UPDATE failed_services SET host = ? WHERE host = ?`, new, old); err != nil {
		return err
	}
	return s.states.Rename(tx, old, new)
}

// Failures returns every failure that the file has, by host.
func Failures(ctx context.Context, db *sql.DB) (map[string][]Failure, error) {
	rows, err := db.QueryContext(ctx, `SELECT host, service, digest, run, error, at FROM failed_services ORDER BY host, service, at`)
	if err != nil {
		return nil, fmt.Errorf("read failed services: %w", err)
	}
	defer rows.Close()

	all := map[string][]Failure{}
	for rows.Next() {
		var host string
		var f Failure
		var at int64
		if err := rows.Scan(&host, &f.Service, &f.Digest, &f.Run, &f.Error, &at); err != nil {
			return nil, err
		}
		f.At = store.Time(at)
		all[host] = append(all[host], f)
	}
	return all, rows.Err()
}
