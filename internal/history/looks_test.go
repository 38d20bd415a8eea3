package history_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bellhop/internal/bundle"
	"bellhop/internal/history"
	"bellhop/internal/history/looks"
	"bellhop/internal/history/stops"
)

var failedSince = time.Date(2026, 11, 30, 7, 0, 0, 0, time.UTC)

// aLook found a file that was edited, a drop-in that is not bellhop's, a unit that somebody stopped, and another that failed.
func aLook() looks.Look {
	return looks.Look{
		At: time.Now().UTC().Truncate(time.Millisecond), RebootRequired: true, Running: 1, Drifted: 3,
		Failed: []looks.FailedUnit{{Name: "a.service", Result: "exit-code", Since: &failedSince}},
		Drift:  []looks.Drift{{Kind: "file", Name: "/etc/a", What: "edited"}, {Kind: "unit", Name: "a.service", What: "drop-in"}, {Kind: "unit", Name: "b.service", What: "stopped"}},
	}
}

// lookedAt is a file with host h, deployed and looked at.
func lookedAt(t *testing.T, path string, look looks.Look) *history.DB {
	t.Helper()
	db := open(t, path)
	deploy(t, db, "r1", "c1", "d1", 1)
	must(t, db.Looks().Store(t.Context(), "h", look), db.Looks().Store(t.Context(), "nobody", look))
	return db
}

// What a look found outlives the process and is in status. It is no run, and counts as contact.
func TestLookIsRemembered(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bellhop.db")
	want := aLook()
	must(t, lookedAt(t, path, want).Close())
	db := open(t, path)

	got, ok := db.Looks().Last("h")
	if diff := cmp.Diff(want, got); !ok || diff != "" {
		t.Errorf("Last(h) = %v (-want +got):\n%s", ok, diff)
	}
	if _, ok := db.Looks().Last("nobody"); ok {
		t.Error("a look at a host that nobody knows is remembered")
	}

	s := status(t, db).Hosts[0]
	if s.Units == nil || s.Drift == nil || s.RebootRequired == nil {
		t.Fatalf("status has no look: %+v", s)
	}
	if diff := cmp.Diff(&looks.UnitStatus{Running: 1, Failed: want.Failed}, s.Units); diff != "" {
		t.Errorf("units (-want +got):\n%s", diff)
	}
	if *s.Drift != 3 || !*s.RebootRequired || !s.LookedAt.Equal(want.At) || s.SeenAt == nil {
		t.Errorf("status: drift %d, reboot %v, looked at %v, seen at %v", *s.Drift, *s.RebootRequired, s.LookedAt, s.SeenAt)
	}
	if h, err := db.Runs(t.Context(), 0); err != nil || len(h.Runs) != 1 {
		t.Errorf("%d runs, %v; want the one that deployed", len(h.Runs), err)
	}
}

// A helper that can't look leaves what it would say open, and the host was heard all the same.
func TestLookByAFormerHelper(t *testing.T) {
	db := lookedAt(t, filepath.Join(t.TempDir(), "bellhop.db"), looks.Look{At: time.Now(), Unknown: true})
	s := status(t, db).Hosts[0]
	if s.Units != nil || s.Drift != nil || s.RebootRequired != nil || s.LookedAt == nil || s.SeenAt == nil {
		t.Errorf("status: %+v", s)
	}
}

// A deploy puts back what was edited; a unit that somebody stopped stays stopped, and is told, as is a drop-in of theirs.
func TestDeployEndsDrift(t *testing.T) {
	for name, c := range map[string]struct {
		end             history.End
		drift           int
		running, failed int
	}{
		"done":               {history.End{Outcome: bundle.OutcomeDone, Details: &bundle.Result{Restored: []string{"file:/etc/a"}, Drifted: []string{"b.service"}, Restarted: []string{"a.service"}}}, 2, 2, 0},
		"nothing left to do": {history.End{Outcome: bundle.OutcomeNothing, Details: &bundle.Result{}}, 1, 1, 1},
		"undone":             {history.End{Outcome: bundle.OutcomeRolledBack, State: history.RolledBack, Details: &bundle.Result{}}, 3, 1, 1},
	} {
		db := lookedAt(t, filepath.Join(t.TempDir(), "bellhop.db"), aLook())
		c.end.Digest, c.end.Commit = "d2", "c2"
		must(t, db.Plan(t.Context(), run("r2", "c2"), "c2", []history.Planned{{Name: "h", State: history.Behind, Wanted: "d2", Listed: true}}, nil),
			db.Begun(t.Context(), "r2", "h", "d2"), db.Ended(t.Context(), "r2", "h", c.end))
		s := status(t, db).Hosts[0]
		if *s.Drift != c.drift || s.Units.Running != c.running || len(s.Units.Failed) != c.failed {
			t.Errorf("%s: drift %d, %d units run, %d failed; want %d, %d, %d", name, *s.Drift, s.Units.Running, len(s.Units.Failed), c.drift, c.running, c.failed)
		}
	}
}

