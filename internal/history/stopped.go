package history

import (
	"context"
	"errors"
	"slices"

	"bellhop/internal/history/store"
)

// A run that stops since too many hosts failed leaves the others out, and so does one that a person
// cancels. Each of them is remembered with the commit of that run: it is not pushed to that commit
// unless a person asks.

// A Stop says that a run stopped before it came to a host.
type Stop struct {
	Commit      string // of that run; "": none did since the host was pushed last
	CancelledBy string // who cancelled the run; "" when it stopped since too many hosts failed
}

// isOf says that the run was to bring the host to what it is to hold now: the top commit, or what its hold
// names. After another commit it says nothing any more.
func (s Stop) isOf(hold *Hold, top string) bool {
	if hold != nil {
		return s.Commit == hold.Commit
	}
	return s.Commit == top
}

// Stops is the part of a history that knows before which hosts a run stopped.
type Stops struct{ db *DB }

// Stops is what db remembers of hosts that runs left out.
func (db *DB) Stops() Stops { return Stops{db} }

// At is the newest run that stopped before it came to the host.
func (s Stops) At(host string) Stop {
	s.db.mu.Lock()
	defer s.db.mu.Unlock()
	return s.db.mem.stopped[host]
}

// Cancel remembers hosts that a cancelled run of commit was not done with, as those that did not answer:
// each is behind, or unconfirmed as it was, by why, and is not pushed to the commit by itself.
func (s Stops) Cancel(ctx context.Context, hosts []string, stop Stop, why string) error {
	return s.db.write(ctx, "hosts of a cancelled run", func(tx *tx) error {
		for _, name := range hosts {
			h, ok := s.db.mem.hosts[name]
			if !ok {
				continue
			}
			if h.State == Pending {
				h.State = Behind
			}
			h.Error = why
			if err := errors.Join(tx.saveStopped(name, stop), tx.saveHost(h)); err != nil {
				return err
			}
		}
		return nil
	})
}

// Resume forgets that runs were cancelled, and returns the hosts that were left out, by name.
func (s Stops) Resume(ctx context.Context) (hosts []string, err error) {
	err = s.db.write(ctx, "the end of what was cancelled", func(tx *tx) error {
		hosts = nil
		for name, stop := range s.db.mem.stopped {
			if stop.CancelledBy != "" {
				hosts = append(hosts, name)
			}
		}
		slices.Sort(hosts)

		for _, name := range hosts {
			h := s.db.mem.hosts[name]
			h.Error = ""
			if err := errors.Join(tx.saveStopped(name, Stop{}), tx.saveHost(h)); err != nil {
				return err
			}
		}
		return nil
	})
	return hosts, err
}

// readStopped reads them, by host.
func readStopped(q store.Querier) (map[string]Stop, error) {
	rows, err := q.Query(`SELECT host, commit_id, cancelled_by FROM stopped`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()

	all := map[string]Stop{}
	for rows.Next() {
		var host string
		var stop Stop
		if err := rows.Scan(&host, &stop.Commit, &stop.CancelledBy); err != nil {
			return nil, err
		}
		all[host] = stop
	}
	return all, rows.Err()
}

// saveStopped remembers that a run left the host out; the zero Stop forgets it. It is called inside write.
func (tx *tx) saveStopped(host string, stop Stop) error {
	switch {
	case tx.db.mem.stopped[host] == stop:
		return nil
	case stop == Stop{}:
		delete(tx.db.mem.stopped, host)
		_, err := tx.Exec(`DELETE FROM stopped WHERE host = ?`, host)
		return err
	}
	tx.db.mem.stopped[host] = stop
	_, err := tx.Exec(`INSERT OR REPLACE INTO stopped(host, commit_id, cancelled_by) VALUES(?, ?, ?)`, host, stop.Commit, stop.CancelledBy)
	return err
}

// endStopped keeps it by what came of a run on the host.
func (tx *tx) endStopped(host string, e End) error {
	if e.Stopped {
		return tx.saveStopped(host, Stop{e.Commit, e.CancelledBy})
	}
	return tx.saveStopped(host, Stop{})
}

// renameStopped gives new what is remembered of old.
func (tx *tx) renameStopped(old, new string) error {
	return errors.Join(tx.saveStopped(new, tx.db.mem.stopped[old]), tx.saveStopped(old, Stop{}))
}
