package history_test

import (
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/history"
)

// Status says when a host was heard last and since when it does not answer. The keys of a host
// that is away are not counted as present.
func TestStatusOfAHostThatIsAway(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bellhop.db")
	db := open(t, path)
	deploy(t, db, "r1", "c1", "d1", 1)
	must(t, db.Ended(t.Context(), "r1", "h", history.End{Outcome: bundle.OutcomeDone, Digest: "d1", Commit: "c1", Present: new(2), Heard: true}))

	host := func() history.HostStatus {
		t.Helper()
		return status(t, db).Hosts[0]
	}
	heard := host()
	if heard.SeenAt == nil || heard.AwaySince != nil || heard.Keys.Present != 2 {
		t.Fatalf("a host that was just heard: seen %v, away %v, keys %v", heard.SeenAt, heard.AwaySince, heard.Keys)
	}

	must(t, db.NoteContact(t.Context(), "h", true))
	first := host()
	time.Sleep(2 * time.Millisecond) // the clock of the file
	if first.AwaySince == nil || first.Keys.Present != 0 || !first.SeenAt.Equal(*heard.SeenAt) || first.State != history.Current {
		t.Errorf("a host that went away: %+v, want no key present, and seen when it was heard", first)
	}
	must(t, db.NoteContact(t.Context(), "h", true))
	if again := host(); !again.AwaySince.Equal(*first.AwaySince) {
		t.Errorf("away since %v after the second failure, want %v", again.AwaySince, first.AwaySince)
	}

	must(t, db.Close())
	db = open(t, path)
	if again := host(); again.AwaySince == nil {
		t.Errorf("a host that was away is not when the file is opened again")
	}
	must(t, db.NoteContact(t.Context(), "h", false))
	if back := host(); back.AwaySince != nil || back.Keys.Present != 2 {
		t.Errorf("a host that is back: away %v, keys %v", back.AwaySince, back.Keys)
	}
	must(t, db.NoteContact(t.Context(), "nobody", false))
}

// A release that changes the schema copies the file first. A release that is taken back refuses
// the changed file, and names the copy.
func TestUpgradeCopiesTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bellhop.db")
	former, err := os.ReadFile("../../deploy/testdata/a7c53af/bellhop.db")
	must(t, err, os.WriteFile(path, former, 0o600))
	must(t, open(t, path).Close())

	kept := path + ".schema-6"
	info, err := os.Stat(kept)
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the copy has mode %v, want 0600", info.Mode())
	}
	raw, err := sql.Open("sqlite", kept)
	must(t, err)
	var hosts, version int
	must(t, raw.QueryRow(`SELECT count(*), (SELECT max(version_id) FROM goose_db_version) FROM hosts`).Scan(&hosts, &version), raw.Close())
	if hosts != 3 || version != 6 {
		t.Errorf("the copy has %d hosts and version %d, want 3 and 6", hosts, version)
	}

	raw, err = sql.Open("sqlite", path)
	must(t, err)
	_, err = raw.Exec(`INSERT INTO goose_db_version(version_id, is_applied) VALUES(999, 1)`)
	must(t, err, raw.Close())
	_, err = history.Open(path)
	if !errors.Is(err, history.ErrNewer) || !strings.Contains(err.Error(), "bellhop.db.schema-6") {
		t.Errorf("Open of a newer release's file = %v, want it refused with the name of the copy", err)
	}
}

// What a person did to a host stands among its runs, and changes nothing that is known of it.
func TestActsAreRunsOfTheirHosts(t *testing.T) {
	db := fresh(t)
	deploy(t, db, "r1", "c1", "d1", 1)
	before, _ := db.Host("h")

	start := history.Start{ID: "r2", Cause: "reboot", By: "cadey", At: time.Now()}
	must(t, db.Acted(t.Context(), start, history.OutcomeFailed, "no answer", []history.HostAct{{Host: "h", Outcome: history.OutcomeFailed, Error: "no answer"}}))

	h, err := db.Runs(t.Context(), 10, "h")
	must(t, err)
	if len(h.Runs) != 2 || h.Runs[0].Cause != "reboot" || h.Runs[0].Commit != nil || *h.Runs[0].Hosts[0].Error != "no answer" {
		t.Errorf("runs of h: %+v, want the reboot first", h.Runs)
	}
	if after, _ := db.Host("h"); after.State != before.State || after.Run != before.Run {
		t.Errorf("h is %s by run %s after a reboot, want %s by %s", after.State, after.Run, before.State, before.Run)
	}
	must(t, db.Sound())
}

// A host that was heard under its new name is not away because it was when it had its former one.
func TestARenamedHostIsThereWhenItWasHeardSince(t *testing.T) {
	for name, c := range map[string]struct {
		was, now []bool // whether the host was away, each time that it was met by that name
		isAway   bool
	}{
		"heard since":            {[]bool{false, true}, []bool{false}, false},
		"away by both":           {[]bool{false, true}, []bool{true}, true},
		"away since":             {[]bool{false}, []bool{true}, true},
		"not met by the new one": {[]bool{false, true}, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			db := open(t, filepath.Join(t.TempDir(), "bellhop.db"))
			must(t, db.Plan(t.Context(), run("r1", "c1"), "c1", []history.Planned{{Name: "old", State: history.Behind, Wanted: "d"}}, nil))
			for _, away := range c.was {
				must(t, db.NoteContact(t.Context(), "old", away))
			}
			must(t, db.Plan(t.Context(), run("r2", "c2"), "c2", []history.Planned{{Name: "new", State: history.Never, Wanted: "d"}}, []string{"old"}))
			for _, away := range c.now {
				must(t, db.NoteContact(t.Context(), "new", away))
			}
			must(t, db.Rename(t.Context(), "old", "new"))

			h, _ := db.Host("new")
			if isAway := !h.AwayAt.IsZero(); isAway != c.isAway || h.SeenAt.IsZero() {
				t.Errorf("it was seen at %v and is away since %v, want it away: %v", h.SeenAt, h.AwayAt, c.isAway)
			}
		})
	}
}

// That a run of a host's new name was cancelled or stopped stays when the host is heard and gets all that is known of
// its former name. Where no run knows the new name yet, what stopped a run before the former one does.
func TestStopsOfARenamedHost(t *testing.T) {
	for _, isPlanned := range []bool{true, false} {
		db := open(t, filepath.Join(t.TempDir(), "bellhop.db"))
		left := func(runID, host, by string) {
			must(t, db.Plan(t.Context(), run(runID, "c-"+runID), "c-"+runID, []history.Planned{{Name: host, State: history.Behind, Wanted: "d"}}, nil))
			must(t, db.Ended(t.Context(), runID, host, history.End{Outcome: history.OutcomeCancelled, State: history.Behind, Commit: "c-" + runID, Stopped: true, CancelledBy: by}))
		}
		left("r1", "old", "cadey")
		want := "c-r1"
		if isPlanned {
			left("r2", "new", "mara")
			want = "c-r2"
		}
		must(t, db.Rename(t.Context(), "old", "new"))
		if got := db.Stops().At("new"); got.Commit != want {
			t.Errorf("planned under its new name %v: the newest run that stopped before it is %+v, want that of %s", isPlanned, got, want)
		}
		must(t, db.Sound())
	}
}
