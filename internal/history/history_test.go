package history_test

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bellhop/internal/bundle"
	"bellhop/internal/history"
	"bellhop/internal/history/deliveries"
)

func TestMain(m *testing.M) {
	if path := os.Getenv("HISTORY_TEST_CHILD"); path != "" {
		child(path)
		return
	}
	os.Exit(m.Run())
}

func open(t *testing.T, path string) *history.DB {
	t.Helper()
	db, err := history.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func fresh(t *testing.T) *history.DB { return open(t, filepath.Join(t.TempDir(), "bellhop.db")) }

func run(id, commit string) history.Start {
	return history.Start{ID: id, Commit: commit, Author: "cadey", Subject: "do it", Cause: "push", At: time.Now()}
}

func record(gen int64, digest string) *bundle.Record {
	return &bundle.Record{Network: "n", Host: "h", Deployer: "d", Generation: gen, Digest: digest, BootID: "boot"}
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// deploy takes host h through a whole run that ends well.
func deploy(t *testing.T, db *history.DB, id, commit, digest string, gen int64) {
	t.Helper()
	ctx := t.Context()
	must(t,
		db.Plan(ctx, run(id, commit), commit, []history.Planned{{Name: "h", State: history.Behind, Wanted: digest, Listed: true}}, nil),
		db.Begun(ctx, id, "h", digest),
		db.Ended(ctx, id, "h", history.End{Outcome: bundle.OutcomeDone, Digest: digest, Commit: commit, Changed: []string{"file:/etc/x"},
			Record: record(gen, digest), BootID: "boot", Manifest: &bundle.Manifest{Host: "h"}, Took: time.Second}),
		db.FinishRun(ctx, run(id, commit), history.OutcomeDone, ""))
}

func status(t *testing.T, db *history.DB) history.Status {
	t.Helper()
	s, err := db.Status(t.Context())
	must(t, err)
	return s
}

func TestJSONContract(t *testing.T) {
	db := fresh(t)
	ctx := t.Context()
	must(t, db.Network(ctx, "hexagone", "main"))
	deploy(t, db, "r1", "c1", "d1", 1)
	must(t, db.Plan(ctx, run("r2", "c2"), "c2", []history.Planned{{Name: "new", State: history.Never, Wanted: "d9", Listed: true}}, nil))

	keys := func(v any) string {
		p, err := json.Marshal(v)
		must(t, err)
		var m any
		must(t, json.Unmarshal(p, &m))
		return shape(m)
	}
	s, want := keys(status(t, db)), `{branch:string,commit:string,hosts:[{away_since:null,boot_id:string,cancelled_by:null,commit:string,deployed_at:string,drift:null,error:null,generation:number,held:null,keys:{expected:number,present:number},looked_at:null,name:string,reason:null,reboot_required:null,run:string,seen_at:null,services:[],state:string,units:null},{away_since:null,boot_id:null,cancelled_by:null,commit:null,deployed_at:null,drift:null,error:null,generation:null,held:null,keys:{expected:number,present:number},looked_at:null,name:string,reason:null,reboot_required:null,run:null,seen_at:null,services:[],state:string,units:null}],loading:null,network:string,pause:null,paused:bool,v:number,waiting_commits:number}`
	if s != want {
		t.Errorf("shape of status:\n got %s\nwant %s", s, want)
	}
	h, err := db.Runs(ctx, 0)
	must(t, err)
	s, want = keys(h), `{runs:[{author:string,cause:string,commit:string,finished_at:null,hosts:[{changed:[],error:null,evidence:[],name:string,outcome:null,reason:null,restored:[],took_ms:number}],id:string,outcome:null,started_at:string,subject:string},{author:string,cause:string,commit:string,finished_at:string,hosts:[{changed:[string],error:null,evidence:[],name:string,outcome:string,reason:null,restored:[],took_ms:number}],id:string,outcome:string,started_at:string,subject:string}],v:number}`
	if s != want {
		t.Errorf("shape of history:\n got %s\nwant %s", s, want)
	}
	empty := fresh(t)
	p, err := json.Marshal(status(t, empty))
	must(t, err)
	if got, want := string(p), `{"v":1,"network":null,"branch":null,"commit":null,"paused":false,"pause":null,"waiting_commits":0,"hosts":[],"loading":null}`; got != want {
		t.Errorf("status of an empty history is %s, want %s", got, want)
	}
}

// shape writes the names and kinds of a JSON value.
func shape(v any) string {
	switch v := v.(type) {
	case map[string]any:
		var fs []string
		for _, k := range sortedKeys(v) {
			fs = append(fs, k+":"+shape(v[k]))
		}
		return "{" + strings.Join(fs, ",") + "}"
	case []any:
		var es []string
		for _, e := range v {
			es = append(es, shape(e))
		}
		return "[" + strings.Join(es, ",") + "]"
	case string:
		return "string"
	case float64:
		return "number"
	case bool:
		return "bool"
	}
	return "null"
}

func sortedKeys(m map[string]any) []string {
	var ks []string
	for k := range m {
		ks = append(ks, k)
	}
	for i := range ks {
		for j := i + 1; j < len(ks); j++ {
			if ks[j] < ks[i] {
				ks[i], ks[j] = ks[j], ks[i]
			}
		}
	}
	return ks
}

// A host whose bundle is unchanged follows the top commit, and nobody writes its row.
func TestUnchangedHostFollowsTheTopCommit(t *testing.T) {
	db := fresh(t)
	ctx := t.Context()
	deploy(t, db, "r1", "c1", "d1", 1)
	must(t, db.Plan(ctx, run("r2", "c2"), "c2", nil, nil))
	if h := status(t, db).Hosts[0]; *h.Commit != "c2" || h.State != history.Current {
		t.Errorf("after a commit that leaves it alone, host is %s at %s, want current at c2", h.State, *h.Commit)
	}
	must(t, db.Plan(ctx, run("r3", "c3"), "c3", []history.Planned{{Name: "h", State: history.Behind, Wanted: "d2"}}, nil))
	s := status(t, db)
	if h := s.Hosts[0]; *s.Commit != "c3" || *h.Commit != "c2" || h.State != history.Behind {
		t.Errorf("after a commit that changes it, top is %s and host %s at %s, want c3, behind at c2", *s.Commit, h.State, *h.Commit)
	}
}

func TestFollowingSurvivesReopening(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bellhop.db")
	db := open(t, path)
	deploy(t, db, "r1", "c1", "d1", 1)
	must(t, db.Plan(t.Context(), run("r2", "c2"), "c2", nil, nil), db.Close())
	db = open(t, path)
	h, _ := db.Host("h")
	if h.Commit != "c2" || len(db.Restless()) != 0 {
		t.Errorf("reopened: host at %q, restless %v; want c2, none", h.Commit, db.Restless())
	}
}

func TestRefusedCommitMovesTheTop(t *testing.T) {
	db := fresh(t)
	deploy(t, db, "r1", "c1", "d1", 1)
	s := run("r2", "c2")
	s.Refused = true
	must(t, db.Plan(t.Context(), s, "c2", []history.Planned{{Name: "h", State: history.Refused, Error: "bad.yaml:1:1: no", Listed: true, Outcome: history.OutcomeRefused}}, nil))
	st := status(t, db)
	if h := st.Hosts[0]; *st.Commit != "c2" || h.State != history.Refused || h.Error == nil || *h.Commit != "c1" {
		t.Errorf("after a refused commit: %s, host %+v; want top c2, host refused with error at c1", *st.Commit, h)
	}
	if c, err := db.Accepted(); err != nil || c != "c1" {
		t.Errorf("Accepted() = %q, %v; want c1", c, err)
	}
}

func TestNewerPlanLeavesADetachedHostBehind(t *testing.T) {
	db := fresh(t)
	ctx := t.Context()
	must(t,
		db.Plan(ctx, run("r1", "c1"), "c1", []history.Planned{{Name: "h", State: history.Never, Wanted: "d1", Listed: true}}, nil),
		db.Begun(ctx, "r1", "h", "d1"),
		db.Plan(ctx, run("r2", "c2"), "c2", []history.Planned{{Name: "h", State: history.Deploying, Wanted: "d2"}}, nil),
		db.Ended(ctx, "r1", "h", history.End{Outcome: bundle.OutcomeDone, Digest: "d1", Commit: "c1", Record: record(1, "d1")}))
	if h := status(t, db).Hosts[0]; h.State != history.Behind || *h.Commit != "c1" {
		t.Errorf("host that got c1 while c2 was planned is %s at %s, want behind at c1", h.State, *h.Commit)
	}
}

// A host that ends after its run changes what the run came to, as is told once.
func TestLateHostChangesItsRun(t *testing.T) {
	for _, tt := range []struct{ run, first, late, want history.Outcome }{
		{"nothing", bundle.OutcomeNothing, bundle.OutcomeRolledBack, history.OutcomeFailed},
		{"done", bundle.OutcomeDone, bundle.OutcomeRolledBack, history.OutcomePartial},
		{"done", bundle.OutcomeDone, bundle.OutcomeDone, history.OutcomeDone},
		{"cancelled", history.OutcomeCancelled, bundle.OutcomeDone, history.OutcomeCancelled},
	} {
		db := fresh(t)
		ctx := t.Context()
		plan := []history.Planned{{Name: "a", State: history.Behind, Wanted: "x", Listed: true}, {Name: "b", State: history.Behind, Wanted: "x", Listed: true}}
		must(t,
			db.Plan(ctx, run("1", "c"), "c", plan, nil),
			db.Begun(ctx, "1", "a", "x"), db.Begun(ctx, "1", "b", "x"),
			db.Ended(ctx, "1", "a", history.End{Outcome: tt.first, Digest: "x"}),
			db.FinishRun(ctx, run("1", "c"), "", ""))
		r, err := db.Run(ctx, "1")
		must(t, err)
		if *r.Outcome != tt.run {
			t.Errorf("with one host %s and one at work the run is %s, want %s", tt.first, *r.Outcome, tt.run)
		}
		must(t, db.Ended(ctx, "1", "b", history.End{Outcome: tt.late, Digest: "x"}))
		r, err = db.Run(ctx, "1")
		must(t, err)
		if *r.Outcome != tt.want {
			t.Errorf("%s, and later %s: the run is %s, want %s", tt.first, tt.late, *r.Outcome, tt.want)
		}
	}
}

// A run that its deployer's end cut short is cancelled, until all of its hosts have ended by themselves: then what came of
// them is what came of it. With one that was never begun it stays cancelled.
func TestCancelledRunWhoseHostsWentOn(t *testing.T) {
	for _, tt := range []struct {
		begun bool // b was begun too
		want  history.Outcome
	}{{true, history.OutcomeDone}, {false, history.OutcomeCancelled}} {
		db := fresh(t)
		ctx := t.Context()
		plan := []history.Planned{{Name: "a", State: history.Behind, Wanted: "x", Listed: true}, {Name: "b", State: history.Behind, Wanted: "x", Listed: true}}
		must(t, db.Plan(ctx, run("1", "c"), "c", plan, nil), db.Begun(ctx, "1", "a", "x"))
		if tt.begun {
			must(t, db.Begun(ctx, "1", "b", "x"), db.Ended(ctx, "1", "b", history.End{Outcome: bundle.OutcomeDone, Digest: "x"}))
		}
		must(t,
			db.FinishRun(ctx, run("1", "c"), history.OutcomeCancelled, ""),
			db.Ended(ctx, "1", "a", history.End{Outcome: bundle.OutcomeDone, Digest: "x"}))
		r, err := db.Run(ctx, "1")
		must(t, err)
		if *r.Outcome != tt.want {
			t.Errorf("with the other host begun %v, the run is %s, want %s", tt.begun, *r.Outcome, tt.want)
		}
	}
}

func TestFailureIsRememberedByDigest(t *testing.T) {
	db := fresh(t)
	ctx := t.Context()
	must(t, db.Plan(ctx, run("r1", "c1"), "c1", []history.Planned{{Name: "h", State: history.Never, Wanted: "d1", Listed: true}}, nil),
		db.Begun(ctx, "r1", "h", "d1"),
		db.Ended(ctx, "r1", "h", history.End{Outcome: bundle.OutcomeRolledBack, State: history.RolledBack, Digest: "d1", Remember: true, Error: "no"}))
	fs, err := db.Failures()
	must(t, err)
	if f := fs["h"]["d1"]; f.State != history.RolledBack || f.Error != "no" {
		t.Errorf("Failures() = %v, want d1 rolled back", fs)
	}
	deploy(t, db, "r2", "c1", "d1", 1)
	if fs, err = db.Failures(); err != nil || len(fs["h"]) != 0 {
		t.Errorf("after it worked, Failures() = %v, %v; want none", fs, err)
	}
}

func TestGenerationsAndTheirCommits(t *testing.T) {
	db := fresh(t)
	for i := range int64(9) {
		deploy(t, db, fmt.Sprint("r", i), fmt.Sprint("c", i), fmt.Sprint("d", i), i+1)
	}
	cs := db.Commits()
	if diff := cmp.Diff([]string{"c3", "c4", "c5", "c6", "c7", "c8"}, cs); diff != "" {
		t.Errorf("commits to keep (-want +got):\n%s", diff)
	}
	// A wiped host counts from 1 again: what it lost is forgotten.
	deploy(t, db, "again", "c9", "d9", 1)
	gs := db.Generations("h")
	if len(gs) != 1 || gs[0].Commit != "c9" {
		t.Errorf("generations of a host that began anew: %v, want one, from c9", gs)
	}
}

func TestRunThatWasNeverHeardOfEndsWithTheNext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bellhop.db")
	db := open(t, path)
	must(t, db.Plan(t.Context(), run("r1", "c1"), "c1", []history.Planned{{Name: "h", State: history.Behind, Wanted: "d1", Listed: true}}, nil),
		db.Begun(t.Context(), "r1", "h", "d1"), db.Close())
	db = open(t, path)
	deploy(t, db, "r2", "c2", "d2", 1)
	if left, err := db.Recover(t.Context()); err != nil || len(left) != 0 {
		t.Errorf("Recover() after a newer run ended there = %v, %v; want nothing open", left, err)
	}
}

func TestReleasedAndForgotten(t *testing.T) {
	db := fresh(t)
	deploy(t, db, "r1", "c1", "d1", 1)
	must(t, db.Plan(t.Context(), run("r2", "c2"), "c2", nil, []string{"h"}))
	if h := status(t, db).Hosts[0]; h.State != history.Released || *h.Commit != "c1" {
		t.Errorf("host that left is %s at %s, want released at c1", h.State, *h.Commit)
	}
	must(t, db.Forget(t.Context(), "h"))
	if n := len(status(t, db).Hosts); n != 0 {
		t.Errorf("%d hosts after Forget, want 0", n)
	}
}

// That a host was begun is written once; whoever reads the file beside the writer, or after it was
// killed, hears of it all the same.
func TestBegunIsSeenByReaders(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bellhop.db")
	db := open(t, path)
	deploy(t, db, "r1", "c1", "d1", 1)
	seen := func() string {
		t.Helper()
		r, err := history.OpenRead(path)
		must(t, err)
		defer r.Close()
		s := status(t, r)
		if len(s.Hosts) == 0 {
			return "none"
		}
		return fmt.Sprint(s.Hosts[0].State, " ", *s.Hosts[0].Run)
	}
	want := func(want string) {
		t.Helper()
		if got := seen(); got != want {
			t.Errorf("a reader sees the host %s, want %s", got, want)
		}
	}
	behind := []history.Planned{{Name: "h", State: history.Behind, Wanted: "d2", Listed: true}}
	must(t, db.Plan(t.Context(), run("r2", "c2"), "c2", behind, nil))
	want("behind r1")
	must(t, db.Begun(t.Context(), "r2", "h", "d2"))
	want("deploying r2")
	must(t, db.Ended(t.Context(), "r2", "h", history.End{Outcome: history.OutcomeUnknown, State: history.Unknown, Digest: "d2", Error: "lost"}))
	want("unknown r2")
	must(t, db.Begun(t.Context(), "r2", "h", "d2")) // again in the same run
	want("deploying r2")
	if _, err := db.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	want("unknown r2")
	must(t, db.Plan(t.Context(), run("r3", "c3"), "c3", behind, nil), db.Begun(t.Context(), "r3", "h", "d2"))
	want("deploying r3")
	if _, err := db.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	want("unknown r3")
	must(t, db.Plan(t.Context(), run("r4", "c4"), "c4", behind, nil), db.Begun(t.Context(), "r4", "h", "d2"), db.Forget(t.Context(), "h"))
	want("none")
}

// What is in memory is what the file holds, and what a reader of it sees, whatever came before.
func TestMemoryIsTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bellhop.db")
	db := open(t, path)
	ctx := t.Context()
	dice := mathrand.New(mathrand.NewPCG(1, 2))
	states := []history.State{history.Current, history.Behind, history.Pending, history.Failed, history.Refused, history.Deploying}
	outcomes := []history.Outcome{bundle.OutcomeDone, bundle.OutcomeNothing, bundle.OutcomeFailed, bundle.OutcomeRolledBack, history.OutcomeUnknown, history.OutcomePending, history.OutcomeRefused}
	word := func(prefix string) string { return fmt.Sprint(prefix, dice.IntN(4)) }
	stands := map[string]int64{}
	id := "first"
	must(t, db.Plan(ctx, run(id, "c0"), "c0", nil, nil))
	steps := 1500
	if testing.Short() {
		steps = 300
	}
	for step := range steps {
		host := word("h")
		switch dice.IntN(6) {
		case 0:
			if dice.IntN(2) == 0 { // else it is never heard of again
				must(t, db.FinishRun(ctx, run(id, "c0"), "", ""))
			}
			id = fmt.Sprint("r", step)
			p := history.Planned{Name: host, State: states[dice.IntN(len(states))], Wanted: word("d"), Follows: dice.IntN(3) == 0, Keys: dice.IntN(2), Listed: true}
			if dice.IntN(4) == 0 {
				p.Error, p.Reach = word("no "), history.Reach{User: word("u"), HostKeys: []string{word("key ")}}
			}
			must(t, db.Plan(ctx, run(id, word("c")), word("c"), []history.Planned{p}, nil))
		case 1, 2:
			var all sync.WaitGroup
			for i := range 1 + dice.IntN(4) { // in one transaction, as it happens
				all.Go(func() {
					if err := db.Begun(ctx, id, fmt.Sprint("h", i), "d"); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
		case 3:
			e := history.End{Outcome: outcomes[dice.IntN(len(outcomes))], Digest: word("d"), Commit: word("c"), Present: []*int{nil, new(0), new(1)}[dice.IntN(3)], Took: time.Second}
			if e.Stood() {
				switch dice.IntN(8) {
				case 0: // a life that the host has lost
					stands[host] = 1
				case 1: // others were there in between
					stands[host] += dice.Int64N(8)
				case 2: // the same
				default:
					stands[host]++
				}
				e.Record, e.Manifest, e.BootID = record(stands[host], e.Digest), &bundle.Manifest{Host: host}, word("boot")
			} else {
				e.State, e.Error, e.Remember = history.Failed, word("no "), dice.IntN(2) == 0
			}
			must(t, db.Ended(ctx, id, host, e))
		case 4:
			must(t, db.Correct(ctx, host, func(h *history.Host) { h.Arch, h.Systemd, h.KeysPresent = word("arch"), 250+dice.IntN(3), dice.IntN(3) }))
		case 5:
			switch dice.IntN(8) {
			case 0:
				must(t, db.Forget(ctx, host))
			case 1:
				if heir := word("h"); heir != host {
					must(t, db.Rename(ctx, host, heir))
				}
			}
		}
		sameAsFile(t, step, db, path)
	}
}

// A run lists who it is to push before it comes to them, also after it was cut short.
func TestRunListsWhoItIsToPush(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bellhop.db")
	db := open(t, path)
	ctx := t.Context()
	ps := []history.Planned{{Name: "c", State: history.Behind, Wanted: "d", Listed: true}, {Name: "a", State: history.Behind, Wanted: "d", Listed: true},
		{Name: "b", State: history.Refused, Outcome: history.OutcomeRefused, Error: "no", Listed: true}, {Name: "d", State: history.Current, Wanted: "d"}}
	must(t, db.Plan(ctx, run("r1", "c1"), "c1", ps, nil))
	tell := func(host string) string {
		t.Helper()
		h, err := db.Runs(ctx, 10, strings.Fields(host)...)
		must(t, err)
		var s strings.Builder
		for _, r := range h.Runs {
			for _, h := range r.Hosts {
				fmt.Fprint(&s, h.Name, ":", text(h.Outcome), " ")
			}
		}
		return strings.TrimSpace(s.String())
	}
	want := func(want string, host string) {
		t.Helper()
		if got := tell(host); got != want {
			t.Errorf("runs of %q list %q, want %q", host, got, want)
		}
	}
	want("a:null b:refused c:null", "")
	want("a:null b:refused c:null", "c")
	want("", "d")
	must(t, db.Begun(ctx, "r1", "c", "d"))
	want("a:null b:refused c:null", "c")
	must(t, db.Ended(ctx, "r1", "c", history.End{Outcome: bundle.OutcomeDone, Digest: "d", Commit: "c1", Record: record(1, "d")}))
	want("a:null b:refused c:done", "")
	must(t, db.FinishRun(ctx, run("r1", "c1"), "", "")) // a was detached while it waited for its turn
	want("a:null b:refused c:done", "a")
	must(t, db.Close())
	db = open(t, path)
	_, err := db.Recover(ctx)
	must(t, err)
	want("a:null b:refused c:done", "a")
	must(t, db.Ended(ctx, "r1", "a", history.End{Outcome: history.OutcomePending, State: history.Pending, Error: "away"}))
	want("a:pending b:refused c:done", "a")
}

func text[T ~string](s *T) string {
	if s == nil {
		return "null"
	}
	return string(*s)
}

// A host that is forgotten while a run is at work there, and comes back, is a new one.
func TestForgottenWhileBegun(t *testing.T) {
	db := fresh(t)
	never := []history.Planned{{Name: "h", State: history.Never, Wanted: "d1", Listed: true}}
	must(t, db.Plan(t.Context(), run("r1", "c1"), "c1", never, nil), db.Begun(t.Context(), "r1", "h", "d1"),
		db.Plan(t.Context(), run("r2", "c2"), "c2", nil, []string{"h"}), db.Forget(t.Context(), "h"),
		db.Plan(t.Context(), run("r3", "c3"), "c3", never, nil))
	if h, _ := db.Host("h"); h.State != history.Never || status(t, db).Hosts[0].State != history.Never {
		t.Errorf("memory says %s, the file %s, want never", h.State, status(t, db).Hosts[0].State)
	}
	if left, err := db.Recover(t.Context()); err != nil || len(left) != 0 {
		t.Errorf("Recover() = %v, %v; want nothing open", left, err)
	}
}

// A file of an earlier version keeps its generations, and each new one drops the oldest. What was at
// work when it was left stays open.
func TestEarlierFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bellhop.db")
	must(t, open(t, path).Close())
	raw, err := sql.Open("sqlite", path)
	must(t, err)
	for _, q := range []string{
		`DROP TABLE looks`, `DROP TABLE host_services`, `DROP TABLE failed_services`, `DROP TABLE stopped`, `DROP TABLE targets`, `DROP TABLE holds`,
		`DROP TABLE contacts`, `DROP TABLE unconfirmed`, `DROP TABLE evidence`, `ALTER TABLE failures DROP COLUMN reason`, `DROP TABLE begun`, `DROP TABLE kept`, `DROP TABLE results`, `DROP TABLE outbox`,
		`CREATE TABLE outbox (seq INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, kind TEXT NOT NULL, run TEXT NOT NULL, host TEXT NOT NULL DEFAULT '',
			was TEXT NOT NULL DEFAULT '', now TEXT NOT NULL, commit_id TEXT NOT NULL DEFAULT '', error TEXT NOT NULL DEFAULT '')`,
		`CREATE TABLE results (run TEXT NOT NULL REFERENCES runs(id) ON DELETE CASCADE, host TEXT NOT NULL, digest TEXT NOT NULL DEFAULT '',
			begun_at INTEGER NOT NULL DEFAULT 0, ended_at INTEGER NOT NULL DEFAULT 0, outcome TEXT NOT NULL DEFAULT '', changed TEXT NOT NULL DEFAULT '[]',
			details TEXT NOT NULL DEFAULT '{}', took_ms INTEGER NOT NULL DEFAULT 0, error TEXT NOT NULL DEFAULT '', PRIMARY KEY (run, host)) WITHOUT ROWID`,
		`INSERT INTO outbox(at, kind, run, host, was, now, commit_id, error) VALUES(1, 'host', 'r0', 'i', 'behind', 'current', 'c10', ''), (2, 'run', 'r9', '', '', 'failed', 'c9', 'no')`,
		`CREATE INDEX results_open ON results(host) WHERE begun_at > 0 AND ended_at = 0`,
		`CREATE TABLE generations (host TEXT NOT NULL, generation INTEGER NOT NULL, digest TEXT NOT NULL, commit_id TEXT NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (host, generation)) WITHOUT ROWID`,
		`INSERT INTO runs(id, commit_id, cause, started_at) VALUES('r0', 'c10', 'push', 1)`,
		`INSERT INTO results(run, host, digest, begun_at) VALUES('r0', 'h', 'd10', 1)`,
		`INSERT INTO results(run, host, digest, begun_at, ended_at, outcome) VALUES('r0', 'i', 'd10', 1, 2, 'done')`,
		`INSERT INTO generations VALUES ('h', 5, 'd5', 'c5', 1), ('h', 6, 'd6', 'c6', 1), ('h', 7, 'd7', 'c7', 1), ('h', 8, 'd8', 'c8', 1), ('h', 9, 'd9', 'c9', 1), ('h', 10, 'd10', 'c10', 1)`,
		`ALTER TABLE runs DROP COLUMN planned`,
		`DELETE FROM goose_db_version WHERE version_id >= 4`,
	} {
		_, err := raw.Exec(q)
		must(t, err)
	}
	must(t, raw.Close())
	db := open(t, path)
	ms, err := db.Outbox(t.Context(), 10)
	must(t, err)
	if diff := cmp.Diff([]history.Message{
		{Seq: 1, At: time.UnixMilli(1).UTC(), Kind: "host", Run: "r0", Host: "i", Was: "behind", Now: "current", Commit: "c10"},
		{Seq: 2, At: time.UnixMilli(2).UTC(), Kind: "run", Run: "r9", Now: "failed", Commit: "c9", Error: "no"},
	}, ms); diff != "" {
		t.Errorf("outbox (-want +got):\n%s", diff)
	}
	left, err := db.Recover(t.Context())
	must(t, err)
	if len(left) != 1 || left[0].Host != "h" || left[0].Run != "r0" || left[0].Commit != "c10" || left[0].Digest != "d10" || left[0].BegunAt.UnixMilli() != 1 {
		t.Errorf("open are %+v, want h in r0", left)
	}
	r, err := db.Run(t.Context(), "r0")
	must(t, err)
	if len(r.Hosts) != 2 || r.Hosts[0].Name != "h" || r.Hosts[0].Outcome != nil || text(r.Hosts[1].Outcome) != bundle.OutcomeDone {
		t.Errorf("run r0 has %+v, want h without an outcome and i done", r.Hosts)
	}
	deploy(t, db, "r", "c11", "d11", 11)
	gs := db.Generations("h")
	var got []string
	for _, g := range gs {
		got = append(got, g.Commit)
	}
	if diff := cmp.Diff([]string{"c11", "c10", "c9", "c8", "c7", "c6"}, got); diff != "" {
		t.Errorf("generations (-want +got):\n%s", diff)
	}
}

func TestOutboxHasWhatChanged(t *testing.T) {
	db := fresh(t)
	deploy(t, db, "r1", "c1", "d1", 1)
	ms, err := db.Outbox(t.Context(), 10)
	must(t, err)
	if len(ms) != 2 || ms[0].Host != "h" || ms[0].Now != string(history.Current) || ms[1].Kind != "run" || ms[1].Now != string(history.OutcomeDone) {
		t.Fatalf("outbox %+v, want the host current and the run done", ms)
	}
	must(t, db.Outgoing().Ack(t.Context(), ms[1].Seq))
	if ms, err = db.Outbox(t.Context(), 10); err != nil || len(ms) != 0 {
		t.Errorf("after Told: %v, %v; want nothing", ms, err)
	}
}

func TestDeliveries(t *testing.T) {
	db := fresh(t)
	now := time.Now().UTC().Truncate(time.Millisecond)
	must(t, db.AddDeliveries(t.Context(), []deliveries.Delivery{{ID: "a", At: now, Event: "push", Answer: "rang", Run: "r"}, {ID: "a", At: now, Event: "push", Answer: "rang", Run: "r"}}))
	ds, err := db.Deliveries(t.Context(), 0)
	must(t, err)
	if len(ds) != 2 || !ds[0].Seen || ds[1].Seen {
		t.Errorf("deliveries %+v, want two, the second seen before", ds)
	}
}

func TestReadOnlyBesideAWriter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bellhop.db")
	db := open(t, path)
	deploy(t, db, "r1", "c1", "d1", 1)
	ro, err := history.OpenRead(path)
	must(t, err)
	defer ro.Close()
	if s := status(t, ro); *s.Commit != "c1" {
		t.Errorf("a reader sees %v, want c1", s)
	}
	deploy(t, db, "r2", "c2", "d2", 2)
	if s := status(t, ro); *s.Commit != "c2" {
		t.Errorf("a reader sees %s after a write, want c2", *s.Commit)
	}
	if err := ro.Forget(t.Context(), "h"); err == nil {
		t.Error("a reader could write")
	}
	for _, f := range []string{"", "-wal", "-shm"} {
		if st, err := os.Stat(path + f); err == nil && st.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %o, want 600", filepath.Base(path)+f, st.Mode().Perm())
		}
	}
}

