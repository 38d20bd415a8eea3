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
	"bellhop/internal/history/store"
)

// A Host is what is remembered of one host.
type Host struct {
	Name         string
	State        State
	Follows      bool   // its bundle is what the top commit wants, so Commit is the top one
	Commit       string // the newest commit that it satisfies; "" for none
	Wanted       string // bundle digest, as planned last; "" when it could not be made
	Digest       string // last: bundle digest deployed; "" when none or not known
	Generation   int64
	DeployedAt   time.Time
	Run          string // that was last at work there
	Error        string
	BootID       string
	Arch         string // as its helper said
	Systemd      int    // version, as its helper said; 0 when not known
	KeysExpected int
	KeysPresent  int
	Reach        Reach
	Contact
	Reason   results.Reason // why it is unconfirmed; "" in any other state
	ReasonAt time.Time      // when it went back because of that; zero likewise
	Had      bool           // this deployer put something there once
	Given    string         // digest of the manifest it was given last; "" for none
}

// Reach is how a host was reached and called last; it outlives the host's place in the repo.
type Reach struct {
	Addresses []string `json:"addresses,omitempty"`
	HostKeys  []string `json:"host_keys,omitempty"`
	User      string   `json:"user,omitempty"`
	Jump      string   `json:"jump,omitempty"`
	Tags      []string `json:"tags,omitempty"`
	Sometimes bool     `json:"sometimes,omitempty"` // it is away at times, which is no failure
}

func (r Reach) json() string {
	p, err := json.Marshal(r)
	if err != nil {
		panic(err) // plain strings always encode
	}
	return string(p)
}

// HasKeys says that the host has keys, or had some that it lost.
func (h Host) HasKeys() bool { return h.KeysExpected > 0 || h.KeysPresent > 0 }

// IsUnheard says that the host could not be reached, or did not say what came of a push.
func (h Host) IsUnheard() bool { return h.State == Pending || h.State == Unknown }

// Hosts returns all hosts by name.
func (db *DB) Hosts() map[string]Host {
	db.mu.Lock()
	defer db.mu.Unlock()
	return maps.Clone(db.mem.hosts)
}

// Except returns the hosts that isListed does not know, by name. It costs less than Hosts where they are few.
func (db *DB) Except(isListed func(host string) bool) map[string]Host {
	db.mu.Lock()
	defer db.mu.Unlock()

	others := map[string]Host{}
	for name, h := range db.mem.hosts {
		if !isListed(name) {
			others[name] = h
		}
	}
	return others
}

// Host returns one host.
func (db *DB) Host(name string) (Host, bool) {
	db.mu.Lock()
	defer db.mu.Unlock()
	return db.mem.host(name)
}

// Top is the commit that hosts are held against: that of the last plan.
func (db *DB) Top() string {
	db.mu.Lock()
	defer db.mu.Unlock()
	return db.mem.top
}

const hostColumns = `name, state, follows, commit_id, wanted, digest, generation, deployed_at, run, error, boot_id, arch, keys_expected, keys_present, reach, had, given, systemd`

func readHosts(q store.Querier, open *openruns.Set) (map[string]Host, error) {
	rows, err := q.Query(`SELECT ` + hostColumns + ` FROM hosts`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	hosts := map[string]Host{}
	for rows.Next() {
		var h Host
		var at int64
		var reach string
		if err := rows.Scan(&h.Name, &h.State, &h.Follows, &h.Commit, &h.Wanted, &h.Digest, &h.Generation, &at, &h.Run, &h.Error,
			&h.BootID, &h.Arch, &h.KeysExpected, &h.KeysPresent, &reach, &h.Had, &h.Given, &h.Systemd); err != nil {
			return nil, err
		}
		if at != 0 {
			h.DeployedAt = time.UnixMilli(at).UTC()
		}
		if err := json.Unmarshal([]byte(reach), &h.Reach); err != nil {
			return nil, fmt.Errorf("host %s: %w", h.Name, err)
		}

		hosts[h.Name] = h
	}

	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return nil, err
	}
	if err := errors.Join(readContacts(q, hosts), readReasons(q, hosts)); err != nil {
		return nil, err
	}

	// That a host was begun is written once, not in its row: it is another run than the row knows of.
	for host, runs := range open.All() {
		if h, ok := hosts[host]; ok && h.Run != runs[len(runs)-1].Run {
			h.State, h.Run, h.Error = Deploying, runs[len(runs)-1].Run, ""
			hosts[host] = h
		}
	}

	return hosts, nil
}

