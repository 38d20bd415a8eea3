package history

import (
	"context"
	"time"

	"bellhop/internal/history/store"
)

// A Contact is when a host answered last, and since when it does not.
type Contact struct {
	SeenAt time.Time // when it was heard last; zero when it never was
	AwayAt time.Time // since when it does not answer, or shows another key; zero when it does
}

// contactRow is a Contact as it is stored.
var contactRow = store.NewRows(`INSERT OR REPLACE INTO contacts(host, seen_at, away_at) VALUES `, 3, "")

// contacted is c after the host was heard at now, or was found away.
func (c Contact) contacted(away bool, now time.Time) Contact {
	switch {
	case !away:
		return Contact{SeenAt: now}
	case c.AwayAt.IsZero():
		c.AwayAt = now
	}
	return c
}

// under is c as that of a host which got another name, by which it was contacted as now says.
func (c Contact) under(now Contact) Contact {
	isUnknown := now == Contact{}
	isAwayStill := now.SeenAt.IsZero() && !c.AwayAt.IsZero()
	if isUnknown || isAwayStill {
		return c
	}
	if now.SeenAt.IsZero() {
		now.SeenAt = c.SeenAt
	}
	return now
}

// NoteContact remembers that a host was heard, or with away that it does not answer. Only the first of
// several failures in a row is stored, so that AwayAt is when the host went away. A host that is
// not known is no error and nothing happens.
func (db *DB) NoteContact(ctx context.Context, host string, away bool) error {
	stored := func() bool {
		db.mu.Lock()
		defer db.mu.Unlock()
		h, known := db.mem.hosts[host]
		return !known || (away && !h.AwayAt.IsZero())
	}
	if stored() {
		return nil
	}

	return db.write(ctx, "that "+host+" was met", func(tx *tx) error {
		h, known := db.mem.hosts[host]
		if !known {
			return nil
		}
		return tx.saveContact(host, h.contacted(away, db.clock()))
	})
}

// saveMeeting remembers whether h was heard in a run that ended there as e.
func (tx *tx) saveMeeting(h Host, e End, now time.Time) error {
	switch {
	case e.Heard:
		return tx.saveContact(h.Name, h.contacted(false, now))
	case !e.AwayAt.IsZero():
		return tx.saveContact(h.Name, h.contacted(true, e.AwayAt))
	}
	return nil
}

// saveContact writes c and keeps it in memory, where the host is. It is called inside write.
func (tx *tx) saveContact(host string, c Contact) error {
	if h, known := tx.db.mem.hosts[host]; known {
		tx.queueContact(h, c)
		h.Contact = c
		tx.db.mem.hosts[host] = h
	}
	return tx.Add(contactRow, "contact "+host, host, store.Millis(c.SeenAt), store.Millis(c.AwayAt))
}

// queueContact tells people that a host stopped answering, or answers again, where no push says so. Of a host that is away at
// times nobody is told.
func (tx *tx) queueContact(h Host, now Contact) {
	m := Message{At: tx.db.clock(), Kind: "host", Host: h.Name, Commit: h.Commit}
	isLost := h.AwayAt.IsZero() && !now.AwayAt.IsZero()
	isBack := !h.AwayAt.IsZero() && now.AwayAt.IsZero()
	switch {
	case isLost && !h.Reach.Sometimes && h.State == Current:
		m.Was, m.Now = h.State, string(Pending)
	case isBack && h.State == Current:
		m.Was, m.Now = Pending, string(h.State)
	default:
		return // a host that is not current was told already, or a push is to come
	}
	tx.db.queue(m)
}

// readContacts gives hosts their contacts.
func readContacts(q store.Querier, hosts map[string]Host) error {
	rows, err := q.Query(`SELECT host, seen_at, away_at FROM contacts`)
	if err != nil {
		return err
	}
	defer rows.Close()

	for rows.Next() {
		var name string
		var seen, away int64
		if err := rows.Scan(&name, &seen, &away); err != nil {
			return err
		}
		if h, ok := hosts[name]; ok {
			h.SeenAt, h.AwayAt = store.Time(seen), store.Time(away)
			hosts[name] = h
		}
	}
	return rows.Err()
}
