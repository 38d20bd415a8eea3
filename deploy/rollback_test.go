package deploy_test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bellhop/deploy/commits"
	"bellhop/deploy/plan"
	"bellhop/internal/bundle"
	"bellhop/internal/history"
	"bellhop/internal/history/stops"
	"bellhop/internal/host/machine"
)

// versions pushes a world's host a three times: its file reads one, two, three.
func versions(w *world, texts ...string) (runs []*history.Run) {
	for _, text := range texts {
		w.files["services/web/files/etc/web.conf"] = text
		runs = append(runs, w.push(text, history.OutcomeDone))
	}
	return runs
}

// back asks for a rollback, and wants it to end as outcome.
func (w *world) back(on, to string, outcome history.Outcome) *history.Run {
	w.t.Helper()
	return w.run(plan.Request{Cause: "rollback", By: "cadey", On: on, Rollback: &plan.Rollback{To: to, Reason: "it leaks"}}, outcome)
}

// refusesBack wants a rollback to be refused with a text, and to change nothing.
func (w *world) refusesBack(on, to, text string) {
	w.t.Helper()
	before := w.state("a")
	r, err := w.d.Run(w.t.Context(), plan.Request{Cause: "rollback", By: "cadey", On: on, Rollback: &plan.Rollback{To: to}})
	if !errors.Is(err, commits.ErrRefused) || !strings.Contains(err.Error(), text) || *r.Outcome != history.OutcomeRefused {
		w.t.Errorf("rollback of %q to %q: %v, want it refused: %s", on, to, err, text)
	}
	if after := w.state("a"); after.State != before.State || after.Error != nil && before.Error == nil {
		w.t.Errorf("a was %s and is %s (%v)", before.State, after.State, after.Error)
	}
}

// A rollback is one session. The host holds exactly what it held before, is held, and pushes that leave
// its bundle alone leave it there, without a session, over restarts of bellhop too.
func TestRollback(t *testing.T) {
	w := newWorld(t, "a", "b")
	w.top = atOnce
	w.files["services/web/service.yaml"] = "before: { command: backup }\n"
	keyed(w, "a", 1, 5)
	w.enable("a", "web", "vault")
	first := versions(w, "one\n")[0]
	before := tree(t, w.machines["a"].Path("/etc"))

	w.files["secrets/key0.age"] = "rotated"
	w.files["services/vault/files/etc/more.conf"] = "more\n"
	breaksNothing := "[Service]\nExecStart=/bin/web --new\n[Install]\nWantedBy=multi-user.target\n"
	w.files["services/web/web.service"] = breaksNothing
	second := versions(w, "two\n")[0]
	sessions, ran := w.sessions("a"), len(w.machines["a"].Ran())
	w.machines["a"].ClearLog()

	r := w.back("a", "", history.OutcomeDone)
	if got := w.sessions("a") - sessions; got != 1 {
		t.Errorf("%d sessions, want 1", got)
	}
	if *r.Commit != *first.Commit || *r.Subject != *first.Subject || len(r.Hosts) != 1 {
		t.Errorf("the run is of %s %s and of %d hosts", *r.Commit, *r.Subject, len(r.Hosts))
	}
	if after := tree(t, w.machines["a"].Path("/etc")); !slices.Equal(before, after) {
		t.Errorf("files are\n%s\nand were\n%s", after, before)
	}
	if got := read(t, w.machines["a"].Path("/run/keys/key0")); !strings.HasPrefix(got, "value 0") {
		t.Errorf("key0 is %q", got)
	}
	if got := len(w.machines["a"].Ran()); got > ran || ran == 0 {
		t.Errorf("%d commands ran before, and %d after: a rollback runs no steps", ran, got)
	}
	w.wantState("a", history.Held, *first.Commit)
	w.wantState("b", history.Current, *second.Commit)
	if h := w.state("a").Held; h == nil || *h.By != "cadey" || *h.Reason != "it leaks" || h.Since.IsZero() {
		t.Errorf("held: %+v", h)
	}

	sessions = w.sessions("a")
	w.run(plan.Request{Cause: "poll", Trigger: plan.TriggerClock}, history.OutcomeNothing)
	w.d = w.deployer("SHA256:one")
	w.enable("b", "web", "other")
	w.service("other", nil)
	third := w.push("of b alone", history.OutcomeDone)
	w.wantState("a", history.Held, *first.Commit)
	w.wantState("b", history.Current, *third.Commit)
	if o := outcomeOf(third, "a"); o != history.Held.Outcome() {
		t.Errorf("a ended %s in a push, want held", o)
	}
	w.run(plan.Request{Cause: "deploy", By: "cadey", On: "a", Retry: true}, history.OutcomeNothing)
	if got := w.sessions("a") - sessions; got != 0 {
		t.Errorf("%d sessions with a host that is held", got)
	}

	w.must(w.machines["a"].Reboot())
	ks, err := w.d.Keys().Push(t.Context(), "a")
	w.must(err)
	if got := read(t, w.machines["a"].Path("/run/keys/key0")); len(ks) != 1 || !strings.HasPrefix(got, "value 0") {
		t.Errorf("after a reboot key0 is %q (%+v)", got, ks)
	}
	w.wantState("a", history.Held, *first.Commit)
}

