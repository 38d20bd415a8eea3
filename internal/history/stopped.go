package history

import (
	"errors"

	"bellhop/internal/history/store"
)

// A run that stops since too many hosts failed leaves the others out. Each of them is remembered with
// the commit of that run: it is not pushed to that commit unless a person asks.

// StoppedAt is the commit whose run stopped before it came to the host; "" when none did since the
// host was pushed last.
func (db *DB) StoppedAt(host string) string {
	db.mu.Lock()
	defer db.mu.Unlock()
	return db.mem.stopped[host]
}

// readStopped reads those commits, by host.
func readStopped(q store.Querier) (map[string]string, error) {
	rows, err := q.Query(`SELECT host, commit_id FROM stopped`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()

	all := map[string]string{}
	for rows.Next() {
		var host, commit string
		if err := rows.Scan(&host, &commit); err != nil {
			return nil, err
		}
		all[host] = commit
	}
	return all, rows.Err()
}

// saveStopped remembers that a run of commit left the host out; "" forgets it. It is called inside write.
func (tx *tx) saveStopped(host, commit string) error {
	switch {
	case tx.db.mem.stopped[host] == commit:
		return nil
	case commit == "":
		delete(tx.db.mem.stopped, host)
		_, err := tx.Exec(`DELETE FROM stopped WHERE host = ?`, host)
		return err
	}
	tx.db.mem.stopped[host] = commit
	_, err := tx.Exec(`INSERT OR REPLACE INTO stopped(host, commit_id) VALUES(?, ?)`, host, commit)
	return err
}

// endStopped keeps it by what came of a run on the host.
func (tx *tx) endStopped(host string, e End) error {
	if e.Stopped {
		return tx.saveStopped(host, e.Commit)
	}
	return tx.saveStopped(host, "")
}

// renameStopped gives new what is remembered of old.
func (tx *tx) renameStopped(old, new string) error {
	return errors.Join(tx.saveStopped(new, tx.db.mem.stopped[old]), tx.saveStopped(old, ""))
}
