package history

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"bellhop/internal/history/hosttable"
	"bellhop/internal/history/looks"
	"bellhop/internal/history/null"
	"bellhop/internal/history/openruns"
	"bellhop/internal/history/results"
	"bellhop/internal/history/runlist"
	"bellhop/internal/history/services"
	"bellhop/internal/history/stops"
)

// Version is "v" in everything that is printed as JSON.
const Version = 1

// Status is the state of the fleet. Its JSON is a contract: what does not exist is null, and
// no list is.
type Status struct {
	V       int                `json:"v"`
	Network *string            `json:"network"`
	Branch  *string            `json:"branch"`
	Commit  *string            `json:"commit"`
	Paused  bool               `json:"paused"`
	Pause   *stops.PauseStatus `json:"pause"` // null when runs are not paused
	// Waiting counts the commits that wait for the end of the pause, as far as bellhop has looked.
	Waiting int          `json:"waiting_commits"`
	Hosts   []HostStatus `json:"hosts"`
	// SyncError is what a running server adds while it can't read the repo.
	SyncError *SyncError `json:"sync_error,omitempty"`
	// Loading is what a running server adds while it reads a commit; null when it reads none.
	Loading *Loading `json:"loading"`
	// Poll is what a running server adds: how often it looks without being rung.
	Poll *PollStatus `json:"poll,omitempty"`
}

// A Loading is a commit that is being read and checked.
type Loading struct {
	Commit string    `json:"commit"`
	Since  time.Time `json:"since"`
}

// PollStatus says how often the remote is polled, 0 for never, and why.
type PollStatus struct {
	IntervalMs int64  `json:"interval_ms"`
	Reason     string `json:"reason"`
}

// A SyncError says since when the repo can't be read, and how the last look at it ended.
type SyncError struct {
	Since time.Time `json:"since"`
	Error string    `json:"error"`
}

// HostStatus is the state of one host.
type HostStatus struct {
	Name       string          `json:"name"`
	State      State           `json:"state"`
	Commit     *string         `json:"commit"`
	Generation *int64          `json:"generation"`
	DeployedAt *time.Time      `json:"deployed_at"`
	Run        *string         `json:"run"`
	Error      *string         `json:"error"`
	Reason     *results.Reason `json:"reason"` // why it is unconfirmed; null in any other state
	BootID     *string         `json:"boot_id"`
	Keys       KeyCount        `json:"keys"` // of a host that is away none is present
	SeenAt     *time.Time      `json:"seen_at"`
	AwaySince  *time.Time      `json:"away_since"` // since when it does not answer
	// Expected is "sometimes" of a host that is away at times, which is no failure.
	Expected string `json:"expected,omitempty"`
	// Units, Drift and RebootRequired are what the last look found, at LookedAt; null when there was none. Units are known as
	// soon as a run said how they do.
	Units          *looks.UnitStatus `json:"units"`
	Drift          *int              `json:"drift"`
	RebootRequired *bool             `json:"reboot_required"`
	LookedAt       *time.Time        `json:"looked_at"`
	// Services are all that the host holds, and those that could not be brought there, by name.
	Services []services.Status `json:"services"`
	// Held says who brought the host back to what it held before, where it is to stay; null when nobody did.
	Held *stops.HoldStatus `json:"held"`
	// CancelledBy is who cancelled the run that was to bring the host to the commit; null when nobody did.
	CancelledBy *string `json:"cancelled_by"`
}

// KeyCount counts a host's keys.
type KeyCount struct {
	Expected int `json:"expected"`
	Present  int `json:"present"`
}

// History lists runs, newest first. Its JSON is a contract.
type History struct {
	V    int   `json:"v"`
	Runs []Run `json:"runs"`
}

// A Run is one attempt to bring the fleet to a commit, and a RunResult is what came of it on one host.
type (
	Run       = runlist.Run
	RunResult = runlist.Result
)

