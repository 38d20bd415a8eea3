package history_test

import (
	"database/sql"
	"fmt"
	mathrand "math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"bellhop/internal/bundle"
	"bellhop/internal/history"
)

// sameAsFile holds what is in memory against what a reader of the file finds.
func sameAsFile(t *testing.T, step int, db *history.DB, path string) {
	t.Helper()
	r, err := history.OpenRead(path)
	must(t, err)
	ms := cmp.Transformer("ms", func(t time.Time) int64 { return t.UnixMilli() })
	diff := cmp.Diff(db.Hosts(), r.Hosts(), ms) + cmp.Diff(db.Opened(), r.Opened()) + cmp.Diff(db.Ahead(), r.Ahead()) +
		cmp.Diff(db.Kept(), r.Kept(), ms, cmpopts.IgnoreUnexported(history.Generation{}))
	must(t, r.Close())
	if diff != "" {
		t.Fatalf("step %d: memory against the file (-memory +file):\n%s", step, diff)
	}
}

// Many hosts at once, in transactions that they share and that fail for one of them, while others are
// forgotten, renamed and installed anew: memory is the file, and no row stays for nothing.
func TestManyAtOnceIsTheFile(t *testing.T) {
	steps := 400
	if testing.Short() {
		steps = 80
	}
	const hosts = 9
	path := filepath.Join(t.TempDir(), "bellhop.db")
	db := open(t, path)
	ctx := t.Context()
	dice := mathrand.New(mathrand.NewPCG(3, 4))
	outcomes := []history.Outcome{bundle.OutcomeDone, bundle.OutcomeDone, bundle.OutcomeNothing, bundle.OutcomeFailed, history.OutcomeUnknown, history.OutcomePending}
	var stands, newest [hosts]int64 // by host: the generation there, the run that it was in last
	var ids []string
	for step := range steps {
		if step == 0 || dice.IntN(6) == 0 {
			id := fmt.Sprint("r", step)
			var ps []history.Planned
			for i := range hosts {
				p := history.Planned{Name: fmt.Sprint("h", i), State: history.Behind, Wanted: "d", Listed: true}
				if dice.IntN(8) == 0 {
					p.State, p.Outcome, p.Error = history.Refused, history.OutcomeRefused, "no"
				}
				ps = append(ps, p)
			}
			must(t, db.Plan(ctx, run(id, "c"+id), "c"+id, ps, nil))
			ids = append(ids, id)
		}
		var all sync.WaitGroup
		for _, h := range dice.Perm(hosts)[:1+dice.IntN(6)] {
			newest[h] = max(newest[h], int64(len(ids)-1-dice.IntN(3))) // a host is held by one run at a time
			id, host := ids[newest[h]], fmt.Sprint("h", h)
			fails := false
			var do func() error
			switch dice.IntN(8) {
			case 0, 1, 2, 3:
				do = func() error { return db.Begun(ctx, id, host, "d") }
			case 4, 5, 6:
				e := history.End{Outcome: outcomes[dice.IntN(len(outcomes))], Digest: "d", Commit: "c" + id, State: history.Failed, Error: "no"}
				if e.Stood() {
					switch dice.IntN(8) {
					case 0: // installed anew
						stands[h] = 0
					case 1: // others were there in between
						stands[h] += dice.Int64N(8)
					}
					stands[h]++
					e.Error, e.Record, e.Manifest = "", record(stands[h], "d"), &bundle.Manifest{}
				}
				if fails = dice.IntN(12) == 0; fails {
					e.Details = make(chan int) // that no JSON can hold
				}
				do = func() error { return db.Ended(ctx, id, host, e) }
			default:
				do = func() error { return db.FinishRun(ctx, run(id, "c"+id), "", "") }
			}
			all.Go(func() {
				if err := do(); (err != nil) != fails {
					t.Errorf("step %d: %v", step, err)
				}
			})
		}
		all.Wait()
		switch h := dice.IntN(hosts); dice.IntN(30) {
		case 0:
			must(t, db.Forget(ctx, fmt.Sprint("h", h)))
			stands[h] = 0
		case 1:
			heir := (h + 1) % hosts
			must(t, db.Rename(ctx, fmt.Sprint("h", h), fmt.Sprint("h", heir)))
			stands[heir], newest[heir] = stands[h], max(newest[h], newest[heir])
		case 2:
			must(t, db.Close())
			db = open(t, path)
			if dice.IntN(2) == 0 {
				_, err := db.Recover(ctx)
				must(t, err)
			}
			must(t, db.Outgoing().Ack(ctx, 0)) // a transaction, which sweeps
		}
		if err := db.Sound(); err != nil {
			t.Fatalf("step %d: %v", step, err)
		}
		sameAsFile(t, step, db, path)
	}
}

