package history_test

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bellhop/internal/bundle"
	"bellhop/internal/history"
	"bellhop/internal/history/services"
)

// held is the end of a push of host h after which service a stays at c1, and b is at commit c2.
func held() history.End {
	return history.End{
		Outcome: history.OutcomeHeldBack, Digest: "composed", Whole: "d2", Commit: "c2", Error: "service a failed",
		Record:   &bundle.Record{Generation: 2, Digest: "composed"},
		Manifest: &bundle.Manifest{Network: "lab", Host: "h"},
		Origins:  []bundle.Origin{{Service: "a", Commit: "c1"}},
		Services: []services.Status{
			services.New("a", "c1", services.Held, "it died"),
			services.New("b", "c2", services.Current, ""),
		},
		FailedServices: []services.Failure{{Service: "a", Digest: "a2", Error: "it died"}},
	}
}

func heldHost(t *testing.T, path string) *history.DB {
	t.Helper()
	db := open(t, path)
	deploy(t, db, "r1", "c1", "d1", 1)
	must(t, db.Plan(t.Context(), run("r2", "c2"), "c2", []history.Planned{{Name: "h", State: history.Behind, Wanted: "d2", Listed: true}}, nil),
		db.BegunAs(t.Context(), history.Begin{Run: "r2", As: "r2-2", Host: "h", Digest: "composed"}), db.Ended(t.Context(), "r2", "h", held()), db.FinishRun(t.Context(), run("r2", "c2"), "", ""))
	return db
}

// What is known of services outlives the process, and is in status.
func TestHeldBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bellhop.db")
	must(t, heldHost(t, path).Close())
	db := open(t, path)

	h, _ := db.Host("h")
	if h.State != history.HeldBack || h.Commit != "c1" || h.Digest != "composed" || h.Follows || h.Generation != 2 {
		t.Errorf("host: %+v", h)
	}
	s := status(t, db)
	if diff := cmp.Diff(held().Services, s.Hosts[0].Services); diff != "" {
		t.Errorf("services (-want +got):\n%s", diff)
	}
	if len(s.Failing()) != 1 {
		t.Error("a host with a service that is held back counts as well")
	}
	if r, err := db.Run(t.Context(), "r2"); err != nil || *r.Outcome != history.OutcomePartial || *r.Hosts[0].Outcome != history.OutcomeHeldBack {
		t.Errorf("run: %+v, %v", r, err)
	}
	g := db.Generations("h")[0]
	if g.Commit != "c2" || !slices.Equal(g.Origins, held().Origins) {
		t.Errorf("generation: %+v", g)
	}
	if got := db.Commits(); !slices.Contains(got, "c1") || !slices.Contains(got, "c2") {
		t.Errorf("git keeps %v, want the commits of every service", got)
	}
	failed, err := db.FailedServices(t.Context())
	must(t, err)
	if len(failed["h"]) != 1 || failed["h"][0].Service != "a" || failed["h"][0].Digest != "a2" || failed["h"][0].Run != "r2" {
		t.Errorf("failed: %+v", failed)
	}
}

// All services of a host are listed where all is well too.
func TestServicesOfAHealthyHost(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "bellhop.db"))
	must(t, db.Plan(t.Context(), run("r1", "c1"), "c1", []history.Planned{{Name: "h", State: history.Never, Wanted: "d1", Listed: true}}, nil), db.Begun(t.Context(), "r1", "h", "d1"))
	m := &bundle.Manifest{Network: "lab", Host: "h", Files: []bundle.File{{Path: "/etc/b", Service: "b"}, {Path: "/etc/a", Service: "a"}}}
	must(t, db.Ended(t.Context(), "r1", "h", history.End{Outcome: history.OutcomeDone, Digest: "d1", Commit: "c1", Manifest: m, Record: &bundle.Record{Generation: 1, Digest: "d1"}}))

	want := []services.Status{
		services.New("a", "c1", services.Current, ""),
		services.New("b", "c1", services.Current, ""),
	}
	for range 2 { // the names are cached
		if diff := cmp.Diff(want, status(t, db).Hosts[0].Services); diff != "" {
			t.Errorf("services (-want +got):\n%s", diff)
		}
	}
}

