package stops

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"bellhop/internal/history/null"
	"bellhop/internal/history/store"
)

// A Pause says that no run may deploy until somebody resumes.
type Pause struct {
	By     string    `json:"by"`               // who paused; "" in the file of a release that did not keep it
	Reason string    `json:"reason,omitempty"` // "" when none was given
	Since  time.Time `json:"since,omitzero"`   // since when runs are paused; a second pause does not move it
	Until  time.Time `json:"until,omitzero"`   // when it ends by the clock; zero: only by resume
	// Then says that all commits that wait are deployed when the pause ends by the clock. Without it
	// more than one commit keeps the fleet paused.
	Then bool `json:"then,omitempty"`
	// Kept says that the time is over, and that more than one commit waited then: only resume ends it.
	Kept bool `json:"kept,omitempty"`

	Head    string `json:"head,omitempty"`    // of the branch, as the last look found it; "": nobody looked yet
	Waiting int    `json:"waiting,omitempty"` // commits of the head that are not deployed
}

// IsPast says that the time of a pause is over.
func (p *Pause) IsPast(now time.Time) bool { return !p.Until.IsZero() && !now.Before(p.Until) }

// PauseStatus is a pause as a status shows it.
type PauseStatus struct {
	By     *string    `json:"by"`
	Reason *string    `json:"reason"`
	Since  *time.Time `json:"since"`
	Until  *time.Time `json:"until"`
	Then   bool       `json:"then,omitempty"` // all that waits is deployed when until is over
	Kept   bool       `json:"kept,omitempty"` // until is over, and more than one commit waited then
}

// Status is p as a status shows it; nil when nothing is paused.
func (p *Pause) Status() *PauseStatus {
	if p == nil {
		return nil
	}
	return &PauseStatus{By: null.Text(p.By), Reason: null.Text(p.Reason), Since: null.Time(p.Since), Until: null.Time(p.Until), Then: p.Then, Kept: p.Kept}
}

// Text says in one line that runs are paused: who, since when, why, until when, and how many commits
// wait, with the command that ends the wait.
func (p *PauseStatus) Text(waiting int) string {
	text := p.Words(waiting)
	if waiting > 0 {
		text += ": bellhop resume"
	}
	return text
}

// Words is Text without the command.
func (p *PauseStatus) Words(waiting int) string {
	var b strings.Builder
	b.WriteString("runs are paused")
	if p.By != nil {
		b.WriteString(" by " + *p.By)
	}
	if p.Since != nil {
		b.WriteString(" since " + clockText(*p.Since))
	}
	if p.Reason != nil {
		b.WriteString(": " + *p.Reason)
	}

	switch {
	case p.Kept && p.Until != nil:
		b.WriteString("; its time was over at " + clockText(*p.Until) + ", and more than one commit waited")
	case p.Until != nil && p.Then:
		b.WriteString("; until " + clockText(*p.Until) + ", when all that waits is deployed")
	case p.Until != nil:
		b.WriteString("; until " + clockText(*p.Until))
	}

	switch {
	case waiting == 1:
		b.WriteString("; 1 commit waits")
	case waiting > 1:
		fmt.Fprintf(&b, "; %d commits wait", waiting)
	}

	return b.String()
}

// clockText is a time as people read it, with its zone: it may be read on another machine.
func clockText(t time.Time) string { return t.Local().Format("2006-01-02 15:04 MST") }

// Pauses knows whether runs are paused. The file has one value for it, so that a status that reads it
// sees one moment.
type Pauses struct {
	sql    *sql.DB
	writer *store.Writer
	tell   func(was, now *Pause)
}

// NewPauses is that of the file db, which w writes. tell is called inside each transaction that changes
// a pause, and may tell people of it.
func NewPauses(db *sql.DB, w *store.Writer, tell func(was, now *Pause)) *Pauses {
	return &Pauses{db, w, tell}
}

// Now is the pause that holds; nil when runs are not paused.
func (p *Pauses) Now() (*Pause, error) {
	now, err := ReadPause(p.sql)
	if err != nil {
		return nil, fmt.Errorf("read the pause: %w", err)
	}
	return now, nil
}

// Change stores what f makes of the pause that holds, nil for none, and returns both. f may be called
// twice.
func (p *Pauses) Change(ctx context.Context, f func(was *Pause) *Pause) (was, now *Pause, err error) {
	err = p.writer.Write(ctx, "the pause", func(tx *store.Tx) error {
		var err error
		if was, err = ReadPause(tx); err != nil {
			return err
		}

		value := ""
		if now = f(was); now != nil {
			b, err := json.Marshal(now)
			if err != nil {
				return err
			}

			value = string(b)
		}

		p.tell(was, now)
		_, err = tx.Exec(`INSERT OR REPLACE INTO meta(name, value) VALUES(?, ?)`, pausedName, value)
		return err
	})
	return was, now, err
}

// Set pauses, or changes the pause that holds: a reason that is not given stays, and so does the time
// since when runs are paused.
func (p *Pauses) Set(ctx context.Context, next Pause) (was, now *Pause, err error) {
	return p.Change(ctx, func(was *Pause) *Pause {
		now := next
		if was == nil {
			return &now
		}
		if now.Reason == "" {
			now.Reason = was.Reason
		}
		if !was.Since.IsZero() {
			now.Since = was.Since
		}
		now.Head, now.Waiting = was.Head, was.Waiting
		return &now
	})
}

// End ends the pause, and returns the one that held; nil when runs were not paused.
func (p *Pauses) End(ctx context.Context) (was *Pause, err error) {
	was, _, err = p.Change(ctx, func(*Pause) *Pause { return nil })
	return was, err
}

// pausedName is the name of the value in the file: a Pause as JSON, "" for none. Before pauses had a
// reason it was "1".
const pausedName = "paused"

// ReadPause reads the pause that holds; nil for none.
func ReadPause(q store.Querier) (*Pause, error) {
	values, err := store.Column(q, `SELECT value FROM meta WHERE name = ?`, pausedName)
	if err != nil || len(values) == 0 || values[0] == "" {
		return nil, err
	}
	p := &Pause{}
	if values[0] == "1" {
		return p, nil
	}
	if err := json.Unmarshal([]byte(values[0]), p); err != nil {
		return nil, fmt.Errorf("the pause: %w", err)
	}

	return p, nil
}
