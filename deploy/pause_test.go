package deploy_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"bellhop/deploy"
	"bellhop/deploy/commits"
	"bellhop/deploy/plan"
	"bellhop/internal/history"
	"bellhop/internal/history/stops"
)

// pause pauses runs.
func (w *world) pause(p stops.Pause) {
	w.t.Helper()
	_, _, err := w.db.Pauses().Set(w.t.Context(), p)
	w.must(err)
}

// resume ends the pause.
func (w *world) resume() {
	w.t.Helper()
	_, err := w.db.Pauses().End(w.t.Context())
	w.must(err)
}

// What a push asks for while runs are paused is counted, told, and deployed after the pause.
func TestPushesWhilePaused(t *testing.T) {
	w := newWorld(t, "a")
	first := *w.push("first", history.OutcomeDone).Commit
	w.sinceByCount()
	before := w.sessions("a")
	w.pause(stops.Pause{By: "cadey (uid 1000)", Reason: "moving the rack"})

	for i, want := range []string{"1 commit waits", "2 commits wait", "3 commits wait"} {
		w.files["services/web/files/etc/web.conf"] += "more\n"
		w.commit("more")
		r, err := w.d.Run(t.Context(), plan.Request{Cause: "push"})
		if !errors.Is(err, deploy.ErrPaused) || !errors.Is(err, commits.ErrRefused) || *r.Outcome != history.OutcomeRefused {
			t.Fatalf("a push while runs are paused ended %v, %v", r, err)
		}
		for _, part := range []string{"paused by cadey (uid 1000)", "moving the rack", want + ": bellhop resume"} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("push %d is told %q, want %q in it", i+1, err, part)
			}
		}
	}

	_, err := w.d.Run(t.Context(), plan.Request{Cause: "deploy", By: "mimi (uid 1001)"})
	if !errors.Is(err, deploy.ErrPaused) {
		t.Errorf("a person's deploy while runs are paused ended %v", err)
	}
	if s := w.status(); s.Waiting != 3 || w.sessions("a") != before {
		t.Errorf("%d commits wait, want 3; %d sessions, want %d", s.Waiting, w.sessions("a"), before)
	}
	w.wantState("a", history.Current, first)

	w.resume()
	r := w.run(plan.Request{Cause: "resume"}, history.OutcomeDone)
	w.wantState("a", history.Current, *r.Commit)
	if s := w.status(); s.Paused || s.Waiting != 0 {
		t.Errorf("after resume status says paused %v, %d commits wait", s.Paused, s.Waiting)
	}
}

// A poll while runs are paused is stored when it found a new head, and then no more.
func TestPollsWhilePaused(t *testing.T) {
	w := newWorld(t, "a")
	w.push("first", history.OutcomeDone)
	w.pause(stops.Pause{By: "cadey"})
	poll := plan.Request{Cause: "poll", Trigger: plan.TriggerClock}
	for _, want := range []bool{true, false, false} {
		r, err := w.d.Run(t.Context(), poll)
		if !errors.Is(err, deploy.ErrPaused) {
			t.Fatalf("a poll while runs are paused ended %v", err)
		}
		if _, err := w.db.Run(t.Context(), r.ID); (err == nil) != want {
			t.Errorf("the poll was stored: %v, want %v", err == nil, want)
		}
	}
	w.commit("second")
	r, _ := w.d.Run(t.Context(), poll)
	if _, err := w.db.Run(t.Context(), r.ID); err != nil {
		t.Errorf("a poll that found a new head: %v", err)
	}
}

// sinceByCount has the source tell the messages of the commits between two.
func (w *world) sinceByCount() {
	w.d.Since = func(_ context.Context, last, head string) (messages []string, err error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, c := range w.commits {
			if c.Commit > last && c.Commit <= head {
				messages = append(messages, c.Message)
			}
		}
		return messages, nil
	}
}

// status is what history says of the fleet.
func (w *world) status() history.Status {
	w.t.Helper()
	s, err := w.db.Status(w.t.Context())
	w.must(err)
	return s
}