func TestReadOnlyWithoutAWriter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bellhop.db")
	db := open(t, path)
	deploy(t, db, "r1", "c1", "d1", 1)
	must(t, db.Close())
	ro, err := history.OpenRead(path)
	must(t, err)
	defer ro.Close()
	if s := status(t, ro); *s.Commit != "c1" {
		t.Errorf("a reader sees %v, want c1", s)
	}
}

// child writes runs for ever, and says each time that one is stored whole.
func child(path string) {
	db, err := history.Open(path)
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	db.Recover(ctx)
	for i := 0; ; i++ {
		id, commit := fmt.Sprintf("r%d-%d", os.Getpid(), i), fmt.Sprintf("c%d-%d", os.Getpid(), i)
		err := db.Plan(ctx, run(id, commit), commit, []history.Planned{{Name: "h", State: history.Behind, Wanted: commit, Listed: true}}, nil)
		if err == nil {
			err = db.Begun(ctx, id, "h", commit)
		}
		fmt.Println("begun", id)
		if err == nil {
			err = db.Ended(ctx, id, "h", history.End{Outcome: bundle.OutcomeDone, Digest: commit, Commit: commit, Record: record(int64(i+1), commit), Manifest: &bundle.Manifest{}})
		}
		if err == nil {
			err = db.FinishRun(ctx, run(id, commit), history.OutcomeDone, "")
		}
		if err != nil {
			panic(err)
		}
		fmt.Println("ended", id)
	}
}

