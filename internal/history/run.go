package history

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/history/openruns"
	"bellhop/internal/history/results"
	"bellhop/internal/history/services"
	"bellhop/internal/history/stops"
	"bellhop/internal/history/store"
)

// Start is what is known of a run when it starts.
type Start struct {
	ID      string
	Commit  string // "" when the repo could not be read
	Author  string
	Subject string
	Cause   string // push, poll, start, deploy …
	By      string // who asked
	Notes   []string
	At      time.Time
	Refused bool // the commit is refused as a whole
	Untold  bool // see Message
}

// A Planned is one host as a run found it, before its first push.
type Planned struct {
	Name   string
	State  State  // Current, Behind, Never, Pending, Refused, Failed …
	Wanted string // bundle digest; "" when there is no bundle
	// Follows says that the host holds what is wanted: the host's commit is the top one.
	Follows bool
	Error   string
	Reason  results.Reason // with State Unconfirmed
	Keys    int            // expected
	Reach   Reach
	// Listed puts the host into the run's list of hosts; Outcome is its result when it is
	// already known, as for a refused host.
	Listed  bool
	Outcome Outcome
	// Evidence is of Error, where Outcome is known.
	Evidence []bundle.Evidence
	// Services is the state of single services, where the plan knows it; nil: unchanged.
	Services []services.Status
	// Hold begins a hold of the host, and takes the place of one that holds. Nil: none begins.
	Hold *stops.Hold
	// Resumes ends the hold of the host.
	Resumes bool
}

// Network names what this history is of, and the branch; status shows both.
func (db *DB) Network(ctx context.Context, network, branch string) error {
	return db.write(ctx, "the network", func(tx *tx) error {
		return errors.Join(setMeta(tx, "network", network), setMeta(tx, "branch", branch))
	})
}

// Plan stores a run and every host's planned state against its commit, in one transaction
// and before anything is pushed. The top commit moves here, and with it the commit of every
// host that follows it: a host whose bundle is unchanged costs no write, and need not be in
// hosts. Those in gone left the repo and are released. A top of "" leaves the top commit.
func (db *DB) Plan(ctx context.Context, s Start, top string, hosts []Planned, gone []string) error {
	return db.write(ctx, "the plan of run "+s.ID, func(tx *tx) error {
		if err := insertRun(tx, s); err != nil {
			return err
		}

		db.mem.runs.Unfinished[s.ID] = true
		was := db.mem.top
		if top != "" && top != was {
			if err := setMeta(tx, "commit", top); err != nil {
				return err
			}
		}
		if top != "" && !s.Refused {
			if err := setMeta(tx, "accepted", top); err != nil {
				return err
			}
		}

		planned := map[string]bool{}
		for _, p := range hosts {
			if err := tx.planHost(s, p, was); err != nil {
				return err
			}
			if p.Listed && p.Outcome == "" {
				planned[p.Name] = true
			}
		}

		if len(planned) > 0 {
			db.mem.runs.Planned[s.ID] = planned
			if _, err := tx.Exec(`UPDATE runs SET planned = ? WHERE id = ?`, list(slices.Sorted(maps.Keys(planned))), s.ID); err != nil {
				return err
			}
		}

		for _, name := range gone {
			if h, ok := db.mem.hosts[name]; ok && h.State != Released {
				if err := tx.release(h, was); err != nil {
					return err
				}
			}
		}

		if top != "" {
			db.mem.top = top // undone by write when the commit of the transaction fails
		}

		return nil
	})
}

// formerMachine is wanted where no bundle is: on a machine that gives way to another.
const formerMachine = "another machine"

