package forge

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"bellhop/internal/forge/fakeforge"
	"bellhop/internal/history"
	"bellhop/internal/history/outbox"
)

// A crashing planner works on a real history, at a fake forge. Its process ends at one of its writes or requests.
type crashing struct {
	t     *testing.T
	kind  Kind
	path  string
	db    *history.DB
	forge *fakeforge.Forge
	front *httptest.Server // before the forge: it can lose an answer
	p     *Planner
	base  string

	steps int // writes of history and of comments so far
	end   int // at which of them the process ends; below 0: at none
	late  bool
}

func newCrashing(t *testing.T, kind Kind) *crashing {
	w := &crashing{t: t, kind: kind, path: filepath.Join(t.TempDir(), "bellhop.db"), forge: fakeforge.New(string(kind)), base: "base", end: -1}
	w.front = httptest.NewServer(http.HandlerFunc(w.pass))
	t.Cleanup(w.front.Close)
	t.Cleanup(w.forge.Close)
	w.start()
	t.Cleanup(func() { _ = w.db.Close() })
	return w
}

// pass hands a request on. One that writes is a step: the process may end before the forge has it, or before its answer comes.
func (w *crashing) pass(rw http.ResponseWriter, r *http.Request) {
	isWrite := r.Method != http.MethodGet
	if isWrite && w.ends(false) {
		panic(http.ErrAbortHandler)
	}
	rec := httptest.NewRecorder()
	w.forge.ServeHTTP(rec, r)
	if isWrite && w.ends(true) {
		panic(http.ErrAbortHandler)
	}

	rw.Header().Set("Content-Type", rec.Header().Get("Content-Type"))
	rw.WriteHeader(rec.Code)
	_, _ = rw.Write(rec.Body.Bytes())
}

// ends says that the process ends now: before the step that comes, or after the one that is done.
func (w *crashing) ends(isDone bool) bool {
	if !isDone {
		w.steps++
	}
	return w.steps-1 == w.end && w.late == isDone
}

func (w *crashing) Marks(ctx context.Context) (map[string]outbox.Mark, error) {
	return w.db.Outgoing().Marks(ctx)
}

func (w *crashing) SetMark(ctx context.Context, target string, m outbox.Mark) error {
	if w.ends(false) {
		return errCrash
	}
	if err := w.db.Outgoing().SetMark(ctx, target, m); err != nil {
		return err
	}
	if w.ends(true) {
		return errCrash
	}
	return nil
}

var errCrash = &crashError{}

type crashError struct{}

func (*crashError) Error() string { return "the process ends here" }

// start begins a process on what the one before left.
func (w *crashing) start() {
	w.t.Helper()
	if w.db != nil {
		_ = w.db.Close()
	}
	db, err := history.Open(w.path)
	if err != nil {
		w.t.Fatal(err)
	}
	w.db = db

	api := w.front.URL + strings.TrimPrefix(w.forge.API(), w.forge.URL)
	c, err := New(Config{Kind: w.kind, URL: api, Repo: fakeforge.Repo, Token: func() (string, error) { return fakeforge.Token, nil }})
	if err != nil {
		w.t.Fatal(err)
	}
	w.p = &Planner{Client: c, Marks: w, Branch: "main", Log: slog.New(slog.DiscardHandler), Base: func() (string, error) { return w.base, nil },
		Plan: func(_ context.Context, r Request, base string, _ bool) (Plan, error) {
			return Plan{Marker: "<!-- mark -->", Text: "<!-- mark -->\nplan of " + r.Head + " against " + base, Digest: "d" + r.Head}, nil
		}}
}

// story is what happens to requests: they are opened, one is pushed to, another commit is deployed, one is closed.
func (w *crashing) story() {
	acts := []func(){
		func() {
			w.forge.Open(3, fakeforge.Request{Head: commitA, Branch: "topic"})
			w.forge.Open(4, fakeforge.Request{Head: commitB, Branch: "other"})
			w.forge.Say(3, "<!-- mark -->\nI can write that too")
		},
		func() { w.forge.Open(3, fakeforge.Request{Head: strings.Repeat("c", 40), Branch: "topic"}) },
		func() { w.base = "later" },
		func() { w.forge.CloseRequest(4) },
	}
	for _, act := range acts {
		act()
		if err := w.p.round(w.t.Context()); err != nil {
			w.start() // the process ended, and another takes its place
			if err := w.p.round(w.t.Context()); err != nil {
				w.t.Fatalf("after a restart: %v", err)
			}
		}
	}
}

// Whatever write the process ends before or after, be it one of history or one that the forge has and whose answer was lost,
// each request has one comment of ours, which is edited in place and ends with its last plan.
func TestCrashAtEachWriteOfAComment(t *testing.T) {
	for _, kind := range []Kind{GitHub, Forgejo, GitLab} {
		whole := newCrashing(t, kind)
		whole.story()
		if whole.steps < 10 {
			t.Fatalf("%s: the story has %d writes, want those of comments and of marks", kind, whole.steps)
		}

		for end := range whole.steps {
			for _, late := range []bool{false, true} {
				w := newCrashing(t, kind)
				w.end, w.late = end, late
				w.story()
				w.wantComment(3, strings.Repeat("c", 40), 2)
				w.wantComment(4, commitB, 1)
				if faults := w.forge.Faults(); len(faults) > 0 {
					t.Errorf("the forge refused: %q", faults)
				}
				if t.Failed() {
					t.Fatalf("%s: the process ended at write %d, done: %v", kind, end, late)
				}
			}
		}
	}
}

// wantComment wants one comment of ours with the last plan, edited as often as the plan moved, or once more.
func (w *crashing) wantComment(number int, head string, edits int) {
	w.t.Helper()
	var ours []fakeforge.Comment
	for _, c := range w.forge.Comments(number) {
		if !c.Theirs {
			ours = append(ours, c)
		}
	}

	text := "plan of " + head + " against later"
	if len(ours) != 1 || !strings.Contains(ours[0].Body, text) || ours[0].Edits < edits || ours[0].Edits > edits+1 {
		w.t.Errorf("comments of request %d: %+v, want one with %q after %d edits or one more", number, ours, text, edits)
	}
}