// A process that is killed while it writes loses nothing that it was told is stored, and
// leaves nothing in part; a host that was begun is found again.
func TestKilledWriter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bellhop.db")
	recovered := 0
	for i := range 8 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "HISTORY_TEST_CHILD="+path)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		must(t, err, cmd.Start())
		sc := bufio.NewScanner(out)
		last, stop := "", 20+i*7
		for n := 0; n < stop && sc.Scan(); n++ {
			last = sc.Text()
		}
		must(t, cmd.Process.Kill())
		for sc.Scan() { // what it said before it died
			last = sc.Text()
		}
		cmd.Wait()

		db, err := history.Open(path)
		must(t, err)
		what, id, ok := strings.Cut(last, " ")
		if !ok {
			t.Fatalf("child said %q", last)
		}
		r, err := db.Run(t.Context(), id)
		must(t, err)
		if what == "ended" && (r.Outcome == nil || *r.Outcome != history.OutcomeDone) {
			t.Fatalf("run %s was stored as ended and is %v", id, r.Outcome)
		}
		open, err := db.Recover(t.Context())
		must(t, err)
		recovered += len(open)
		h, _ := db.Host("h")
		if len(open) > 0 && h.State != history.Unknown || len(open) == 0 && h.State != history.Current && h.State != history.Behind {
			t.Fatalf("host is %s with %d results open", h.State, len(open))
		}
		must(t, db.Close())
	}
	t.Logf("%d of 8 kills left a host begun", recovered)
}

