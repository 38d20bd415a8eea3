package deploy_test

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"bellhop/deploy/plan"
	"bellhop/internal/history"
)

// forgets has the deployer begin anew on an empty state directory, with the keys that it had.
func (w *world) forgets() {
	w.t.Helper()
	db, err := history.Open(filepath.Join(w.t.TempDir(), "bellhop.db"))
	w.must(err)
	w.t.Cleanup(func() { db.Close() })
	w.db = db
	w.d = w.deployer("SHA256:one")
}

// A deployer with a fresh state directory meets a host that holds a service back: the service stays as it
// is, is not tried again, and the rest of the head comes.
func TestAComposedHostThatHistoryDoesNotKnow(t *testing.T) {
	for _, moved := range []bool{false, true} {
		w := newWorld(t, "a")
		numbered(w, "a", 3, "one\n")
		first := w.push("first", history.OutcomeDone)
		numbered(w, "a", 3, "two\n")
		breaks(w, "s01")
		w.push("second", history.OutcomePartial)
		starts := w.machines["a"].Starts("s01.service")

		w.forgets()
		want := "two\n"
		if moved {
			want = "three\n"
			w.files["services/s02/files/etc/s02.conf"] = want
			w.commit("third")
		}
		run := w.run(plan.Request{}, history.OutcomePartial)
		w.wantState("a", history.HeldBack, "")
		if got := holds(w, "a", "s01"); got != "one\n" || !w.machines["a"].Active("s01.service") {
			t.Errorf("s01 holds %q, runs %v: want it as it was\n%s", got, w.machines["a"].Active("s01.service"), w.tell(run))
		}
		if n := w.machines["a"].Starts("s01.service") - starts; n != 0 {
			t.Errorf("s01 was started %d times more", n)
		}
		if got := holds(w, "a", "s02"); got != want {
			t.Errorf("s02 holds %q, want %q", got, want)
		}
		if states := w.state("a").Services; len(states) < 2 || states[1].Name != "s01" || states[1].Commit == nil || *states[1].Commit != *first.Commit {
			t.Errorf("services of a: %+v", states)
		}

		sessions := w.sessions("a")
		w.run(plan.Request{}, history.OutcomeFailed) // what is held back is told again, and nothing is pushed
		if n := w.sessions("a") - sessions; n != 0 {
			t.Errorf("%d sessions to a host of which all is known", n)
		}

		mends(w, "s01")
		last := w.push("mended", history.OutcomeDone)
		w.wantState("a", history.Current, *last.Commit)
	}
}

// The mend comes with the first commit that the fresh deployer sees: it is tried.
func TestAMendForAHostThatHistoryDoesNotKnow(t *testing.T) {
	w := newWorld(t, "a")
	numbered(w, "a", 3, "one\n")
	w.push("first", history.OutcomeDone)
	numbered(w, "a", 3, "two\n")
	breaks(w, "s01")
	w.push("second", history.OutcomePartial)

	w.forgets()
	mends(w, "s01")
	w.push("mended", history.OutcomeDone)
	if got := holds(w, "a", "s01"); got != "two\n" || !w.machines["a"].Active("s01.service") {
		t.Errorf("s01 holds %q, runs %v", got, w.machines["a"].Active("s01.service"))
	}
}

// Where it is not known what the host holds, a service that fails, or can't be made, does not leave it.
func TestNothingLeavesAHostThatHistoryDoesNotKnow(t *testing.T) {
	w := newWorld(t, "a")
	numbered(w, "a", 3, "one\n")
	w.push("first", history.OutcomeDone)

	w.forgets()
	numbered(w, "a", 3, "two\n")
	breaks(w, "s01")
	run := w.push("second", history.OutcomeFailed)
	w.wantState("a", history.RolledBack, "")
	for _, name := range []string{"s00", "s01", "s02"} {
		if got := holds(w, "a", name); got != "one\n" || !w.machines["a"].Active(name+".service") {
			t.Errorf("%s holds %q, runs %v\n%s", name, got, w.machines["a"].Active(name+".service"), w.tell(run))
		}
	}
}

// A service that can't be made does not leave a host that history does not know: what the host holds of it is
// known by the commits that its record names, or nothing is touched.
func TestASecretThatDoesNotOpenForAnUnknownHost(t *testing.T) {
	for _, composed := range []bool{false, true} {
		w := newWorld(t, "a")
		numbered(w, "a", 3, "one\n")
		w.files["services/s01/service.yaml"] = "keys: [db]\n"
		w.files["secrets/db.age"] = "hunter2"
		w.push("first", history.OutcomeDone)
		want := "one\n"
		if composed {
			breaks(w, "s02")
			numbered(w, "a", 2, "two\n")
			w.enable("a", "s00", "s01", "s02")
			w.push("second", history.OutcomePartial)
			want = "two\n"
		}

		w.forgets()
		w.d.Loader.Open = func(fs.FS, string) ([]byte, error) { return nil, errors.New("no identity opens it") }
		w.files["services/s00/files/etc/s00.conf"] = "three\n"
		w.commit("third")
		run, _ := w.d.Run(t.Context(), plan.Request{})
		if got := holds(w, "a", "s01"); got != want || !w.machines["a"].Active("s01.service") || !w.machines["a"].Active("s02.service") {
			t.Errorf("composed %v: s01 holds %q, runs %v; s02 runs %v: want them as they were\n%s", composed, got, w.machines["a"].Active("s01.service"), w.machines["a"].Active("s02.service"), w.tell(run))
		}
		if e := w.state("a").Error; e == nil || !strings.Contains(*e, "s01") {
			t.Errorf("composed %v: nothing is told of s01: %s", composed, w.tell(run))
		}
		t.Log(w.tell(run))
	}
}
