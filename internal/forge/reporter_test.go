package forge

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/forge/fakeforge"
	"bellhop/internal/history"
	"bellhop/internal/history/deliveries"
	"bellhop/internal/history/outbox"
	"bellhop/internal/history/stops"
)

var (
	commitA = strings.Repeat("a", 40)
	commitB = strings.Repeat("b", 40)
)

// A crash ends a process before one of its writes.
type crash struct{}

// A world is one deployer's history and its reporter, without the deployer. Each write counts; the one that left says ends the
// process.
type world struct {
	t     *testing.T
	path  string
	db    *history.DB
	forge *fakeforge.Forge
	r     *Reporter
	p     progress
	sync  *history.SyncError
	left  int // writes until the process ends; below 0: it does not
	count int
}

func newWorld(t *testing.T, kind string) *world {
	w := &world{t: t, path: filepath.Join(t.TempDir(), "bellhop.db"), forge: fakeforge.New(kind), left: -1}
	t.Cleanup(w.forge.Close)
	w.start()
	t.Cleanup(func() { w.db.Close() })
	w.must(w.db.Network(t.Context(), "hexagone", "main"))
	return w
}

// start begins a process on what the one before left.
func (w *world) start() {
	w.t.Helper()
	if w.db != nil {
		w.db.Close()
	}
	var err error
	w.db, err = history.Open(w.path)
	w.must(err)
	_, err = w.db.Recover(w.t.Context())
	w.must(err)

	c, err := New(Config{Kind: Kind(GitHub), URL: w.forge.API(), Repo: fakeforge.Repo, Token: func() (string, error) { return fakeforge.Token, nil }})
	w.must(err)
	w.p = newProgress()
	w.r = &Reporter{Client: c, History: w.db, Marks: marks{w}, Pause: w.db.Pauses().Now, Log: slog.New(slog.DiscardHandler),
		SyncError: func() *history.SyncError { return w.sync },
		RunURL:    func(run string) string { return "https://b.example.org/runs/" + run }}
}

