package history

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"bellhop/internal/history/null"
	"bellhop/internal/history/store"
)

// States of one service of a host.
const (
	ServiceCurrent State = "current"   // it is at its host's commit
	ServiceHeld    State = "held-back" // it stays as it was, and the others are brought
	ServiceFailed  State = "failed"    // it failed, and the host as a whole went back
)

// A ServiceStatus is the state of one service of a host. Its JSON is a contract.
type ServiceStatus struct {
	Name   string  `json:"name"`
	Commit *string `json:"commit"` // that it is at; null when it is not there
	State  State   `json:"state"`
	Error  *string `json:"error"`
}

// NewServiceStatus is a ServiceStatus; commit and err may be "".
func NewServiceStatus(name, commit string, state State, err string) ServiceStatus {
	return ServiceStatus{Name: name, Commit: null.Text(commit), State: state, Error: null.Text(err)}
}

func (s ServiceStatus) equal(o ServiceStatus) bool {
	same := func(a, b *string) bool {
		if a == nil || b == nil {
			return a == b
		}
		return *a == *b
	}
	sameState := s.Name == o.Name && s.State == o.State
	return sameState && same(s.Commit, o.Commit) && same(s.Error, o.Error)
}

// A FailedService is a service that did not work on a host: it is not tried there again while its digest
// is the same.
type FailedService struct {
	Service, Digest, Run, Error string
	At                          time.Time
}

// keepFailedServices is how many are remembered of a host.
const keepFailedServices = 40

// Services is the state of single services of a host, where it differs from that of the host.
func (db *DB) Services(host string) []ServiceStatus {
	db.mu.Lock()
	defer db.mu.Unlock()
	return slices.Clone(db.mem.services[host])
}

// readServices reads the states of services, by host.
func readServices(q store.Querier) (map[string][]ServiceStatus, error) {
	rows, err := q.Query(`SELECT host, services FROM host_services`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()

	all := map[string][]ServiceStatus{}
	for rows.Next() {
		var host, services string
		if err := rows.Scan(&host, &services); err != nil {
			return nil, err
		}
		var list []ServiceStatus
		if err := json.Unmarshal([]byte(services), &list); err != nil {
			return nil, fmt.Errorf("services of %s: %w", host, err)
		}
		all[host] = list
	}
	return all, rows.Err()
}

// saveServices writes the states of services of a host; none drops what was there. It is called inside
// write, as the rest below is.
func (m *memory) saveServices(tx *tx, host string, services []ServiceStatus) error {
	if slices.EqualFunc(m.services[host], services, ServiceStatus.equal) {
		return nil
	}
	if len(services) == 0 {
		delete(m.services, host)
		_, err := tx.Exec(`DELETE FROM host_services WHERE host = ?`, host)
		return err
	}

	p, err := json.Marshal(services)
	if err != nil {
		return err
	}
	m.services[host] = slices.Clone(services)
	_, err = tx.Exec(`INSERT OR REPLACE INTO host_services(host, services) VALUES(?, ?)`, host, string(p))
	return err
}

// planServices stores the states of services that a plan of their host gives them.
func (m *memory) planServices(tx *tx, p Planned) error {
	switch {
	case p.Services != nil:
		return m.saveServices(tx, p.Name, p.Services)
	case p.Follows:
		return m.saveServices(tx, p.Name, nil)
	}
	return nil
}

// endServices stores the states of services after a push, and which of them failed.
func (m *memory) endServices(tx *tx, run, host string, e End, now time.Time) error {
	isWhole := e.Stood() && e.Outcome != OutcomeHeldBack
	if e.Services != nil || isWhole {
		if err := m.saveServices(tx, host, e.Services); err != nil {
			return err
		}
	}

	for _, f := range e.Mended {
		if _, err := tx.Exec(`DELETE FROM failed_services WHERE host = ? AND service = ? AND digest = ?`, host, f.Service, f.Digest); err != nil {
			return err
		}
	}
	return rememberFailed(tx, run, host, e.FailedServices, now)
}

// ServicesFailed remembers that services failed in a run that goes on without them.
func (db *DB) ServicesFailed(ctx context.Context, run, host string, failed []FailedService) error {
	return db.write(ctx, "the failed services of "+host, func(tx *tx) error {
		return rememberFailed(tx, run, host, failed, db.clock())
	})
}

func rememberFailed(tx *tx, run, host string, failed []FailedService, now time.Time) error {
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
		(SELECT service, digest FROM failed_services WHERE host = ?1 ORDER BY at DESC LIMIT ?2)`, host, keepFailedServices)
	return err
}

// forgetServices drops all that is remembered of the services of a host.
func (m *memory) forgetServices(tx *tx, host string) error {
	_, err := tx.Exec(`DELETE FROM failed_services WHERE host = ?`, host)
	return errors.Join(err, m.saveServices(tx, host, nil))
}

// renameServices gives new what is remembered of the services of old.
func (m *memory) renameServices(tx *tx, old, new string) error {
	if err := m.forgetServices(tx, new); err != nil {
		return err
	}
	if _, err := tx.Exec(`UPDATE failed_services SET host = ? WHERE host = ?`, new, old); err != nil {
		return err
	}
	if err := m.saveServices(tx, new, m.services[old]); err != nil {
		return err
	}
	return m.saveServices(tx, old, nil)
}

// FailedServices returns every failure of a service that is remembered, by host.
func (db *DB) FailedServices(ctx context.Context) (map[string][]FailedService, error) {
	rows, err := db.sql.QueryContext(ctx, `SELECT host, service, digest, run, error, at FROM failed_services ORDER BY host, service, at`)
	if err != nil {
		return nil, fmt.Errorf("read failed services: %w", err)
	}
	defer rows.Close()

	all := map[string][]FailedService{}
	for rows.Next() {
		var host string
		var f FailedService
		var at int64
		if err := rows.Scan(&host, &f.Service, &f.Digest, &f.Run, &f.Error, &at); err != nil {
			return nil, err
		}
		f.At = store.Time(at)
		all[host] = append(all[host], f)
	}
	return all, rows.Err()
}
