package history_test

import (
	"database/sql"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bellhop/internal/history"
	"bellhop/internal/history/stops"
)

// A pause outlives the process, a second one changes it, and a status shows it.
func TestPause(t *testing.T) {
	ctx, path := t.Context(), filepath.Join(t.TempDir(), "bellhop.db")
	db, err := history.Open(path)
	must(t, err)
	since, until := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), time.Date(2026, 1, 2, 5, 4, 5, 0, time.UTC)

	was, _, err := db.Pauses().Set(ctx, stops.Pause{By: "cadey (uid 1000)", Reason: "moving the rack", Since: since})
	must(t, err)
	if was != nil {
		t.Errorf("before the first pause there was %+v", was)
	}
	must(t, db.Close())

	db, err = history.Open(path)
	must(t, err)
	defer db.Close()
	_, now, err := db.Pauses().Set(ctx, stops.Pause{By: "mimi (uid 1001)", Since: since.Add(time.Hour), Until: until, Then: true})
	must(t, err)
	want := &stops.Pause{By: "mimi (uid 1001)", Reason: "moving the rack", Since: since, Until: until, Then: true}
	if diff := cmp.Diff(want, now); diff != "" {
		t.Errorf("the pause after a second one (-want +got):\n%s", diff)
	}

	s := status(t, db)
	if !s.Paused || s.Pause == nil || *s.Pause.By != "mimi (uid 1001)" || !s.Pause.Until.Equal(until) {
		t.Errorf("status says %v, %+v", s.Paused, s.Pause)
	}

	was, err = db.Pauses().End(ctx)
	must(t, err)
	if diff := cmp.Diff(want, was); diff != "" {
		t.Errorf("the pause that was ended (-want +got):\n%s", diff)
	}
	if s := status(t, db); s.Paused || s.Pause != nil {
		t.Errorf("after its end status says %v, %+v", s.Paused, s.Pause)
	}
}

// A pause that a former release stored holds, though it does not say whose it is.
func TestPauseOfFormerRelease(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bellhop.db")
	db, err := history.Open(path)
	must(t, err)
	must(t, db.Close())
	raw, err := sql.Open("sqlite", path)
	must(t, err)
	_, err = raw.Exec(`INSERT INTO meta(name, value) VALUES('paused', '1')`)
	must(t, err)
	must(t, raw.Close())

	db, err = history.Open(path)
	must(t, err)
	defer db.Close()
	p, err := db.Pauses().Now()
	must(t, err)
	if p == nil || p.By != "" || !status(t, db).Paused {
		t.Errorf("the pause of a former release is %+v", p)
	}
	if got, want := p.Status().Text(2), "runs are paused; 2 commits wait: bellhop resume"; got != want {
		t.Errorf("it is told as %q, want %q", got, want)
	}
}