func (tx *tx) planHost(s Start, p Planned, was string) error {
	old, known := tx.db.mem.hosts[p.Name]
	h := old
	h.Name, h.State, h.Wanted, h.Error, h.KeysExpected, h.Reach = p.Name, p.State, p.Wanted, p.Error, p.Keys, p.Reach
	h = h.withReason(p.Reason, s.At)
	if p.State == Deploying && old.Reach.Elsewhere(p.Reach) {
		// A run is at work on the former machine. What it ends with is not what is wanted, whatever
		// bundle that was, and the plan after it finds the new machine.
		p.Reach = old.Reach
		h.Reach, h.Wanted = p.Reach, formerMachine
	}
	if old.Reach.Elsewhere(p.Reach) { // what the former machine held, and what failed there, says nothing of this one
		h.Digest = ""
		if _, err := tx.Exec(`DELETE FROM failures WHERE host = ?`, p.Name); err != nil {
			return err
		}

		delete(tx.db.mem.failing, p.Name)
	}
	if old.Follows && !p.Follows {
		h.Commit = was
	}

	h.Follows = p.Follows
	if h.Follows || old.Reach.Elsewhere(p.Reach) {
		h.Commit = ""
	}
	if old.Reach.Elsewhere(p.Reach) {
		if err := errors.Join(tx.db.mem.services.Forget(tx.Tx, p.Name), tx.db.mem.looks.Drop(tx.Tx, p.Name)); err != nil {
			return err
		}
	}
	if err := tx.planServices(p); err != nil {
		return err
	}
	if err := tx.planHold(p, old.Reach.Elsewhere(p.Reach)); err != nil {
		return err
	}
	if !known || !equalHost(old, h) {
		if err := tx.saveHost(h); err != nil {
			return err
		}
	}
	if !p.Listed || p.Outcome == "" { // it gets its row when it is begun
		return nil
	}

	told := p.Outcome == Deploying.Outcome() || old.Error == p.Error && old.State == p.State // by an older run, or already
	if !told {
		tx.db.queue(Message{At: s.At, Kind: "host", Run: s.ID, Host: p.Name, Was: old.State, Now: string(p.State), Commit: s.Commit, Error: p.Error, Reason: h.Reason})
	}
	if err := results.SaveEvidence(tx.Tx, s.ID, p.Name, p.Evidence); err != nil {
		return err
	}

	tx.db.outcomes.Touch(s.ID)
	return tx.Add(listedResult, "result "+s.ID+" "+p.Name, s.ID, p.Name, p.stands(), store.Millis(s.At), p.Outcome, p.Error)
}

// Rows of results, of a host that is not pushed, and of one that was.
var (
	listedResult = store.NewRows(`INSERT OR REPLACE INTO results(run, host, digest, ended_at, outcome, error) VALUES `, 6, "")
	endedResult  = store.NewRows(`INSERT INTO results(run, host, digest, begun_at, ended_at, outcome, changed, details, took_ms, error) VALUES `, 10,
		` ON CONFLICT(run, host) DO UPDATE SET digest = excluded.digest, begun_at = max(begun_at, excluded.begun_at), ended_at = excluded.ended_at,
		outcome = excluded.outcome, changed = excluded.changed, details = excluded.details, took_ms = excluded.took_ms, error = excluded.error`)
)

// Accepted is the newest commit that was not refused as a whole.
func (db *DB) Accepted() (string, error) {
	c, err := meta(db.sql, "accepted")
	if err != nil {
		return "", fmt.Errorf("read the accepted commit: %w", err)
	}
	return c, nil
}

func (tx *tx) release(h Host, was string) error {
	if h.Follows {
		h.Commit, h.Follows = was, false
	}
	h.State, h.Wanted, h.Error = Released, "", ""
	// Its hold goes on: the machine may have another name from now on, which its next hello tells.
	return errors.Join(tx.db.mem.looks.Drop(tx.Tx, h.Name), tx.saveHost(h))
}

func insertRun(tx *tx, s Start) error {
	_, err := tx.Exec(`INSERT INTO runs(id, commit_id, author, subject, cause, by_whom, started_at, notes) VALUES(?,?,?,?,?,?,?,?)
		ON CONFLICT(id) DO UPDATE SET commit_id = excluded.commit_id, author = excluded.author, subject = excluded.subject, notes = excluded.notes`,
		s.ID, s.Commit, s.Author, s.Subject, s.Cause, s.By, store.Millis(s.At), list(s.Notes))
	return err
}

// Begun stores that an offer of digest goes out to host. From here on, without a result,
// the host is unknown.
func (db *DB) Begun(ctx context.Context, run, host, digest string) error {
	return db.BegunAs(ctx, Begin{Run: run, Host: host, Digest: digest})
}

// A Begin is an offer that goes out to a host.
type Begin = openruns.Begin

// An Interrupted is a host that was begun and has no result.
type Interrupted = openruns.Interrupted

// BegunAs is Begun of an offer that is not the first of its run, or not of a whole bundle.
func (db *DB) BegunAs(ctx context.Context, b Begin) error {
	run, host := b.Run, b.Host
	return db.write(ctx, "that "+host+" was begun", func(tx *tx) error {
		h, known := db.mem.hosts[host]
		again := h.Run == run || len(db.mem.runs.Of(host)) > 0
		if err := db.mem.runs.Begin(tx.Tx, b, db.clock()); err != nil {
			return err
		}
		tx.db.outcomes.Touch(run) // a result of before counts no more
		h.Name, h.State, h.Run, h.Error = host, Deploying, run, ""
		if again || !known {
			return tx.saveHost(h)
		}
		tx.note(h) // the file has it by what is open: see readHosts
		return nil
	})
}