// Ten thousand hosts that a commit leaves alone cost nothing to move.
func BenchmarkPlanOfUnchangedHosts(b *testing.B) {
	db, err := history.Open(filepath.Join(b.TempDir(), "bellhop.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	var ps []history.Planned
	for i := range 10_000 {
		ps = append(ps, history.Planned{Name: fmt.Sprint("h", i), State: history.Current, Follows: true, Wanted: "d"})
	}
	if err := db.Plan(b.Context(), run("r", "c"), "c", ps, nil); err != nil {
		b.Fatal(err)
	}
	n := 0
	for b.Loop() {
		n++
		if err := db.Plan(b.Context(), run(fmt.Sprint("r", n), fmt.Sprint("c", n)), fmt.Sprint("c", n), ps[:10], nil); err != nil {
			b.Fatal(err)
		}
	}
}

// Writers that share a transaction don't share its end: one that can't be stored fails alone.
func TestManyWriteAtOnce(t *testing.T) {
	db := fresh(t)
	ctx := t.Context()
	const n = 64
	var ps []history.Planned
	for i := range n {
		ps = append(ps, history.Planned{Name: fmt.Sprint("h", i), State: history.Behind, Wanted: "d", Listed: true})
	}
	must(t, db.Plan(ctx, run("r", "c"), "c", ps, nil))
	var wg sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		wg.Go(func() {
			host := fmt.Sprint("h", i)
			e := history.End{Outcome: bundle.OutcomeDone, Digest: "d", Commit: "c", Record: record(1, "d"), Manifest: &bundle.Manifest{Host: host}}
			if i == 7 {
				e.Details = make(chan int) // no JSON
			}
			errs[i] = errors.Join(db.Begun(ctx, "r", host, "d"), db.Ended(ctx, "r", host, e))
			if h, _ := db.Host(host); errs[i] == nil && h.State != history.Current {
				t.Errorf("%s was stored and is %s", host, h.State)
			}
		})
	}
	wg.Wait()
	for i, err := range errs {
		if (err != nil) != (i == 7) {
			t.Errorf("h%d: %v", i, err)
		}
	}
	for _, h := range status(t, db).Hosts {
		want := history.Current
		if h.Name == "h7" {
			want = history.Deploying
		}
		if h.State != want {
			t.Errorf("%s is %s, want %s", h.Name, h.State, want)
		}
	}
}

// Hosts of one kind share one stored manifest, and the last that leaves takes it along.
func TestManifestsAreShared(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bellhop.db")
	db := open(t, path)
	ctx := t.Context()
	give := func(host, digest string) {
		t.Helper()
		must(t, db.Ended(ctx, "r", host, history.End{Outcome: bundle.OutcomeDone, Digest: digest, Manifest: &bundle.Manifest{Host: host, Groups: []string{digest}}}))
	}
	want := func(host, digest string) {
		t.Helper()
		m, got, err := db.Manifest(host)
		must(t, err)
		if got != digest || (m == nil) != (digest == "") || m != nil && (m.Host != host || m.Groups[0] != digest) {
			t.Errorf("Manifest(%s) = %+v, %q, want that of %q", host, m, got, digest)
		}
	}
	stored := func(n int) {
		t.Helper()
		ro, err := sql.Open("sqlite", path)
		must(t, err)
		defer ro.Close()
		var got int
		must(t, ro.QueryRow(`SELECT count(*) FROM manifests`).Scan(&got))
		if got != n {
			t.Errorf("%d manifests are stored, want %d", got, n)
		}
	}
	must(t, db.Plan(ctx, run("r", "c"), "c", []history.Planned{{Name: "a"}, {Name: "b"}, {Name: "d"}}, nil))
	give("a", "one")
	give("b", "one")
	stored(1)
	give("a", "two")
	stored(2)
	must(t, db.Close())
	db = open(t, path)
	want("a", "two")
	want("b", "one")
	must(t, db.Rename(ctx, "b", "c"))
	want("c", "one")
	want("b", "")
	must(t, db.Forget(ctx, "c"))
	stored(1)
	give("d", "two")
	must(t, db.Forget(ctx, "a"))
	want("d", "two")
	stored(1)
}

// Rows of many hosts go in by few statements: each must keep its own, in the file too, and of a
// row that is written twice in a transaction the later counts.
func TestRowsOfOneTransaction(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bellhop.db")
	db := open(t, path)
	ctx := t.Context()
	const n = 32 + 8 + 8 + 3 // each size of statement
	var ps []history.Planned
	for i := range n {
		ps = append(ps, history.Planned{Name: fmt.Sprintf("h%02d", i), State: history.Refused, Outcome: history.OutcomeRefused, Error: fmt.Sprint("no ", i), Listed: true,
			Reach: history.Reach{User: fmt.Sprint("u", i)}})
	}
	must(t, db.Plan(ctx, run("r1", "c1"), "c1", ps, nil))
	twice := ps[5]
	twice.Error = "later"
	for i := range ps {
		ps[i].Error = fmt.Sprint("still no ", i)
	}
	must(t, db.Plan(ctx, run("r2", "c2"), "c2", append(ps, twice), nil), db.Close())
	db = open(t, path)
	r, err := db.Run(ctx, "r2")
	must(t, err)
	if len(r.Hosts) != n {
		t.Fatalf("%d hosts in the run, want %d", len(r.Hosts), n)
	}
	for i, h := range r.Hosts {
		want, name := fmt.Sprint("still no ", i), fmt.Sprintf("h%02d", i)
		if i == 5 {
			want = "later"
		}
		kept, _ := db.Host(name)
		if h.Name != name || h.Error == nil || *h.Error != want || kept.Error != want || kept.Reach.User != fmt.Sprint("u", i) {
			t.Errorf("host %d is %s with %v in the run, and %+v", i, h.Name, h.Error, kept)
		}
	}
	ms, err := db.Outbox(ctx, 1000)
	must(t, err)
	if len(ms) != 2*n+1 || ms[n].Host != "h00" || ms[2*n].Error != "later" {
		t.Errorf("%d messages, want %d in the order they came", len(ms), 2*n+1)
	}
}

// Generations between those of this deployer, which another made, do not hold on to old ones.
func TestGenerationsWithGaps(t *testing.T) {
	db := fresh(t)
	for i, g := range []int64{1, 2, 3, 8, 9, 10, 20} {
		deploy(t, db, fmt.Sprint("r", i), fmt.Sprint("c", g), fmt.Sprint("d", i), g)
		gs := db.Generations("h")
		for _, have := range gs {
			if have.Generation > g || have.Generation <= g-6 {
				t.Errorf("at generation %d, %d is remembered", g, have.Generation)
			}
		}
	}
}

// A host that was wiped while bellhop was off has no generations of its former life.
func TestWipedHostAfterRestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bellhop.db")
	db := open(t, path)
	for i := range int64(9) {
		deploy(t, db, fmt.Sprint("r", i), fmt.Sprint("c", i), fmt.Sprint("d", i), i+1)
	}
	must(t, db.Close())
	db = open(t, path)
	deploy(t, db, "again", "c9", "d9", 1)
	gs := db.Generations("h")
	if len(gs) != 1 {
		t.Errorf("generations %v, want one", gs)
	}
}