// Status reads the state of the fleet, hosts by name, in one transaction: what it shows was
// so at one moment.
func (db *DB) Status(ctx context.Context) (Status, error) {
	s := Status{V: Version, Hosts: []HostStatus{}}
	err := db.read(ctx, func(tx *sql.Tx) error {
		top, err := meta(tx, "commit")
		if err != nil {
			return err
		}

		s.Commit = null.Text(top)
		for name, to := range map[string]**string{"network": &s.Network, "branch": &s.Branch} {
			v, err := meta(tx, name)
			if err != nil {
				return err
			}

			*to = null.Text(v)
		}

		pause, err := stops.ReadPause(tx)
		if err != nil {
			return err
		}
		if s.Paused, s.Pause = pause != nil, pause.Status(); s.Paused {
			s.Waiting = pause.Waiting
		}

		open, err := openruns.ReadBegun(tx)
		if err != nil {
			return err
		}

		hosts, err := readHosts(tx, open)
		if err != nil {
			return err
		}

		states, err := services.Read(tx)
		if err != nil {
			return err
		}

		holds, err := hosttable.Read(tx, stops.Holds())
		if err != nil {
			return err
		}

		stopped, err := hosttable.Read(tx, stops.Stops())
		if err != nil {
			return err
		}

		lastLooks, err := hosttable.Read(tx, looks.Stored())
		if err != nil {
			return err
		}

		for _, h := range hosts {
			one := hostStatus(h, top)
			one.Held = holds.Of(h.Name).Status()
			isWaiting := h.State != Current && h.State != Deploying && h.State != Released
			if stop := stopped.Of(h.Name); isWaiting && stop.IsOf(holds.Of(h.Name), top) {
				one.CancelledBy = null.Text(stop.CancelledBy)
			}
			if look, ok := lastLooks.Find(h.Name); ok {
				one.show(look)
			}

			names, err := db.names.Of(tx, h.Given)
			if err != nil {
				return err
			}

			one.Services = services.Complete(one.Commit, differing(h, states, holds.Of(h.Name)), names)
			s.Hosts = append(s.Hosts, one)
		}

		return nil
	})
	if err != nil {
		return Status{}, fmt.Errorf("read status: %w", err)
	}

	slices.SortFunc(s.Hosts, func(a, b HostStatus) int { return strings.Compare(a.Name, b.Name) })
	return s, nil
}

// differing are the services of a host that are not as it is. One that was brought back to a composed
// generation holds what that says.
func differing(h Host, states *services.Set, hold *stops.Hold) []services.Status {
	if h.State == Held && hold != nil && len(hold.Origins) > 0 {
		return services.Kept(hold.Origins)
	}
	return states.Of(h.Name)
}

func hostStatus(h Host, top string) HostStatus {
	commit := h.Commit
	if h.Follows {
		commit = top
	}

	s := HostStatus{
		Name: h.Name, State: h.State, Commit: null.Text(commit), DeployedAt: null.Time(h.DeployedAt), Run: null.Text(h.Run),
		Services: []services.Status{}, Error: null.Text(h.Error), BootID: null.Text(h.BootID), Keys: KeyCount{Expected: h.KeysExpected, Present: h.KeysPresent},
	}
	s.SeenAt, s.AwaySince = null.Time(h.SeenAt), null.Time(h.AwayAt)
	if s.AwaySince != nil {
		s.Keys.Present = 0 // they were in the RAM of a machine that may be off
	}
	if h.State == Unconfirmed && h.Reason != "" {
		s.Reason = &h.Reason
	}
	if h.Reach.Sometimes {
		s.Expected = sometimes
	}
	if h.Generation > 0 {
		s.Generation = &h.Generation
	}

	return s
}

const sometimes = "sometimes"

// Failing lists the hosts that a person should look at: neither current, nor released, nor
// at work.
func (s Status) Failing() []HostStatus {
	var bad []HostStatus
	for _, h := range s.Hosts {
		isExcused := h.State == Pending && h.Expected == sometimes
		switch {
		case isExcused, h.State == Current, h.State == Released, h.State == Deploying:
		default:
			bad = append(bad, h)
		}
	}
	return bad
}

// Runs reads the newest runs, at most limit of them (0: 50). With hosts, only those that list
// one of them.
func (db *DB) Runs(ctx context.Context, limit int, hosts ...string) (History, error) {
	if limit <= 0 {
		limit = 50
	}
	if len(hosts) == 0 {
		return db.runs(ctx, `ORDER BY seq DESC LIMIT ?1`, limit)
	}

	names, err := json.Marshal(hosts)
	if err != nil {
		return History{}, err
	}
	return db.runs(ctx, `WHERE EXISTS(SELECT 1 FROM results r WHERE r.run = runs.id AND r.host IN (SELECT value FROM json_each(?2)))
		OR EXISTS(SELECT 1 FROM json_each(planned) WHERE value IN (SELECT value FROM json_each(?2))) ORDER BY seq DESC LIMIT ?1`, limit, string(names))
}

// Run reads one run. ErrNoRun says that there is none of that id.
func (db *DB) Run(ctx context.Context, id string) (*Run, error) {
	h, err := db.runs(ctx, `WHERE id = ?1`, id)
	if err != nil {
		return nil, err
	}
	if len(h.Runs) == 0 {
		return nil, fmt.Errorf("run %s: %w", id, ErrNoRun)
	}
	return &h.Runs[0], nil
}

// ErrNoRun says that no run of that id is remembered.
var ErrNoRun = errors.New("no such run")

func (db *DB) runs(ctx context.Context, where string, args ...any) (History, error) {
	h := History{V: Version}
	err := db.read(ctx, func(tx *sql.Tx) (err error) {
		h.Runs, err = runlist.Read(tx, where, args...)
		return err
	})
	if err != nil {
		return History{}, fmt.Errorf("read history: %w", err)
	}
	return h, nil
}

// read runs f in a transaction that sees one moment and takes no lock that a writer waits for.
func (db *DB) read(ctx context.Context, f func(tx *sql.Tx) error) error {
	tx, err := db.sql.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return err
	}
	defer tx.Rollback()
	return f(tx)
}