// A whole bundle that stands ends what was held back; what was mended is not remembered any more.
func TestHeldBackEnds(t *testing.T) {
	db := heldHost(t, filepath.Join(t.TempDir(), "bellhop.db"))
	must(t, db.Plan(t.Context(), run("r3", "c3"), "c3", []history.Planned{{Name: "h", State: history.Behind, Wanted: "d3", Listed: true}}, nil), db.Begun(t.Context(), "r3", "h", "d3"))
	if got := db.Services("h"); len(got) != 2 {
		t.Errorf("a plan that knows nothing of services drops them: %+v", got)
	}

	e := history.End{Outcome: history.OutcomeDone, Digest: "d3", Commit: "c3", Record: &bundle.Record{Generation: 3, Digest: "d3"}, Mended: []services.Failure{{Service: "a", Digest: "a2"}}}
	must(t, db.Ended(t.Context(), "r3", "h", e))
	failed, err := db.FailedServices(t.Context())
	must(t, err)
	if h, _ := db.Host("h"); h.State != history.Current || len(db.Services("h"))+len(failed) > 0 {
		t.Errorf("host %+v, services %v, failed %v", h, db.Services("h"), failed)
	}
	if h := status(t, db).Hosts[0]; h.Services == nil || len(h.Services) > 0 {
		t.Errorf("services of status: %v", h.Services)
	}
}

// The memory of services goes with its host: to a new name, and away.
func TestServicesOfARenamedHost(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bellhop.db")
	db := heldHost(t, path)
	must(t, db.Plan(t.Context(), run("r3", "c3"), "c3", []history.Planned{{Name: "i", State: history.Behind, Wanted: "d2"}}, []string{"h"}), db.Rename(t.Context(), "h", "i"))
	must(t, db.Close())
	db = open(t, path)
	failed, err := db.FailedServices(t.Context())
	must(t, err)
	if len(db.Services("i")) != 2 || len(db.Services("h")) > 0 || len(failed["i"]) != 1 || len(failed) != 1 {
		t.Errorf("services %v, failed %v", db.Services("i"), failed)
	}

	must(t, db.Forget(t.Context(), "i"))
	failed, err = db.FailedServices(t.Context())
	must(t, err)
	if len(db.Services("i"))+len(failed) > 0 {
		t.Errorf("of a forgotten host: services %v, failed %v", db.Services("i"), failed)
	}
}

// A try of the same run under another id is found again by that id.
func TestInterruptedAs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bellhop.db")
	db := open(t, path)
	must(t, db.Plan(t.Context(), run("r1", "c1"), "c1", []history.Planned{{Name: "h", State: history.Never, Wanted: "d1", Listed: true}}, nil),
		db.Begun(t.Context(), "r1", "h", "d1"), db.BegunAs(t.Context(), history.Begin{Run: "r1", As: "r1-2", Host: "h", Digest: "d2", Origins: held().Origins}), db.Close())
	db = open(t, path)
	left, err := db.Recover(t.Context())
	must(t, err)
	if len(left) != 1 || left[0].Run != "r1" || left[0].As != "r1-2" || left[0].Digest != "d2" || !slices.Equal(left[0].Origins, held().Origins) {
		t.Errorf("open are %+v", left)
	}
}

// At most forty failures of services are remembered of a host, the newest.
func TestFailedServicesAreBounded(t *testing.T) {
	db := heldHost(t, filepath.Join(t.TempDir(), "bellhop.db"))
	for i := range 60 {
		e := held()
		e.FailedServices = []services.Failure{{Service: "a", Digest: time.Duration(i).String()}}
		must(t, db.Ended(t.Context(), "r2", "h", e))
	}
	failed, err := db.FailedServices(t.Context())
	must(t, err)
	if n := len(failed["h"]); n != 40 {
		t.Errorf("%d are remembered, want 40", n)
	}
}