func outcomeOf(r *history.Run, host string) history.Outcome {
	for _, h := range r.Hosts {
		if h.Name == host && h.Outcome != nil {
			return *h.Outcome
		}
	}
	return ""
}

// tree lists the files below dir, with what is in them.
func tree(t *testing.T, dir string) (all []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		p, err := os.ReadFile(path)
		all = append(all, strings.TrimPrefix(path, dir)+": "+string(p))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// A commit that changes what a held host is to hold ends its hold, and history says why.
func TestAHoldEndsWithACommit(t *testing.T) {
	w := newWorld(t, "a")
	versions(w, "one\n", "two\n")
	w.back("", "", history.OutcomeDone)
	third := versions(w, "three\n")[0]
	w.wantState("a", history.Current, *third.Commit)
	if w.state("a").Held != nil || holds(w, "a", "web") != "three\n" {
		t.Errorf("held: %+v, web holds %q", w.state("a").Held, holds(w, "a", "web"))
	}
	notes := strings.Join(third.Notes, "\n")
	if !strings.Contains(notes, "a is held no longer: this commit changes") || !strings.Contains(notes, "by cadey: it leaks") {
		t.Errorf("notes of the run: %s", notes)
	}
}

// Resume ends a hold and brings the head, also what failed there before.
func TestResumeOfAHost(t *testing.T) {
	w := newWorld(t, "a", "b")
	w.top = atOnce
	runs := versions(w, "one\n", "two\n")
	w.back("", "", history.OutcomeDone)
	resumed := w.run(plan.Request{Cause: "resume", By: "mimi", On: "a", Resume: true}, history.OutcomeDone)
	w.wantState("a", history.Current, *runs[1].Commit)
	w.wantState("b", history.Held, *runs[0].Commit)
	if notes := strings.Join(resumed.Notes, "\n"); !strings.Contains(notes, "a is held no longer: somebody resumed it") {
		t.Errorf("notes of the run: %s", notes)
	}
}

// Of a host that is held another rollback goes further back, and never to what it was brought away from.
func TestRollbackTwice(t *testing.T) {
	w := newWorld(t, "a")
	runs := versions(w, "one\n", "two\n", "three\n")
	for i, text := range []string{"two\n", "one\n"} {
		w.back("a", "", history.OutcomeDone)
		w.wantState("a", history.Held, *runs[1-i].Commit)
		if got := holds(w, "a", "web"); got != text {
			t.Errorf("web holds %q, want %q", got, text)
		}
	}
	w.refusesBack("a", "", "history knows of nothing older that it had")
	w.wantState("a", history.Held, *runs[0].Commit)

	w.back("a", runs[1].ID, history.OutcomeDone)
	w.wantState("a", history.Held, *runs[1].Commit)
	w.refusesBack("a", "20260101-000000-abcdef", "no run 20260101-000000-abcdef")
}

// What can't be done is refused as a whole, with its reason.
func TestRollbackRefused(t *testing.T) {
	w := newWorld(t, "a", "b")
	w.top = atOnce
	if _, err := w.d.Run(t.Context(), plan.Request{Rollback: &plan.Rollback{}}); !errors.Is(err, commits.ErrRefused) {
		t.Errorf("rollback before the first deploy: %v", err)
	}
	runs := versions(w, "one\n", "two\n")
	w.host("c", "web")
	late := w.push("one more host", history.OutcomeDone)
	w.refusesBack("", "", "c: history knows of nothing older that it had")
	w.refusesBack("c", "", "c: history knows of nothing")
	w.refusesBack("", runs[0].ID, "bellhop rollback '!c'")
	w.wantState("b", history.Current, *late.Commit)

	delete(w.yaml, "b")
	w.push("without b", history.OutcomeNothing)
	w.refusesBack("b", "", "b left the repo")

	w.commits = slices.DeleteFunc(w.commits, func(c commits.Snapshot) bool { return c.Commit == *runs[0].Commit })
	w.refusesBack("a", runs[0].ID, "from commit 000000000000")
	w.wantState("a", history.Current, *w.commitNow())
	w.back("a", late.ID, history.OutcomeNothing)
}

// commitNow is the head.
func (w *world) commitNow() *string { return &w.commits[len(w.commits)-1].Commit }

// A rollback that did not come to its host yet goes to the same place when somebody asks again, and not further.
func TestRollbackAskedAgain(t *testing.T) {
	w := newWorld(t, "a")
	runs := versions(w, "one\n", "two\n", "three\n")
	w.hosts["a"].Cut()
	w.back("a", "", history.OutcomeFailed)
	again := w.back("a", "", history.OutcomeFailed)
	if notes := strings.Join(again.Notes, "\n"); !strings.Contains(notes, "is tried again") {
		t.Errorf("notes: %s", notes)
	}

	w.d = w.deployer("SHA256:one")
	w.must(w.hosts["a"].Mend())
	w.run(plan.Request{Cause: "start"}, history.OutcomeDone)
	w.wantState("a", history.Held, *runs[1].Commit)
}

// What a host stood at that a rollback found there already is what a later --to goes to.
func TestRollbackToARunThatFoundItThere(t *testing.T) {
	w := newWorld(t, "a")
	runs := versions(w, "one\n", "two\n", "three\n")
	first := w.back("a", "", history.OutcomeDone)
	found := w.back("a", first.ID, history.OutcomeNothing)
	w.back("a", runs[0].ID, history.OutcomeDone)
	w.back("a", found.ID, history.OutcomeDone)
	w.wantState("a", history.Held, *runs[1].Commit)
	if got := holds(w, "a", "web"); got != "two\n" {
		t.Errorf("web holds %q", got)
	}
}

// A host that is away is brought back as soon as it is there again, by whatever run comes first.
func TestRollbackOfAHostThatIsAway(t *testing.T) {
	w := newWorld(t, "a", "b")
	w.top = atOnce
	runs := versions(w, "one\n", "two\n")
	w.hosts["a"].Cut()
	w.back("", "", history.OutcomePartial)
	if h := w.state("a"); h.State != history.Pending || h.Held == nil {
		t.Errorf("a is %s, held %+v", h.State, h.Held)
	}
	w.wantState("b", history.Held, *runs[0].Commit)

	w.d = w.deployer("SHA256:one")
	w.must(w.hosts["a"].Mend())
	w.run(plan.Request{Cause: "start"}, history.OutcomeDone)
	w.wantState("a", history.Held, *runs[0].Commit)
	if got := holds(w, "a", "web"); got != "one\n" {
		t.Errorf("web holds %q", got)
	}
}

// probed has a command say whether a service is well.
const probed = "health: { command: look, grace: 0s, interval: 100ms }\n"

// A rollback that fails leaves the host as it was, held: the head is not deployed there.
func TestARollbackThatFails(t *testing.T) {
	w := newWorld(t, "a")
	w.files["services/web/service.yaml"] = probed
	runs := versions(w, "one\n")
	delete(w.files, "services/web/service.yaml")
	versions(w, "two\n", "three\n")
	w.back("a", "", history.OutcomeDone)
	w.machines["a"].Answer("command look", machine.Answer{Wrong: "not well"})
	w.back("a", "", history.OutcomeFailed)
	if h := w.state("a"); h.State != history.RolledBack || h.Held == nil || holds(w, "a", "web") != "two\n" {
		t.Errorf("a is %s, held %+v, web holds %q", h.State, h.Held, holds(w, "a", "web"))
	}
	sessions := w.sessions("a")
	w.run(plan.Request{Cause: "start"}, history.OutcomeFailed)
	if got := w.sessions("a") - sessions; got != 0 || holds(w, "a", "web") != "two\n" {
		t.Errorf("%d sessions after it, web holds %q", got, holds(w, "a", "web"))
	}
	w.machines["a"].Answer("command look", machine.Answer{})
	again := w.back("a", runs[0].ID, history.OutcomeDone)
	w.wantState("a", history.Held, *runs[0].Commit)
	if notes := strings.Join(again.Notes, "\n"); !strings.Contains(notes, "what it goes back to failed there") {
		t.Errorf("notes: %s", notes)
	}
}

// A host that never came to hold the head has nothing of it to take back: it is held where it stands.
func TestRollbackOfAHostWhereTheHeadFailed(t *testing.T) {
	w := newWorld(t, "a", "b")
	w.top = atOnce
	runs := versions(w, "zero\n", "one\n")
	w.machines["b"].Answer("command look", machine.Answer{Wrong: "not well"})
	w.files["services/web/service.yaml"] = probed
	w.files["services/web/files/etc/web.conf"] = "two\n"
	w.push("two", history.OutcomePartial)
	sessions := w.sessions("b")
	r := w.back("", "", history.OutcomeDone)
	if got := w.sessions("b") - sessions; got != 0 || outcomeOf(r, "b") != history.OutcomeNothing {
		t.Errorf("%d sessions, b ended %s", got, outcomeOf(r, "b"))
	}
	for _, host := range []string{"a", "b"} {
		w.wantState(host, history.Held, *runs[1].Commit)
		if got := holds(w, host, "web"); got != "one\n" {
			t.Errorf("%s holds %q", host, got)
		}
	}
}

// A generation that was composed of several commits comes back as it was.
func TestRollbackToAComposedGeneration(t *testing.T) {
	w, first := keyedPair(t)
	second := *w.commitNow()
	numbered(w, "a", 3, "three\n")
	mends(w, "s01")
	w.files["secrets/db.age"] = "third"
	w.push("third", history.OutcomeDone)
	w.back("a", "", history.OutcomeDone)
	w.wantState("a", history.Held, second)
	got := []string{holds(w, "a", "s00"), holds(w, "a", "s01"), holds(w, "a", "s02"), read(t, w.machines["a"].Path("/run/keys/db"))}
	if want := []string{"two\n", "one\n", "two\n", "hunter2"}; !slices.Equal(got, want) {
		t.Errorf("the host holds %q, want %q", got, want)
	}
	for _, o := range recordOf(w, "a").Origins {
		if want := map[bool]string{true: *first.Commit, false: second}[o.Service == "s01"]; o.Commit != want {
			t.Errorf("the record has %s at %s, want %s", o.Service, o.Commit, want)
		}
	}
	wantServices(w, "a", "s00 current 02", "s01 held-back 01", "s02 current 02")

	w.must(w.machines["a"].Reboot())
	w.d = w.deployer("SHA256:one")
	_, err := w.d.Keys().Push(t.Context(), "")
	w.must(err)
	if got := read(t, w.machines["a"].Path("/run/keys/db")); got != "hunter2" {
		t.Errorf("after a reboot the key is %q", got)
	}
	w.back("a", "", history.OutcomeDone)
	w.wantState("a", history.Held, *first.Commit)
	wantServices(w, "a", "s00 current 01", "s01 current 01", "s02 current 01")
}

// A deployer that dies while a host goes back knows at its next start that it did, and holds it.
func TestDeployerDiesInARollback(t *testing.T) {
	w := newWorld(t, "a")
	runs := versions(w, "one\n", "two\n")
	ctx, cancel := context.WithCancel(t.Context())
	last := inside(bundle.FrameOffer)
	w.d.Links = &cutter{Links: w.d.Links, when: func(p []byte) int {
		n := last(p)
		if n >= 0 {
			cancel()
		}
		return n
	}}
	if r, err := w.d.Run(ctx, plan.Request{Cause: "rollback", By: "cadey", Rollback: &plan.Rollback{}}); err == nil && *r.Outcome == history.OutcomeDone {
		t.Fatal("a run whose deployer died is done")
	}
	if h := w.state("a"); h.Held == nil {
		t.Fatalf("a is %s and not held", h.State)
	}

	w.d = w.deployer("SHA256:one")
	w.run(plan.Request{Cause: "start"}, history.OutcomeDone)
	w.wantState("a", history.Held, *runs[0].Commit)
	if got := holds(w, "a", "web"); got != "one\n" {
		t.Errorf("web holds %q", got)
	}
}

// What the host keeps of former generations is not sent again.
func TestRollbackSendsNothingTwice(t *testing.T) {
	w := newWorld(t, "a")
	noise := make([]byte, 30<<10)
	rand.Read(noise)
	versions(w, hex.EncodeToString(noise)+"\n", "two\n")
	before := w.hosts["a"].Counts().BytesIn
	w.back("a", "", history.OutcomeDone)
	if got := w.hosts["a"].Counts().BytesIn - before; got > 20<<10 {
		t.Errorf("%d bytes were sent, and the file of %d is on the host", got, 2*len(noise))
	}
}

// A hold goes along with its host to another name, which only the host itself tells: the run that hears it
// leaves the host alone, and the next ones know.
func TestAHoldOfARenamedHost(t *testing.T) {
	w := newWorld(t, "a")
	versions(w, "one\n", "two\n")
	w.back("", "", history.OutcomeDone)
	w.hosts["z"], w.machines["z"] = w.hosts["a"], w.machines["a"]
	delete(w.yaml, "a")
	w.enable("z", "web")
	w.push("rename", history.OutcomeRefused)
	if got := holds(w, "z", "web"); got != "one\n" || !strings.Contains(text(w.state("z").Error), "held since") {
		t.Errorf("web of z holds %q, and z says: %s", got, text(w.state("z").Error))
	}

	for _, req := range []plan.Request{{Cause: "push"}, {Cause: "deploy", All: true}} {
		w.run(req, history.OutcomeNothing)
		h := w.state("z")
		if h.State != history.Held || h.Held == nil || holds(w, "z", "web") != "one\n" {
			t.Errorf("after %+v z is %s (%s), held %+v, and web holds %q", req, h.State, text(h.Error), h.Held, holds(w, "z", "web"))
		}
	}

	w.run(plan.Request{Cause: "resume", By: "mimi", On: "z", Resume: true}, history.OutcomeDone)
	w.wantState("z", history.Current, *w.commitNow())
	if got := holds(w, "z", "web"); got != "two\n" {
		t.Errorf("after resume web of z holds %q", got)
	}
}

// A host that a stopped run did not come to, and that was held where it stands, gets the newest commit when a person
// resumes it: at once, or when the pause ends.
func TestResumeOfAHostThatAStoppedRunDidNotComeTo(t *testing.T) {
	for _, isPaused := range []bool{false, true} {
		w := newWorld(t, "a", "b")
		w.push("first", history.OutcomeDone)
		w.service("bad", nil)
		w.enable("a", "web", "bad")
		breaks(w, "bad")
		w.files["services/web/files/etc/web.conf"] = "two\n"
		w.top = "isolate: false\n"
		w.push("second", history.OutcomeFailed)
		wantError(w, "b", "stopped: bad failed on a (max_failures 0)")
		w.back("b", "", history.OutcomeNothing)
		w.wantState("b", history.Held, w.commits[0].Commit)

		if isPaused {
			w.pause(stops.Pause{By: "cadey", Since: time.Now()})
		}
		w.run(plan.Request{Cause: "resume", By: "mimi", On: "b", Resume: true}, history.OutcomeDone)
		if isPaused {
			w.resume()
			w.run(plan.Request{Cause: "poll", Trigger: plan.TriggerClock}, history.OutcomePartial)
		}
		w.wantState("b", history.Current, *w.commitNow())
		if got := holds(w, "b", "web"); got != "two\n" {
			t.Errorf("paused %v: web of b holds %q", isPaused, got)
		}
	}
}