// saveHost writes h and keeps it in memory. It is called inside write.
func (tx *tx) saveHost(h Host) error {
	old, known := tx.db.mem.hosts[h.Name]
	h = h.withReason(h.Reason, h.ReasonAt)
	err := saveReason(tx, old, h)
	if err != nil {
		return err
	}

	switch sameWay := known && old.Reach.equal(h.Reach); {
	case sameWay && old.replanned(h):
		err = tx.Add(plannedRows, "host "+h.Name, h.Name, h.State, h.Follows, h.Commit, h.Wanted, h.Run, h.Error, h.KeysExpected)
	case sameWay && old.pushed(h):
		err = tx.Add(pushedRows, "host "+h.Name, h.Name, h.State, h.Follows, h.Commit, h.Digest, h.Generation, store.Millis(h.DeployedAt), h.Run, h.Error,
			h.Had, h.Given)
	case sameWay:
		err = tx.Add(hostRows, "host "+h.Name, h.Name, h.State, h.Follows, h.Commit, h.Wanted, h.Digest, h.Generation, store.Millis(h.DeployedAt), h.Run,
			h.Error, h.BootID, h.Arch, h.KeysExpected, h.KeysPresent, h.Had, h.Given, h.Systemd)
	default:
		_, err = tx.Exec(`INSERT OR REPLACE INTO hosts(`+hostColumns+`) VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)`,
			h.Name, h.State, h.Follows, h.Commit, h.Wanted, h.Digest, h.Generation, store.Millis(h.DeployedAt), h.Run, h.Error,
			h.BootID, h.Arch, h.KeysExpected, h.KeysPresent, h.Reach.json(), h.Had, h.Given, h.Systemd)
	}

	if err != nil {
		return err
	}

	tx.note(h)
	return tx.db.mem.manifests.Move(tx.Tx, old.Given, h.Given)
}

// replanned says that o is h after a plan, and pushed that it is h after a push: such rows are most of
// those that are written, and a column costs as much as a row. What Begun leaves to the row of its
// result is written with both.
func (h Host) replanned(o Host) bool {
	h.Reason, h.ReasonAt = o.Reason, o.ReasonAt // they have a row of their own
	h.State, h.Follows, h.Commit, h.Wanted, h.Run, h.Error, h.KeysExpected = o.State, o.Follows, o.Commit, o.Wanted, o.Run, o.Error, o.KeysExpected
	return h.equal(o)
}

func (h Host) pushed(o Host) bool {
	h.Reason, h.ReasonAt = o.Reason, o.ReasonAt
	h.State, h.Follows, h.Commit, h.Digest, h.Generation, h.DeployedAt, h.Run, h.Error = o.State, o.Follows, o.Commit, o.Digest, o.Generation, o.DeployedAt, o.Run, o.Error
	h.Had, h.Given = o.Had, o.Given
	return h.equal(o)
}

var (
	plannedRows = store.NewRows(`INSERT INTO hosts(name, state, follows, commit_id, wanted, run, error, keys_expected) VALUES `, 8,
		` ON CONFLICT(name) DO UPDATE SET state = excluded.state, follows = excluded.follows, commit_id = excluded.commit_id,
		wanted = excluded.wanted, run = excluded.run, error = excluded.error, keys_expected = excluded.keys_expected`)
	pushedRows = store.NewRows(`INSERT INTO hosts(name, state, follows, commit_id, digest, generation, deployed_at, run, error, had, given) VALUES `, 11,
		` ON CONFLICT(name) DO UPDATE SET state = excluded.state, follows = excluded.follows, commit_id = excluded.commit_id, digest = excluded.digest,
		generation = excluded.generation, deployed_at = excluded.deployed_at, run = excluded.run, error = excluded.error, had = excluded.had, given = excluded.given`)
)

// hostRows leave the column reach of a host that is there as it is.
var hostRows = store.NewRows(`INSERT INTO hosts(name, state, follows, commit_id, wanted, digest, generation, deployed_at, run, error, boot_id, arch,
	keys_expected, keys_present, had, given, systemd) VALUES `, 17, ` ON CONFLICT(name) DO UPDATE SET state = excluded.state, follows = excluded.follows,
	commit_id = excluded.commit_id, wanted = excluded.wanted, digest = excluded.digest, generation = excluded.generation,
	deployed_at = excluded.deployed_at, run = excluded.run, error = excluded.error, boot_id = excluded.boot_id, arch = excluded.arch,
	keys_expected = excluded.keys_expected, keys_present = excluded.keys_present, had = excluded.had, given = excluded.given, systemd = excluded.systemd`)

