package history

import (
	"context"
	"errors"
	"slices"

	"bellhop/internal/history/stops"
)

// Stops is the part of a history that knows before which hosts a run stopped.
type Stops struct{ db *DB }

// Stops is what db remembers of hosts that runs left out.
func (db *DB) Stops() Stops { return Stops{db} }

// At is the newest run that stopped before it came to the host.
func (s Stops) At(host string) stops.Stop {
	s.db.mu.Lock()
	defer s.db.mu.Unlock()
	return s.db.mem.stopped.Of(host)
}

// Cancel remembers hosts that a cancelled run of commit was not done with, as those that did not answer:
// each is behind, or unconfirmed as it was, by why, and is not pushed to the commit by itself.
func (s Stops) Cancel(ctx context.Context, hosts []string, stop stops.Stop, why string) error {
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
			if err := errors.Join(s.db.mem.stopped.Set(tx.Tx, name, stop), tx.saveHost(h)); err != nil {
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
		for name, stop := range s.db.mem.stopped.All() {
			if stop.CancelledBy != "" {
				hosts = append(hosts, name)
			}
		}
		slices.Sort(hosts)

		for _, name := range hosts {
			h := s.db.mem.hosts[name]
			h.Error = ""
			if err := errors.Join(s.db.mem.stopped.Drop(tx.Tx, name), tx.saveHost(h)); err != nil {
				return err
			}
		}
		return nil
	})
	return hosts, err
}

// renameStop gives a host the stop of its former name. One that a plan has under its new name already keeps what
// came of that: a run of an older commit says nothing of it.
func (tx *tx) renameStop(old, new string, isPlanned bool) error {
	if isPlanned {
		return tx.db.mem.stopped.Drop(tx.Tx, old)
	}
	return tx.db.mem.stopped.Rename(tx.Tx, old, new)
}

// endStopped keeps it by what came of a run on the host.
func (tx *tx) endStopped(host string, e End) error {
	stop := stops.Stop{Commit: e.Commit, CancelledBy: e.CancelledBy}
	if e.Stopped && stop != (stops.Stop{}) {
		return tx.db.mem.stopped.Set(tx.Tx, host, stop)
	}
	return tx.db.mem.stopped.Drop(tx.Tx, host)
}