func TestDamagedFileIsTold(t *testing.T) {
	whole := filepath.Join(t.TempDir(), "bellhop.db")
	db, err := history.Open(whole)
	if err != nil {
		t.Fatal(err)
	}
	db.Close()
	torn, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	for i := 100; i < len(torn); i++ { // all but the file's own header
		torn[i] = 0xa5
	}
	for name, data := range map[string][]byte{"no database": []byte("hello, I am no database"), "torn": torn} {
		path := filepath.Join(t.TempDir(), "bellhop.db")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if db, err := history.Open(path); !errors.Is(err, history.ErrDamaged) {
			t.Errorf("Open(%s) = %v, %v, want ErrDamaged", name, db, err)
		}
		if db, err := history.OpenRead(path); !errors.Is(err, history.ErrDamaged) {
			t.Errorf("OpenRead(%s) = %v, %v, want ErrDamaged", name, db, err)
		}
		if got, _ := os.ReadFile(path); !bytes.Equal(got, data) {
			t.Errorf("%s was changed", name)
		}
	}
}

// A folder that SQLite can't write in is told as such.
func TestFolderThatCantBeWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bellhop.db")
	db := open(t, path)
	deploy(t, db, "r1", "c1", "d1", 1)
	must(t, db.Close(), os.Symlink("/nowhere/at/all", path+"-shm"))
	_, err := history.OpenRead(path)
	if err == nil || !strings.Contains(err.Error(), "may you write in its folder?") {
		t.Errorf("OpenRead = %v, want that the folder may be the reason", err)
	}
}