// drop takes a host out of the file and of memory.
func (tx *tx) drop(name string) error {
	for _, query := range []string{`DELETE FROM hosts WHERE name = ?`, `DELETE FROM contacts WHERE host = ?`, `DELETE FROM unconfirmed WHERE host = ?`} {
		if _, err := tx.Exec(query, name); err != nil {
			return err
		}
	}
	if err := errors.Join(tx.db.mem.services.Forget(tx.Tx, name), tx.db.mem.looks.Drop(tx.Tx, name), tx.db.mem.stopped.Drop(tx.Tx, name), tx.db.mem.holds.Drop(tx.Tx, name)); err != nil {
		return err
	}

	// Nobody asks it any more what came of a run that it was begun in.
	if err := tx.giveUp(name, tx.db.clock()); err != nil {
		return err
	}

	h, ok := tx.db.mem.hosts[name]
	if !ok {
		return nil
	}
	tx.countAtWork(h.State, Released)
	tx.db.mem.forget(name)
	return tx.db.mem.manifests.Move(tx.Tx, h.Given, "")
}

// note keeps h in memory as the file now holds it.
func (tx *tx) note(h Host) {
	tx.countAtWork(tx.db.mem.hosts[h.Name].State, h.State)
	tx.db.mem.note(h)
}

// countAtWork follows a host from one state to another.
func (tx *tx) countAtWork(was, now State) {
	switch {
	case was != Deploying && now == Deploying:
		tx.db.atWork.Add(1)
	case was == Deploying && now != Deploying:
		tx.db.atWork.Add(-1)
	}
}

// Restless names the hosts that are neither current nor released, in no order.
func (db *DB) Restless() []string {
	db.mu.Lock()
	defer db.mu.Unlock()
	return slices.Collect(maps.Keys(db.mem.restless))
}

// Correct changes what is remembered of a host by what it said itself: edit gets the host as
// remembered. A host that is not known is no error and nothing happens.
//
// edit may run more than once. Most hosts say what is remembered, which costs no transaction.
func (db *DB) Correct(ctx context.Context, name string, edit func(*Host)) error {
	if _, differs := db.corrected(name, edit); !differs {
		return nil
	}
	return db.write(ctx, name, func(tx *tx) error {
		if h, differs := db.correctedLocked(name, edit); differs {
			return tx.saveHost(h)
		}
		return nil
	})
}

func (db *DB) corrected(name string, edit func(*Host)) (Host, bool) {
	db.mu.Lock()
	defer db.mu.Unlock()
	return db.correctedLocked(name, edit)
}

// correctedLocked is the host as edit leaves it, and whether that is another than is remembered.
func (db *DB) correctedLocked(name string, edit func(*Host)) (Host, bool) {
	h, ok := db.mem.hosts[name]
	if !ok {
		return h, false
	}
	was := h
	if h.Follows {
		h.Commit = db.mem.top
	}
	edit(&h)
	return h, !equalHost(was, h)
}

func equalHost(a, b Host) bool {
	if a.Follows && b.Follows {
		a.Commit, b.Commit = "", ""
	}
	ra, rb := a.Reach, b.Reach
	a.Reach, b.Reach = Reach{}, Reach{}
	return a.equal(b) && ra.equal(rb)
}

func (h Host) equal(o Host) bool {
	for _, same := range []bool{
		h.Name == o.Name, h.State == o.State, h.Follows == o.Follows, h.Commit == o.Commit, h.Wanted == o.Wanted,
		h.Digest == o.Digest, h.Generation == o.Generation, h.DeployedAt.Equal(o.DeployedAt), h.Run == o.Run, h.Error == o.Error,
		h.Reason == o.Reason, h.ReasonAt.Equal(o.ReasonAt), h.BootID == o.BootID, h.Arch == o.Arch,
		h.KeysExpected == o.KeysExpected, h.KeysPresent == o.KeysPresent, h.Had == o.Had, h.Given == o.Given, h.Systemd == o.Systemd,
	} {
		if !same {
			return false
		}
	}
	return true
}