// A pause ends by its clock: with one commit that waits, or where that was said before, it is deployed; with
// more the fleet stays paused until somebody resumes. A server that runs notices it, and so does one that
// starts later.
func TestPauseEndsByItsClock(t *testing.T) {
	for _, tt := range []struct {
		name    string
		commits int
		then    bool
		away    bool // no server runs when the time is over
		ends    bool
	}{
		{"nothing waits", 0, false, false, true},
		{"one commit", 1, false, false, true},
		{"three commits", 3, false, false, false},
		{"three commits that need nobody", 3, true, false, true},
		{"one commit, while no server runs", 1, false, true, true},
		{"three commits, while no server runs", 3, false, true, false},
		{"three commits that need nobody, while no server runs", 3, true, true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newCancelWorld(t)
				defer func() { w.stop() }()
				w.count()
				_, _, err := w.db.Pauses().Set(t.Context(), stops.Pause{By: "cadey", Since: time.Now(), Until: time.Now().Add(2 * time.Hour), Then: tt.then})
				if err != nil {
					t.Fatal(err)
				}
				w.bell.Paused()
				for range tt.commits {
					w.changeAll()
					w.bell.Ring("push")
					w.idle()
				}
				head := w.commits[len(w.commits)-1].Commit
				top := w.commits[0].Commit

				time.Sleep(90 * time.Minute)
				w.wantPause(tt.commits, true, top)
				if tt.away {
					w.stop()
					time.Sleep(time.Hour)
					w.db.Close()
					w.live()
					w.count()
					w.start()
				}
				time.Sleep(time.Hour)
				w.idle()
				if tt.ends {
					w.wantPause(0, false, head)
					return
				}
				w.wantPause(tt.commits, true, top)

				// The remote goes back to one commit that waits: that starts nothing by itself any more.
				w.commits = w.commits[:2]
				w.bell.Poll("poll")
				w.idle()
				w.wantPause(1, true, top)
				if _, err := w.db.Pauses().End(t.Context()); err != nil {
					t.Fatal(err)
				}
				w.bell.Ring("resume")
				w.idle()
				w.wantPause(0, false, w.commits[1].Commit)
			})
		})
	}
}

// count has the source tell the messages of the commits between two.
func (w *cancelWorld) count() {
	w.d.Since = func(_ context.Context, last, head string) (messages []string, err error) {
		for _, c := range w.commits {
			if c.Commit > last && c.Commit <= head {
				messages = append(messages, c.Message)
			}
		}
		return messages, nil
	}
}

// wantPause wants what status says of a pause, and the commit that stands everywhere.
func (w *cancelWorld) wantPause(waiting int, isPaused bool, commit string) {
	w.t.Helper()
	s, err := w.db.Status(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	if s.Paused != isPaused || s.Waiting != waiting || deref(s.Commit) != commit {
		w.t.Fatalf("paused %v, %d commits wait, at %s; want %v, %d, at %s", s.Paused, s.Waiting, deref(s.Commit), isPaused, waiting, commit)
	}
	for _, h := range s.Hosts {
		if h.State != history.Current {
			w.t.Errorf("%s is %s, want current", h.Name, h.State)
		}
	}
}

// Who resumes a host while runs are paused is not refused: it is held no longer, and gets the head when the
// pause ends, by a push like any other.
func TestResumeAHostWhilePaused(t *testing.T) {
	w := newWorld(t, "a", "b")
	w.top = atOnce
	versions(w, "one\n", "two\n")
	w.back("", "", history.OutcomeDone)
	w.pause(stops.Pause{By: "cadey", Reason: "the disk is full", Since: time.Now()})
	var resumed *history.Run
	opened := sessionsOf(w, func() {
		resumed = w.run(plan.Request{Cause: "resume", By: "mimi", On: "a", Resume: true}, history.OutcomeDone)
	}, "a", "b")
	if resumed.Commit != nil {
		t.Errorf("the run that deployed nothing is one of commit %s", *resumed.Commit)
	}
	if a, b := w.state("a"), w.state("b"); a.State != history.Behind || a.Held != nil || !strings.Contains(text(a.Error), "resumed by mimi") || b.State != history.Held || opened[0] != 0 {
		t.Errorf("a is %s (%s), held %+v, with %d sessions; b is %s", a.State, text(a.Error), a.Held, opened[0], b.State)
	}
	r, err := w.d.Run(t.Context(), plan.Request{Cause: "resume", By: "mimi", On: "a", Resume: true})
	if !errors.Is(err, deploy.ErrPaused) || *r.Outcome != history.OutcomeRefused {
		t.Errorf("to resume a host that is not held while runs are paused: %v", err)
	}

	w.resume()
	w.run(plan.Request{Cause: "push"}, history.OutcomeDone)
	w.wantState("a", history.Current, *w.commitNow())
	if a, b := holds(w, "a", "web"), holds(w, "b", "web"); a != "two\n" || b != "one\n" {
		t.Errorf("after the pause web holds %q on a and %q on b, want two and one", a, b)
	}
}

// A pause holds up runs, and not what a host needs after a reboot: its keys come back, also where it is held.
func TestKeysOfAHeldHostWhilePaused(t *testing.T) {
	w := newWorld(t, "a")
	keyed(w, "a", 1, 5)
	w.enable("a", "web", "vault")
	versions(w, "one\n", "two\n")
	w.back("", "", history.OutcomeDone)
	w.pause(stops.Pause{By: "cadey", Since: time.Now()})
	serve(t, w)
	w.must(w.machines["a"].Reboot())
	w.hosts["a"].Drop()
	eventually(t, "the key is back", func() bool { return exists(w.machines["a"].Path("/run/keys/key0")) })
	if h := w.state("a"); h.State != history.Held {
		t.Errorf("a is %s (%s), want held", h.State, text(h.Error))
	}
}