// What was rolled back does not come into the file later, though it could not be read afresh at once.
func TestRolledBackStaysSo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bellhop.db")
	db := open(t, path)
	ctx := t.Context()
	must(t, db.Plan(ctx, run("r1", "c1"), "c1", []history.Planned{{Name: "h", State: history.Behind, Wanted: "d", Listed: true}, {Name: "i", State: history.Behind, Wanted: "d", Listed: true}}, nil))
	again := db.Unreadable()
	if err := db.Undone(ctx, "r1", "h"); err == nil {
		t.Fatal("what failed was stored")
	}
	if err := db.Begun(ctx, "r1", "h", "d"); err == nil {
		t.Error("something was stored in a file that can't be read")
	}
	again()
	must(t, db.Begun(ctx, "r1", "i", "d"))
	r, err := history.OpenRead(path)
	must(t, err)
	defer r.Close()
	if diff := cmp.Diff(map[string][]string{"i": {"r1 d"}}, r.Opened()) + cmp.Diff(map[string][]history.Generation{}, r.Kept()); diff != "" {
		t.Errorf("in the file (-want +got):\n%s", diff)
	}
}

// A host that ends after its run, which began before the clock was set, ends in it.
func TestRunOfAnUnsetClock(t *testing.T) {
	db := fresh(t)
	ctx := t.Context()
	s := history.Start{ID: "r1", Commit: "c1", Cause: "push", At: time.Unix(100, 0)}
	must(t, db.Plan(ctx, s, "c1", []history.Planned{{Name: "h", State: history.Behind, Wanted: "d", Listed: true}}, nil), db.FinishRun(ctx, s, "", ""),
		db.Begun(ctx, "r1", "h", "d"), db.Ended(ctx, "r1", "h", history.End{Outcome: bundle.OutcomeDone, Digest: "d"}), db.Sound())
	r, err := db.Run(ctx, "r1")
	must(t, err)
	if len(r.Hosts) != 1 || text(r.Hosts[0].Outcome) != bundle.OutcomeDone {
		t.Errorf("the run has %+v, want h done", r.Hosts)
	}
}

// A file of another version says which bellhop reads it.
func TestOtherVersions(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bellhop.db")
	must(t, open(t, path).Close())
	change := func(by string) {
		raw, err := sql.Open("sqlite", path)
		must(t, err)
		defer raw.Close()
		_, err = raw.Exec(`UPDATE goose_db_version SET version_id = version_id ` + by + ` WHERE version_id = (SELECT max(version_id) FROM goose_db_version)`)
		must(t, err)
	}
	tell := func(what string, err error, want string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s = %v, want %q", what, err, want)
		}
	}
	change("+ 1")
	_, err := history.OpenRead(path)
	tell("OpenRead of a newer file", err, "a newer bellhop")
	_, err = history.Open(path)
	tell("Open of a newer file", err, "a newer bellhop")
	change("- 2")
	_, err = history.OpenRead(path)
	tell("OpenRead of an older file", err, "an older bellhop")
}