// Of an account a push puts group and home back, and no more.
func TestDeployLeavesWhatNoRunChanges(t *testing.T) {
	look := looks.Look{At: time.Now()}
	for _, what := range []string{bundle.DriftGroup, bundle.DriftHome, bundle.DriftShell, bundle.DriftJoined, bundle.DriftUID, bundle.DriftGID} {
		look.Drift = append(look.Drift, looks.Drift{Kind: bundle.KindAccount, Name: "bot", What: what})
	}
	look.Drifted = len(look.Drift)
	db := lookedAt(t, filepath.Join(t.TempDir(), "bellhop.db"), look)
	end := history.End{Outcome: bundle.OutcomeDone, Digest: "d2", Commit: "c2", Details: &bundle.Result{}}
	must(t, db.Plan(t.Context(), run("r2", "c2"), "c2", []history.Planned{{Name: "h", State: history.Behind, Wanted: "d2", Listed: true}}, nil),
		db.Begun(t.Context(), "r2", "h", "d2"), db.Ended(t.Context(), "r2", "h", end))
	if s := status(t, db).Hosts[0]; *s.Drift != 4 {
		t.Errorf("after a push %d things differ, want shell, groups, uid and gid", *s.Drift)
	}
}

// A host that gets another name takes its look along; one that is forgotten leaves none.
func TestLookFollowsItsHost(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bellhop.db")
	db := lookedAt(t, path, aLook())
	must(t, db.Rename(t.Context(), "h", "new"))
	if _, ok := db.Looks().Last("new"); !ok {
		t.Error("the renamed host has no look")
	}
	if _, ok := db.Looks().Last("h"); ok {
		t.Error("the former name still has a look")
	}

	must(t, db.Forget(t.Context(), "new"), db.Close())
	if _, ok := open(t, path).Looks().Last("new"); ok {
		t.Error("a host that was forgotten has a look")
	}
}

// Drift, a host that is lost and found between runs, and a pause are rows of the outbox, each once.
func TestOutboxOfLooksAndPauses(t *testing.T) {
	db := fresh(t)
	deploy(t, db, "r1", "c1", "d1", 1)
	ctx := t.Context()
	ms, err := db.Outbox(ctx, 100)
	must(t, err, db.Outgoing().Ack(ctx, ms[len(ms)-1].Seq))

	clean := aLook()
	clean.Drift, clean.Drifted = nil, 0
	clean.At = clean.At.Add(time.Minute)
	must(t, db.Looks().Store(ctx, "h", aLook()), db.Looks().Store(ctx, "h", aLook()), db.Looks().Store(ctx, "h", clean),
		db.NoteContact(ctx, "h", true), db.NoteContact(ctx, "h", true), db.NoteContact(ctx, "h", false))
	for range 2 {
		_, _, err := db.Pauses().Set(ctx, stops.Pause{By: "cadey", Reason: "we move"})
		must(t, err)
	}
	_, err = db.Pauses().End(ctx)
	must(t, err)

	ms, err = db.Outbox(ctx, 100)
	must(t, err)
	var got []string
	for _, m := range ms {
		got = append(got, strings.Join([]string{m.Kind, m.Host, m.Now, m.Error}, "|"))
	}
	want := []string{"drift|h|drifted|file /etc/a edited, unit a.service drop-in, unit b.service stopped", "drift|h|clean|", "host|h|pending|", "host|h|current|",
		"pause||paused|runs are paused by cadey: we move", "pause||resumed|"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("outbox (-want +got):\n%s", diff)
	}
}