// Ended stores what came of a run on a host, what the host holds now, and a message about it. Of a host that is not
// known any more, since its machine has another name, the run remembers it and people are told.
func (db *DB) Ended(ctx context.Context, run, host string, e End) error {
	return db.write(ctx, "the result of "+host, func(tx *tx) error {
		now := db.clock()
		old, isKnown := db.mem.hosts[host]
		h := db.mem.after(old, e, now)
		h.Name, h.Run = host, run
		h = db.mem.asHeld(h, e)
		late := []string{run}
		for _, o := range db.mem.runs.Of(host) {
			late = append(late, o.Run) // an older run that it was open in ends there too
		}

		if err := tx.saveResult(run, host, e, now); err != nil {
			return err
		}
		isExcused := e.Outcome == OutcomePending && h.Reach.Sometimes
		if !isExcused {
			tx.db.queue(Message{At: now, Kind: "host", Run: run, Host: host, Was: old.State, Now: string(h.State), Commit: e.Commit, Error: e.Error, Reason: h.Reason})
		}
		if !isKnown {
			return tx.judgeLate(late, now)
		}

		if err := tx.saveStanding(run, &h, e, now); err != nil {
			return err
		}
		if err := errors.Join(tx.endServices(run, host, e, now), tx.endStopped(host, e), tx.endLook(host, e)); err != nil {
			return err
		}
		if old.State == Released { // it left the repo while the run was at work there
			h.State, h.Follows, h.Error = Released, false, ""
		}
		if err := tx.saveHost(h); err != nil {
			return err
		}
		if err := tx.saveMeeting(h, e, now); err != nil {
			return err
		}

		return tx.judgeLate(late, now)
	})
}

// giveUp ends all that host is open in with the outcome unknown.
func (tx *tx) giveUp(host string, now time.Time) error {
	return tx.db.mem.runs.GiveUp(host, func(o openruns.Run) error {
		tx.db.outcomes.Touch(o.Run)
		return tx.Add(endedResult, "result "+o.Run+" "+host,
			o.Run, host, o.Digest, store.Millis(o.At), store.Millis(now), OutcomeUnknown, "[]", lostDetails(o), 0, "")
	})
}

func (tx *tx) saveResult(run, host string, e End, now time.Time) error {
	details, err := results.Details(e.Details, e.Reason)
	if err != nil {
		return err
	}
	if err := tx.saveEvidence(run, host, e.Details); err != nil {
		return err
	}
	if o, isOpen := tx.openIn(run, host); isOpen && e.Outcome == OutcomeUnknown {
		details = lostDetails(o)
	}

	begun := tx.db.mem.runs.End(run, host)
	// An older run that never heard of its end there is over with this one.
	if err := tx.giveUp(host, now); err != nil {
		return err
	}

	delete(tx.db.mem.runs.Planned[run], host)
	tx.db.outcomes.Touch(run)
	return tx.Add(endedResult, "result "+run+" "+host, run, host, e.Digest, store.Millis(begun), store.Millis(now), e.Outcome, list(e.Changed), details, e.Took.Milliseconds(), e.Error)
}

// saveEvidence writes what a host saw in a run, where details are a result of the host.
func (tx *tx) saveEvidence(run, host string, details any) error {
	res, ok := details.(*bundle.Result)
	if !ok {
		return nil
	}
	return results.SaveEvidence(tx.Tx, run, host, res.Evidence)
}

func (tx *tx) saveStanding(run string, h *Host, e End, now time.Time) error {
	host := h.Name
	if e.Remember {
		tx.db.mem.failing[host] = true
		for _, digest := range e.Failed() {
			if _, err := tx.Exec(`INSERT OR REPLACE INTO failures(host, digest, run, outcome, error, reason, at) VALUES(?,?,?,?,?,?,?)`,
				host, digest, run, e.State, e.Error, e.Reason, store.Millis(now)); err != nil {
				return err
			}
		}

		_, err := tx.Exec(`DELETE FROM failures WHERE host = ?1 AND digest NOT IN (SELECT digest FROM failures WHERE host = ?1 ORDER BY at DESC LIMIT ?2)`, host, keepFailures)
		return err
	}
	if !e.Stood() {
		return nil
	}
	if tx.db.mem.failing[host] {
		if _, err := tx.Exec(`DELETE FROM failures WHERE host = ? AND digest = ?`, host, e.Digest); err != nil {
			return err
		}
	}
	if e.Manifest != nil {
		h.Given = e.Digest
		if err := tx.db.mem.manifests.Give(tx.Tx, e.Digest, e.Manifest); err != nil {
			return err
		}
	}
	if e.Record == nil || e.Record.Generation == 0 || e.Overtaken {
		return nil
	}

	tx.db.mem.generations.Add(host, Generation{Generation: e.Record.Generation, Digest: e.Digest, Commit: e.Commit, Origins: e.Origins, At: now})
	return nil
}

func list(s []string) string {
	if len(s) == 0 {
		return "[]"
	}
	p, err := json.Marshal(s)
	if err != nil {
		panic(err) // strings always encode
	}
	return string(p)
}
