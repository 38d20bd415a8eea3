package history

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/history/null"
	"bellhop/internal/history/store"
)

// A Look is what a host showed when it was read last, without being changed. It is no run. Its texts
// are fit to be shown.
type Look struct {
	At time.Time `json:"at"`
	// Unknown says that the helper there is of a release that can't look: nothing else is known.
	Unknown        bool         `json:"unknown,omitempty"`
	RebootRequired bool         `json:"reboot_required,omitempty"`
	Running        int          `json:"running,omitempty"` // units of the bundle that run
	Failed         []FailedUnit `json:"failed,omitempty"`
	Drift          []Drift      `json:"drift,omitempty"` // the first of them, at most KeepDrift
	Drifted        int          `json:"drifted,omitempty"`
}

// KeepDrift is how many single things of a host's drift are remembered; all are counted.
const KeepDrift = 200

// A FailedUnit is a unit of the bundle that failed.
type FailedUnit struct {
	Name   string     `json:"name"`
	Result string     `json:"result"` // as systemd has it: exit-code, signal, timeout …
	Since  *time.Time `json:"since"`  // null when the host does not say
}

// A Drift is one thing on a host that is not as the bundle there has it.
type Drift struct {
	Kind string `json:"kind"` // file, link, unit … as in a plan
	Name string `json:"name"`
	What string `json:"what"` // edited, missing, stopped …
}

// UnitStatus is how the units of the bundle do on a host. Its JSON is a contract.
type UnitStatus struct {
	Running int          `json:"running"`
	Failed  []FailedUnit `json:"failed"`
}

func (l Look) equal(o Look) bool {
	sameSince := func(a, b *time.Time) bool { return a == b || a != nil && b != nil && a.Equal(*b) }
	sameUnit := func(a, b FailedUnit) bool {
		return a.Name == b.Name && a.Result == b.Result && sameSince(a.Since, b.Since)
	}
	sameState := l.Unknown == o.Unknown && l.RebootRequired == o.RebootRequired && l.Running == o.Running && l.Drifted == o.Drifted
	return sameState && l.At.Equal(o.At) && slices.EqualFunc(l.Failed, o.Failed, sameUnit) && slices.Equal(l.Drift, o.Drift)
}

// Looks is what is remembered of looks at hosts.
type Looks struct{ db *DB }

// Looks hands it out.
func (db *DB) Looks() Looks { return Looks{db} }

// Last is what the last look at a host found; ok is false when there was none.
func (l Looks) Last(host string) (_ Look, ok bool) {
	l.db.mu.Lock()
	defer l.db.mu.Unlock()
	look, ok := l.db.mem.looks[host]
	return look, ok
}

// Store remembers what a look found on a host, and that the host was heard. A host that is not known
// is no error and nothing happens.
func (l Looks) Store(ctx context.Context, host string, look Look) error {
	look.At = look.At.UTC().Truncate(time.Millisecond)
	return l.db.write(ctx, "the look at "+host, func(tx *tx) error {
		h, known := l.db.mem.hosts[host]
		if !known {
			return nil
		}
		if err := tx.saveLook(host, look); err != nil {
			return err
		}
		return tx.saveContact(host, h.met(false, l.db.clock()))
	})
}

// readLooks reads what the last look at each host found.
func readLooks(q store.Querier) (map[string]Look, error) {
	rows, err := q.Query(`SELECT host, found FROM looks`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()

	all := map[string]Look{}
	for rows.Next() {
		var host, found string
		if err := rows.Scan(&host, &found); err != nil {
			return nil, err
		}
		var look Look
		if err := json.Unmarshal([]byte(found), &look); err != nil {
			return nil, fmt.Errorf("look at %s: %w", host, err)
		}
		all[host] = look
	}
	return all, rows.Err()
}

// saveLook remembers what a look found.
func (tx *tx) saveLook(host string, look Look) error {
	if was, ok := tx.db.mem.looks[host]; ok && was.equal(look) {
		return nil
	}
	p, err := json.Marshal(look)
	if err != nil {
		return err
	}
	tx.queueDrift(host, tx.db.mem.looks[host], look)
	tx.db.mem.looks[host] = look
	_, err = tx.Exec(`INSERT OR REPLACE INTO looks(host, found) VALUES(?, ?)`, host, string(p))
	return err
}

// queueDrift tells people that something on a host differs from what was deployed, or that nothing does any more.
func (tx *tx) queueDrift(host string, was, now Look) {
	m := Message{At: now.At, Kind: "drift", Host: host}
	switch {
	case was.Drifted == 0 && now.Drifted > 0:
		m.Now, m.Error = NowDrifted, driftText(now)
	case was.Drifted > 0 && now.Drifted == 0 && !now.Unknown:
		m.Now = NowClean
	default:
		return
	}
	tx.db.queue(m)
}

// driftText names the first things that differ.
func driftText(l Look) string {
	var parts []string
	for _, d := range l.Drift[:min(3, len(l.Drift))] {
		parts = append(parts, d.Kind+" "+d.Name+" "+d.What)
	}
	text := strings.Join(parts, ", ")
	if more := l.Drifted - len(parts); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// endLook brings the last look in step with what came of a push: what was edited on the host is put
// back, what was restarted runs. The next look says the rest.
func (tx *tx) endLook(host string, e End) error {
	look, ok := tx.db.mem.looks[host]
	if !ok || look.Unknown || !e.Stood() {
		return nil
	}

	look.Drift = slices.DeleteFunc(slices.Clone(look.Drift), func(d Drift) bool { return !d.outlives(e.Outcome) })
	look.Drifted = len(look.Drift)
	if res, ok := e.Details.(*bundle.Result); ok {
		for _, unit := range res.Drifted[:min(len(res.Drifted), KeepDrift)] {
			look.Drift = append(look.Drift, Drift{Kind: bundle.KindUnit, Name: unit, What: bundle.DriftStopped})
		}
		look.Drifted += len(res.Drifted)
		look.startedAgain(slices.Concat(res.Started, res.Restarted))
	}
	return tx.saveLook(host, look)
}

// outlives says that a run which ended well leaves it as it is.
func (d Drift) outlives(outcome Outcome) bool {
	isLeft := d.What == bundle.DriftDropIn || d.What == bundle.DriftDisabled && outcome == OutcomeNothing
	return d.Kind == bundle.KindUnit && isLeft
}

// startedAgain takes units that were started out of those that failed.
func (l *Look) startedAgain(units []string) {
	var left []FailedUnit
	for _, f := range l.Failed {
		if slices.Contains(units, f.Name) {
			l.Running++
		} else {
			left = append(left, f)
		}
	}
	l.Failed = left
}

// forgetLook drops what is remembered of a host.
func (tx *tx) forgetLook(host string) error {
	if _, ok := tx.db.mem.looks[host]; !ok {
		return nil
	}
	delete(tx.db.mem.looks, host)
	_, err := tx.Exec(`DELETE FROM looks WHERE host = ?`, host)
	return err
}

// renameLook gives new what is remembered of old.
func (tx *tx) renameLook(old, new string) error {
	look, ok := tx.db.mem.looks[old]
	if !ok {
		return tx.forgetLook(new)
	}
	return errors.Join(tx.saveLook(new, look), tx.forgetLook(old))
}

// show adds what a look found to a host's status.
func (s *HostStatus) show(look Look) {
	s.LookedAt = null.Time(look.At)
	if look.Unknown {
		return
	}
	s.Units = &UnitStatus{Running: look.Running, Failed: append([]FailedUnit{}, look.Failed...)}
	s.Drift, s.RebootRequired = &look.Drifted, &look.RebootRequired
}