func (w *world) must(errs ...error) {
	w.t.Helper()
	for _, err := range errs {
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

// write is called before each write.
func (w *world) write() {
	w.count++
	if w.left == 0 {
		panic(crash{})
	}
	w.left--
}

// marks are those of the history, with each write counted.
type marks struct{ w *world }

func (m marks) Marks(ctx context.Context) (map[string]outbox.Mark, error) {
	return m.w.db.Outgoing().Marks(ctx)
}

func (m marks) SetMark(ctx context.Context, target string, mark outbox.Mark) error {
	m.w.write()
	return m.w.db.Outgoing().SetMark(ctx, target, mark)
}

func (w *world) round() time.Duration { return w.r.round(w.t.Context(), &w.p) }

func startOf(run, commit string) history.Start {
	return history.Start{ID: run, Commit: commit, Author: "Cadey", Subject: "bot: raise the limit", Cause: "push", At: time.Now()}
}

// plan stores a run that will push hosts.
func (w *world) plan(run, commit string, hosts ...string) {
	w.write()
	var planned []history.Planned
	for _, h := range hosts {
		planned = append(planned, history.Planned{Name: h, State: history.Behind, Wanted: "d-" + commit + h, Listed: true})
	}
	w.must(w.db.Plan(w.t.Context(), startOf(run, commit), commit, planned, nil))
	w.round()
}

// end begins and ends one host of a run.
func (w *world) end(run, commit, host string, outcome history.Outcome) {
	digest := "d-" + commit + host
	w.write()
	w.must(w.db.Begun(w.t.Context(), run, host, digest))
	w.round()

	e := history.End{Outcome: outcome, Digest: digest, Commit: commit, Took: time.Second}
	switch outcome {
	case history.OutcomeDone:
		e.Record, e.Manifest = &bundle.Record{Generation: 1, Digest: digest}, &bundle.Manifest{Host: host}
	case history.OutcomePending:
		e.State, e.Error = history.Pending, "no route to host"
	default:
		e.State, e.Error = history.State(outcome), "web.service failed: exit code 1\nmore"
	}
	w.write()
	w.must(w.db.Ended(w.t.Context(), run, host, e))
	w.round()
}

func (w *world) finish(run, commit string, outcome history.Outcome, err string) {
	w.write()
	w.must(w.db.FinishRun(w.t.Context(), startOf(run, commit), outcome, err))
	w.round()
}

func (w *world) wantLast(commit, state, text string) {
	w.t.Helper()
	got := w.forge.Last(commit)
	if got.State != state || !strings.Contains(got.Description, text) {
		w.t.Errorf("the status of %.7s is %s %q, want %s with %q", commit, got.State, got.Description, state, text)
	}
	if faults := w.forge.Faults(); len(faults) > 0 {
		w.t.Errorf("the forge refused: %q", faults)
	}
}

func TestStatusOfAPush(t *testing.T) {
	w := newWorld(t, "github")
	w.plan("r1", commitA, "chrysalis", "kos-mos", "web")
	w.wantLast(commitA, "pending", "deploying to 3 hosts")
	w.end("r1", commitA, "chrysalis", history.OutcomeDone)
	w.end("r1", commitA, "kos-mos", history.OutcomePending)
	w.wantLast(commitA, "pending", "deploying to 3 hosts")
	w.end("r1", commitA, "web", history.OutcomeDone)
	w.finish("r1", commitA, "", "")
	w.wantLast(commitA, "success", "2 of 3 hosts changed; kos-mos is away")
	if got := w.forge.Last(commitA); got.Context != "bellhop/hexagone" || got.URL != "https://b.example.org/runs/r1" {
		t.Errorf("the status is %+v, want the network in its context and a link to the run", got)
	}

	before := len(w.forge.Statuses())
	for range 5 {
		w.round()
	}
	if n := len(w.forge.Statuses()) - before; n > 0 {
		t.Errorf("%d statuses were sent though nothing happened", n)
	}

	w.end("r2", commitA, "kos-mos", history.OutcomeDone)
	w.finish("r2", commitA, "", "")
	w.wantLast(commitA, "success", "3 of 3 hosts changed")
}

func TestStatusOfAFailure(t *testing.T) {
	w := newWorld(t, "github")
	w.plan("r1", commitA, "chrysalis", "web")
	w.end("r1", commitA, "chrysalis", history.OutcomeDone)
	w.end("r1", commitA, "web", history.OutcomeRolledBack)
	w.finish("r1", commitA, "", "")
	w.wantLast(commitA, "failure", "web rolled-back: web.service failed: exit code 1; 1 of 2 hosts hold it")

	w.plan("r2", commitB, "web")
	w.end("r2", commitB, "web", history.OutcomeDone)
	w.finish("r2", commitB, "", "")
	w.wantLast(commitB, "success", "1 of 2 hosts changed")
	w.wantLast(commitA, "failure", "web rolled-back")
}

// A later commit ends the status of one that was still open with what came of it.
func TestLaterCommitEndsAnOpenStatus(t *testing.T) {
	w := newWorld(t, "github")
	w.plan("r1", commitA, "chrysalis", "web")
	w.end("r1", commitA, "chrysalis", history.OutcomeDone)
	w.finish("r1", commitA, history.OutcomeCancelled, "")
	w.wantLast(commitA, "pending", "")
	w.plan("r2", commitB, "web")
	w.wantLast(commitA, "error", "not deployed everywhere: 1 of 2 hosts changed, followed by bbbbbbb")
}

// A run that is done and had no hosts deployed nothing, and one that found nothing to change is a success.
func TestLaterCommitAfterRunsWithoutHosts(t *testing.T) {
	w := newWorld(t, "github")
	w.plan("r1", commitA, "web")
	w.end("r1", commitA, "web", history.OutcomeDone)
	w.finish("r1", commitA, "", "")
	w.finish("r2", commitB, history.OutcomeDone, "")

	commitC := strings.Repeat("c", 40)
	w.finish("r3", commitC, history.OutcomeNothing, "")
	w.plan("r4", commitA, "web")

	v, err := w.r.look(t.Context(), map[string]string{})
	w.must(err)
	if d, _ := v.verdictOn(commitB); d.state != Error || d.text != "not deployed, followed by aaaaaaa" {
		t.Errorf("of a commit whose only run had no hosts: %+v, want an error", d)
	}
	if d, _ := v.verdictOn(commitC); d.state != Success {
		t.Errorf("of a commit that changes nothing: %+v, want success", d)
	}
}

func TestStatusOfARefusedCommit(t *testing.T) {
	w := newWorld(t, "github")
	w.plan("r1", commitA, "web")
	w.end("r1", commitA, "web", history.OutcomeDone)
	w.finish("r1", commitA, "", "")

	s := startOf("r2", commitB)
	s.Refused = true
	w.must(w.db.Plan(t.Context(), s, commitB, []history.Planned{{Name: "web", State: history.Refused, Error: "bellhop.yaml:3: no", Listed: true, Outcome: history.OutcomeRefused}}, nil))
	w.finish("r2", commitB, history.OutcomeRefused, "bellhop.yaml:3: unknown field @everyone\nbellhop.yaml:4: more")
	w.wantLast(commitB, "error", "not deployed: bellhop.yaml:3: unknown field @everyone")
	w.wantLast(commitA, "success", "")
}

// The first commit of all may be refused, before any host is known.
func TestStatusOfARefusedFirstCommit(t *testing.T) {
	w := newWorld(t, "github")
	s := startOf("r1", commitA)
	s.Refused = true
	w.must(w.db.Plan(t.Context(), s, commitA, nil, nil))
	w.finish("r1", commitA, history.OutcomeRefused, "bellhop.yaml: is missing")
	w.wantLast(commitA, "error", "not deployed: bellhop.yaml: is missing")
}

// A commit waits for the end of a pause; after ten minutes its status says that it is not tried.
func TestStatusWhilePaused(t *testing.T) {
	w := newWorld(t, "github")
	w.plan("r1", commitA, "web")
	w.end("r1", commitA, "web", history.OutcomeDone)
	w.finish("r1", commitA, "", "")

	_, _, err := w.db.Pauses().Set(t.Context(), stops.Pause{By: "cadey", Reason: "holiday", Since: time.Now(), Head: commitB, Waiting: 1})
	w.must(err)
	w.finish("r2", commitB, history.OutcomeRefused, "runs are paused")
	w.wantLast(commitB, "pending", "runs are paused by cadey")

	v, err := w.r.look(t.Context(), map[string]string{})
	w.must(err)
	v.at = v.at.Add(11 * time.Minute)
	if d, _ := v.verdictOn(commitB); d.state != Error || !strings.Contains(d.text, "not deployed: runs are paused by cadey") {
		t.Errorf("after 11 minutes of a pause: %+v, want an error", d)
	}

	// What a person asks for meanwhile says nothing of the commit that is deployed.
	w.finish("r3", commitA, history.OutcomeRefused, "runs are paused")
	w.wantLast(commitA, "success", "1 of 1 host changed")
}

// A push that a webhook named, and that can't be fetched, is told as such.
func TestStatusWhenTheRepoCannotBeRead(t *testing.T) {
	w := newWorld(t, "github")
	w.must(w.db.AddDeliveries(t.Context(), []deliveries.Delivery{{ID: "1", At: time.Now(), Event: "push", Branch: "main", Commit: commitB, Run: "r1"}}))
	w.round()
	if n := len(w.forge.Statuses()); n > 0 {
		t.Fatalf("%d statuses while the repo can be read, want none", n)
	}
	w.sync = &history.SyncError{Since: time.Now().Add(-2 * time.Minute), Error: "read the repo: no route to host"}
	w.round()
	w.wantLast(commitB, "error", "not deployed: read the repo: no route to host")
}

// The name of a host and its words can't break out of a description.
func TestDescriptionIsOneShortLine(t *testing.T) {
	d := verdict{state: Failure, text: "web failed: \x1b[31m" + strings.Repeat("é", 200) + "\nsecond \u202e line"}
	s := d.status("hexagone", nil)
	if len(s.Description) > MaxDescription || strings.ContainsAny(s.Description, "\n\x1b\u202e") {
		t.Errorf("description %q (%d bytes)", s.Description, len(s.Description))
	}
}

// Whatever write the process ends before, each commit ends in the status that came of it.
func TestCrashBeforeEachWrite(t *testing.T) {
	story := func(w *world, from int) (reached int) {
		steps := []func(id string){
			func(id string) {
				w.plan(id, commitA, "chrysalis", "web")
				w.end(id, commitA, "chrysalis", history.OutcomeDone)
				w.end(id, commitA, "web", history.OutcomeRolledBack)
				w.finish(id, commitA, "", "")
			},
			func(id string) {
				w.plan(id, commitB, "web")
				w.end(id, commitB, "web", history.OutcomeDone)
				w.finish(id, commitB, "", "")
			},
		}
		reached = from
		defer func() {
			if e := recover(); e != nil {
				if _, ok := e.(crash); !ok {
					panic(e)
				}
			}
		}()
		for i := from; i < len(steps); i++ {
			reached = i
			steps[i](fmt.Sprintf("r%d-%d", i, w.left))
		}
		return len(steps)
	}

	whole := newWorld(t, "github")
	story(whole, 0)
	if whole.count < 12 {
		t.Fatalf("the story has %d writes, want those of history and of marks", whole.count)
	}
	for left := range whole.count {
		w := newWorld(t, "github")
		w.left = left
		reached := story(w, 0)

		w.left = -1
		w.start()
		w.round()
		if story(w, reached) != 2 {
			t.Fatal("the story did not end")
		}
		w.round()
		w.wantLast(commitA, "failure", "web rolled-back")
		w.wantLast(commitB, "success", "of 2 hosts changed")
		for i, d := range w.forge.Deployments() {
			if last := d.States[len(d.States)-1]; last == "in_progress" {
				t.Errorf("deployment %d, %+v, is open", i, d)
			}
			if i > 0 && d.Payload == w.forge.Deployments()[i-1].Payload {
				t.Errorf("two deployments of the run %s", d.Payload)
			}
		}
		if t.Failed() {
			t.Fatalf("the process ended before write %d", left)
		}
	}
}

// While the forge refuses, commits wait, and each is told of once it takes them.
func TestForgeThatIsAway(t *testing.T) {
	w := newWorld(t, "github")
	w.plan("r0", commitA, "web")
	code := http.StatusBadGateway
	w.forge.Answer = func(*http.Request) int { return code }
	before := w.forge.Requests()

	w.end("r0", commitA, "web", history.OutcomeRolledBack)
	w.finish("r0", commitA, "", "")
	for i := range 30 { // more than the first look at history reads
		run := fmt.Sprintf("r1-%d", i)
		w.plan(run, fmt.Sprintf("%040x", i+1), "web")
		w.end(run, fmt.Sprintf("%040x", i+1), "web", history.OutcomeDone)
		w.finish(run, fmt.Sprintf("%040x", i+1), "", "")
	}
	if n := w.forge.Requests() - before; n > 2 {
		t.Errorf("%d requests to a forge that refuses, want one, and then none for a while", n)
	}

	code = 0
	w.p.notBefore = time.Time{}
	w.round()
	w.wantLast(commitA, "failure", "web rolled-back")
	for i := range 30 {
		w.wantLast(fmt.Sprintf("%040x", i+1), "success", "1 of 1 host changed")
	}
}

// A commit that the forge does not know holds up no other.
func TestCommitThatTheForgeRefuses(t *testing.T) {
	w := newWorld(t, "github")
	w.forge.Answer = func(r *http.Request) int {
		if strings.Contains(r.URL.Path, commitA) {
			return http.StatusUnprocessableEntity
		}
		return 0
	}
	w.plan("r1", commitA, "web")
	w.end("r1", commitA, "web", history.OutcomeDone)
	w.finish("r1", commitA, "", "")
	w.plan("r2", commitB, "web")
	w.end("r2", commitB, "web", history.OutcomeDone)
	w.finish("r2", commitB, "", "")
	w.wantLast(commitB, "success", "1 of 1 host changed")

	before := w.forge.Requests()
	w.round()
	if n := w.forge.Requests() - before; n > 0 {
		t.Errorf("%d requests right after a refusal, want none", n)
	}
	w.forge.Answer = nil
	w.p.retries = map[string]retry{}
	w.round()
	w.wantLast(commitA, "success", "1 of 1 host changed")
}

// A reporter is a goroutine of its own: a forge that hangs holds up nothing, and is asked once.
func TestForgeThatHangs(t *testing.T) {
	w := newWorld(t, "github")
	hanging, asked := make(chan struct{}), make(chan struct{}, 100)
	defer close(hanging)
	w.forge.Answer = func(*http.Request) int { asked <- struct{}{}; <-hanging; return 500 }

	events := make(chan struct{}, 1)
	w.r.Changed = events
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	real := *w.r
	go func() { defer close(ended); real.Run(ctx) }()

	s := startOf("r0", commitA)
	w.must(w.db.Plan(t.Context(), s, commitA, nil, nil))
	events <- struct{}{}
	<-asked
	for i := range 50 {
		id := fmt.Sprintf("r%d", i+1)
		w.must(w.db.Plan(t.Context(), startOf(id, commitA), commitA, nil, nil), w.db.FinishRun(t.Context(), startOf(id, commitA), "", ""))
		select {
		case events <- struct{}{}:
		default:
		}
	}
	if n := len(asked); n > 0 {
		t.Errorf("the forge that hangs got %d more requests during 50 runs, want none", n)
	}
	cancel()
	<-ended
}