// Elsewhere says that o leads to another machine, or to one that was installed anew: its host
// keys are pinned, and r knows none of them.
func (r Reach) Elsewhere(o Reach) bool {
	return len(r.HostKeys) > 0 && len(o.HostKeys) > 0 && !slices.ContainsFunc(o.HostKeys, func(k string) bool { return slices.Contains(r.HostKeys, k) })
}

func (r Reach) equal(o Reach) bool {
	sameRoute := r.User == o.User && r.Jump == o.Jump && slices.Equal(r.Addresses, o.Addresses)
	sameRest := slices.Equal(r.HostKeys, o.HostKeys) && slices.Equal(r.Tags, o.Tags) && r.Sometimes == o.Sometimes
	return sameRoute && sameRest
}

// Manifest returns the last manifest that host was given, with the digests of its keys, and
// its digest; nil when none is known. Its lists are shared: the caller changes nothing in them.
func (db *DB) Manifest(host string) (*bundle.Manifest, string, error) {
	db.mu.Lock()
	defer db.mu.Unlock()

	digest := db.mem.hosts[host].Given
	if digest == "" {
		return nil, "", nil
	}
	m, err := db.mem.manifests.Read(db.sql, digest)
	if err != nil {
		return nil, "", fmt.Errorf("read the manifest of %s: %w", host, err)
	}

	own := *m
	own.Host = host
	return &own, digest, nil
}

// Forget drops a host that left the repo, with its manifest, generations and failures. Its
// results stay in the runs.
func (db *DB) Forget(ctx context.Context, name string) error {
	return db.write(ctx, "that "+name+" is forgotten", func(tx *tx) error {
		if _, err := tx.Exec(`DELETE FROM failures WHERE host = ?`, name); err != nil {
			return err
		}
		db.mem.generations.Forget(name)
		return tx.drop(name)
	})
}

// Rename gives everything remembered of the host old to new: the record on the machine said
// that they are one. A row under the new name is replaced.
func (db *DB) Rename(ctx context.Context, old, new string) error {
	return db.write(ctx, old+" as "+new, func(tx *tx) error {
		h, ok := db.mem.hosts[old]
		if !ok {
			return nil
		}
		if _, err := tx.Exec(`DELETE FROM failures WHERE host = ?`, new); err != nil {
			return err
		}
		if _, err := tx.Exec(`UPDATE failures SET host = ? WHERE host = ?`, new, old); err != nil {
			return err
		}

		db.mem.generations.Inherit(old, new)
		db.mem.failing[new] = db.mem.failing[old]
		now, isPlanned := db.mem.hosts[new]
		if isPlanned { // as planned under the new name
			h.State, h.Wanted, h.Reach, h.Error, h.Run, h.KeysExpected = now.State, now.Wanted, now.Reach, now.Error, now.Run, now.KeysExpected
			h.Reason, h.ReasonAt = now.Reason, now.ReasonAt
			h.Contact = h.Contact.under(now.Contact)
			if h.Had && h.State == Never { // of the new name alone
				h.State = Behind
			}
		}

		h.Name = new
		if err := tx.saveHost(h); err != nil { // before old goes, whose manifest it takes over
			return err
		}
		if err := tx.saveContact(new, h.Contact); err != nil {
			return err
		}
		if err := errors.Join(db.mem.services.Rename(tx.Tx, old, new), tx.renameLook(old, new), tx.renameStop(old, new, isPlanned), tx.renameHold(old, new)); err != nil {
			return err
		}

		return tx.drop(old)
	})
}

// A Failure is a bundle that did not work on a host.
type Failure struct {
	Digest string
	Run    string
	State  State // in which it left the host
	Error  string
	Reason results.Reason // with State Unconfirmed
	At     time.Time
}

// Failures returns every failure remembered, by host and bundle digest.
func (db *DB) Failures() (map[string]map[string]Failure, error) {
	rows, err := db.sql.Query(`SELECT host, digest, run, outcome, error, reason, at FROM failures`)
	if err != nil {
		return nil, fmt.Errorf("read failures: %w", err)
	}
	defer rows.Close()
	all := map[string]map[string]Failure{}
	for rows.Next() {
		var host string
		var f Failure
		var at int64
		if err := rows.Scan(&host, &f.Digest, &f.Run, &f.State, &f.Error, &f.Reason, &at); err != nil {
			return nil, err
		}

		f.At = time.UnixMilli(at).UTC()
		if all[host] == nil {
			all[host] = map[string]Failure{}
		}

		all[host][f.Digest] = f
	}

	return all, rows.Err()
}