// Nobody may ever listen: what is to be told does not grow without end.
func TestOutboxOfNobody(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bellhop.db")
	must(t, open(t, path).Close())
	raw, err := sql.Open("sqlite", path)
	must(t, err)
	_, err = raw.Exec(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2010)
		INSERT INTO outbox(messages) SELECT '[{"at":"2026-01-01T00:00:00Z","kind":"run","run":"r' || i || '","now":"done"}]' FROM n`)
	must(t, err)
	must(t, raw.Close())
	db := open(t, path)
	deploy(t, db, "r", "c", "d", 1)
	ms, err := db.Outbox(t.Context(), 1<<20)
	must(t, err)
	rows := map[int64]bool{}
	for _, m := range ms {
		rows[m.Seq] = true
	}
	if last := ms[len(ms)-1]; len(rows) > 2001 || len(rows) < 1999 || last.Run != "r" {
		t.Errorf("%d transactions are to be told, the last of run %q; want 2,000 up to run r", len(rows), last.Run)
	}
}

// RunOutcomes has what Runs has, without what is dear; and each transaction is told to who waits for one.
func TestRunOutcomesAndChanges(t *testing.T) {
	db := fresh(t)
	deploy(t, db, "r1", "c1", "d1", 1)
	deploy(t, db, "r2", "c2", "d2", 2)
	ctx := t.Context()
	must(t, db.Plan(ctx, run("r3", "c3"), "c3", []history.Planned{{Name: "h", State: history.Behind, Wanted: "d3", Listed: true}, {Name: "no", State: history.Refused, Listed: true, Outcome: history.OutcomeRefused}}, nil))

	select {
	case <-db.Changed():
	default:
		t.Error("nobody was told of a transaction")
	}
	select {
	case <-db.Changed():
		t.Error("transactions that nobody waited for are told more than once")
	default:
	}

	runs, err := db.RunOutcomes(ctx, 2)
	must(t, err)
	var got []string
	for _, r := range runs {
		for _, h := range r.Hosts {
			got = append(got, fmt.Sprintf("%s %s %s", r.ID, h.Name, *h.Outcome))
		}
	}
	if want := []string{"r3 no refused", "r2 h done"}; !cmp.Equal(got, want) || *runs[1].Commit != "c2" {
		t.Errorf("RunOutcomes = %q, want %q", got, want)
	}
}

// What RunOutcomes read once it says again, until a result of a run is written, late ones and those of a listed host among them.
func TestRunOutcomesFollowResults(t *testing.T) {
	db := fresh(t)
	ctx := t.Context()
	outcomes := func(db *history.DB) (all []string) {
		runs, err := db.RunOutcomes(ctx, 5)
		must(t, err)
		for _, r := range runs {
			for _, h := range r.Hosts {
				all = append(all, fmt.Sprintf("%s %s %s", r.ID, h.Name, *h.Outcome))
			}
		}
		return all
	}
	want := func(lines ...string) {
		t.Helper()
		outcomes(db) // it is kept from here on
		if got := outcomes(db); !cmp.Equal(got, lines) {
			t.Errorf("RunOutcomes = %q, want %q", got, lines)
		}
	}

	deploy(t, db, "r1", "c1", "d1", 1)
	want("r1 h done")
	must(t, db.Plan(ctx, run("r2", "c2"), "c2", []history.Planned{{Name: "h", State: history.Behind, Wanted: "d2", Listed: true}, {Name: "no", State: history.Refused, Listed: true, Outcome: history.OutcomeRefused}}, nil))
	want("r2 no refused", "r1 h done")
	must(t, db.Begun(ctx, "r2", "h", "d2"))
	want("r2 no refused", "r1 h done")
	must(t, db.FinishRun(ctx, run("r2", "c2"), "", ""))
	must(t, db.Ended(ctx, "r2", "h", history.End{Outcome: history.OutcomeFailed, Error: "x"})) // after its run
	want("r2 h failed", "r2 no refused", "r1 h done")

	must(t, db.Plan(ctx, run("r3", "c3"), "c3", []history.Planned{{Name: "h", State: history.Behind, Wanted: "d3", Listed: true}}, nil))
	must(t, db.Begun(ctx, "r3", "h", "d3"))
	want("r2 h failed", "r2 no refused", "r1 h done")
	must(t, db.Plan(ctx, run("r4", "c4"), "c4", []history.Planned{{Name: "h", State: history.Behind, Wanted: "d4", Listed: true}}, nil))
	must(t, db.Begun(ctx, "r4", "h", "d4"))
	must(t, db.Ended(ctx, "r4", "h", history.End{Outcome: history.OutcomeFailed, Error: "x"})) // which gives up r3's
	want("r4 h failed", "r3 h unknown", "r2 h failed", "r2 no refused", "r1 h done")
	must(t, db.Begun(ctx, "r4", "h", "d5")) // once more: what came of it before counts no more
	want("r3 h unknown", "r2 h failed", "r2 no refused", "r1 h done")
}

// A run that ends on a machine under a name which was given up meanwhile brings that name back into no list of hosts.
// Its result stays in the run, and people are told.
func TestARunEndsUnderAFormerName(t *testing.T) {
	ctx := t.Context()
	db := open(t, filepath.Join(t.TempDir(), "h.db"))
	must(t, db.Plan(ctx, run("r1", "c1"), "c1", []history.Planned{{Name: "old", State: history.Never, Wanted: "d", Listed: true}}, nil),
		db.Begun(ctx, "r1", "old", "d"),
		db.Plan(ctx, run("r2", "c2"), "c2", []history.Planned{{Name: "new", State: history.Never, Wanted: "d", Listed: true}}, []string{"old"}),
		db.Rename(ctx, "old", "new"),
		db.Ended(ctx, "r1", "old", history.End{Outcome: bundle.OutcomeDone, State: history.Current, Digest: "d"}),
		db.FinishRun(ctx, run("r1", "c1"), history.OutcomeDone, ""))

	if h, isKnown := db.Host("old"); isKnown {
		t.Errorf("old is known again: %+v", h)
	}
	r, err := db.Run(ctx, "r1")
	must(t, err)
	if len(r.Hosts) != 1 || r.Hosts[0].Outcome == nil || *r.Hosts[0].Outcome != history.OutcomeDone {
		t.Errorf("the run has %+v, want that old is done", r.Hosts)
	}
	messages, err := db.Outbox(ctx, 10)
	must(t, err)
	if !slices.ContainsFunc(messages, func(m history.Message) bool { return m.Run == "r1" && m.Host == "old" }) {
		t.Errorf("nobody is told of it: %+v", messages)
	}
}
