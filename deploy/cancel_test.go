package deploy_test

import (
	"context"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"bellhop/deploy"
	"bellhop/deploy/bell"
	"bellhop/deploy/commits"
	"bellhop/deploy/follow"
	"bellhop/deploy/plan"
	"bellhop/deploy/routes"
	"bellhop/internal/history"
	"bellhop/internal/link"
)

// doors keep the helper of a host from starting until its door is opened, and count how often each host
// was reached.
type doors struct {
	routes.Links

	mu      sync.Mutex
	shut    map[string]chan struct{}
	reached map[string]int
}

func (d *doors) Helper(ctx context.Context, t link.Target, ahead func(io.Writer) error) (routes.Stream, error) {
	d.mu.Lock()
	d.reached[t.Name]++
	door := d.shut[t.Name]
	d.mu.Unlock()
	if door != nil {
		select {
		case <-door:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return d.Links.Helper(ctx, t, ahead)
}

func (d *doors) close(host string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.shut[host] = make(chan struct{})
}

func (d *doors) open(host string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	close(d.shut[host])
	delete(d.shut, host)
}

func (d *doors) count(host string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.reached[host]
}

// A cancelWorld is a fleet of model hosts, pushed one after another, with a bell that is served.
type cancelWorld struct {
	*sim
	*mute
	doors *doors
	bell  *bell.Bell
	t     *testing.T
	path  string
	stop  func()
}

func newCancelWorld(t *testing.T) *cancelWorld {
	s, l := newMute(t)
	s.add("bellhop.yaml", onePerTime)
	w := &cancelWorld{sim: s, mute: l, t: t, path: s.path}
	w.start()
	w.ends(w.bell.Do(plan.Request{Cause: "first", By: "cadey"}), history.OutcomeNothing) // the start pushed
	return w
}

// onePerTime has a run push one host after another, the last ones in a wave of their own; nothing but runs
// opens a session.
const onePerTime = "look: 0s\nrollout: { waves: [1, 2], parallel: 1 }\n"

// changeAll makes a commit that changes every host.
func (w *cancelWorld) changeAll() {
	w.change()
	w.add("bellhop.yaml", onePerTime)
}

// start starts a server, by what is on disk.
func (w *cancelWorld) start() {
	w.d.Detach = true
	w.doors = &doors{Links: w.mute, shut: map[string]chan struct{}{}, reached: map[string]int{}}
	w.d.Links = w.doors
	w.bell = deploy.NewBell(w.d)
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	go func() { done <- w.bell.Serve(ctx) }()
	w.stop = func() { cancel(); <-done }
	w.idle()
}

// restart ends the server and starts another one.
func (w *cancelWorld) restart() {
	w.stop()
	w.db.Close()
	w.live()
	w.start()
}

// idle waits until no run is at work and none waits.
func (w *cancelWorld) idle() {
	synctest.Wait()
	for w.bell.Current() != "" || len(w.bell.Waiting()) > 0 {
		time.Sleep(time.Second)
		synctest.Wait()
	}
}

// begins waits until a run that was rung for is at work: its gap to the run before is over.
func (w *cancelWorld) begins(run string) {
	w.t.Helper()
	time.Sleep(5 * time.Second)
	synctest.Wait()
	if now := w.bell.Current(); now != run {
		w.t.Fatalf("run %q is at work, want %s", now, run)
	}
}

// ends follows a run, and wants it to end as outcome.
func (w *cancelWorld) ends(run string, outcome history.Outcome) *history.Run {
	w.t.Helper()
	r, err := w.bell.Follow(w.t.Context(), run, func(follow.Event) {})
	if err != nil || *r.Outcome != outcome {
		w.t.Fatalf("run %s ended %+v, %v; want %s", run, r, err, outcome)
	}
	return r
}

// outcomes are what came of a run, by host.
func outcomes(r *history.Run) map[string]history.Outcome {
	m := map[string]history.Outcome{}
	for _, h := range r.Hosts {
		m[h.Name] = deref(h.Outcome)
	}
	return m
}

// holds says which hosts hold what the newest commit wants.
func (w *cancelWorld) states() map[string]history.State {
	w.t.Helper()
	s, err := w.db.Status(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	m := map[string]history.State{}
	for _, h := range s.Hosts {
		m[h.Name] = h.State
	}
	return m
}

// A run that is cancelled in its second wave: the host at work goes on to its end, the others are left,
// and nothing pushes them to that commit by itself, also after a restart.
func TestCancel(t *testing.T) {
	for name, goesOn := range map[string]func(w *cancelWorld) string{
		"resume": func(w *cancelWorld) string {
			hosts, err := w.db.Stops().Resume(w.t.Context())
			if diff := cmp.Diff([]string{"h2", "h3"}, hosts); err != nil || diff != "" {
				w.t.Errorf("resume lets go of %q, %v, want h2 and h3", hosts, err)
			}
			return w.bell.Ring("resume")
		},
		"a person deploys": func(w *cancelWorld) string { return w.bell.Do(plan.Request{Cause: "deploy", By: "mimi"}) },
		"a new commit": func(w *cancelWorld) string {
			w.changeAll()
			return w.bell.Ring("push")
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newCancelWorld(t)
				defer func() { w.stop() }()
				w.changeAll()
				w.doors.close("h1")
				run := w.bell.Ring("push")
				w.begins(run)

				c, ok := w.bell.Cancel("cadey (uid 1000)")
				want := bell.Cancelled{Run: run, Left: []string{"h2", "h3"}, AtWork: []string{"h1"}, Planned: true, Next: []string{}}
				if diff := cmp.Diff(want, c); !ok || diff != "" {
					t.Fatalf("Cancel = %v (-want +got):\n%s", ok, diff)
				}
				again, _ := w.bell.Cancel("mimi (uid 1001)")
				want.Again = true
				if diff := cmp.Diff(want, again); diff != "" {
					t.Errorf("Cancel once more (-want +got):\n%s", diff)
				}
				if h := w.state("h3"); h.State != history.Behind || h.CancelledBy == nil || *h.CancelledBy != "cadey (uid 1000)" || !strings.Contains(*h.Error, "cancelled by cadey (uid 1000)") {
					t.Errorf("as soon as cancel has answered h3 is %+v", h)
				}
				w.doors.open("h1")
				r := w.ends(run, history.OutcomeCancelled)
				wantHosts := map[string]history.Outcome{"h0": "done", "h1": "done", "h2": "cancelled", "h3": "cancelled"}
				if diff := cmp.Diff(wantHosts, outcomes(r)); diff != "" {
					t.Errorf("what came of the hosts (-want +got):\n%s", diff)
				}

				before := w.doors.count("h2")
				w.bell.Poll("poll")
				w.idle()
				w.bell.Ring("push (delivered again)")
				w.idle()
				if n := w.doors.count("h2"); n != before {
					t.Errorf("a cancelled host was reached %d more times", n-before)
				}
				w.restart()
				if n := w.doors.count("h2"); n != 0 {
					t.Errorf("after a restart a cancelled host was reached %d times", n)
				}

				w.ends(goesOn(w), history.OutcomeDone)
				all := map[string]history.State{"h0": "current", "h1": "current", "h2": "current", "h3": "current"}
				if diff := cmp.Diff(all, w.states()); diff != "" {
					t.Errorf("after it went on (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// A run that is cancelled before it has a plan begins no host.
func TestCancelBeforeThePlan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newCancelWorld(t)
		defer func() { w.stop() }()
		w.changeAll()
		sync, asked, ask := w.d.Sync, make(chan struct{}), make(chan struct{})
		w.d.Sync = func(ctx context.Context) (commits.Snapshot, error) {
			close(asked)
			<-ask
			return sync(ctx)
		}
		run := w.bell.Do(plan.Request{Cause: "deploy", By: "mimi"})
		<-asked
		if c, ok := w.bell.Cancel("cadey"); !ok || c.Run != run || c.Planned {
			t.Errorf("Cancel = %+v, %v", c, ok)
		}
		w.d.Sync = sync
		before := w.doors.count("h0")
		close(ask)
		r := w.ends(run, history.OutcomeCancelled)
		if n := w.doors.count("h0"); n != before || len(r.Hosts) != 4 {
			t.Errorf("h0 was reached %d times after the run was cancelled; hosts %v", n-before, outcomes(r))
		}
	})
}

// A host that did not answer a run that was cancelled is not pushed when it is back: nothing of that run
// goes on by itself.
func TestCancelledHostIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newCancelWorld(t)
		defer func() { w.stop() }()
		w.changeAll()
		w.at["h0"] = "reach"
		w.doors.close("h1")
		run := w.bell.Ring("push")
		synctest.Wait()
		for w.state("h0").State != history.Pending {
			time.Sleep(10 * time.Second)
			synctest.Wait()
		}
		w.bell.Cancel("cadey")
		w.doors.open("h1")
		w.ends(run, history.OutcomeCancelled)
		w.mute.mu.Lock()
		w.at["h0"] = ""
		w.mute.mu.Unlock()
		before := w.doors.count("h0")
		time.Sleep(time.Hour)
		w.idle()
		h := w.state("h0")
		if n := w.doors.count("h0"); h.State != history.Behind || h.CancelledBy == nil || n != before {
			t.Errorf("h0 is %s, cancelled by %v, and was reached %d more times", h.State, h.CancelledBy, n-before)
		}
		w.ends(w.bell.Do(plan.Request{Cause: "deploy", By: "mimi"}), history.OutcomeDone)
	})
}

// Without a run there is nothing to cancel, and nothing is remembered.
func TestCancelNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newCancelWorld(t)
		defer func() { w.stop() }()
		if c, ok := w.bell.Cancel("cadey"); ok {
			t.Errorf("Cancel without a run = %+v, %v", c, ok)
		}
		w.changeAll()
		w.ends(w.bell.Ring("push"), history.OutcomeDone)
	})
}

// state is what status says of a host.
func (w *cancelWorld) state(host string) history.HostStatus {
	w.t.Helper()
	s, err := w.db.Status(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	for _, h := range s.Hosts {
		if h.Name == host {
			return h
		}
	}
	w.t.Fatalf("status has no host %s", host)
	return history.HostStatus{}
}

// A person who deploys one of the hosts that were left out brings that one alone.
func TestDeployOneCancelledHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newCancelWorld(t)
		defer func() { w.stop() }()
		w.changeAll()
		w.doors.close("h1")
		run := w.bell.Ring("push")
		w.begins(run)
		w.bell.Cancel("cadey")
		w.doors.open("h1")
		w.ends(run, history.OutcomeCancelled)

		w.ends(w.bell.Do(plan.Request{Cause: "deploy", By: "mimi", On: "h3"}), history.OutcomeDone)
		w.bell.Ring("push (delivered again)")
		w.idle()
		want := map[string]history.State{"h0": "current", "h1": "current", "h2": "behind", "h3": "current"}
		if diff := cmp.Diff(want, w.states()); diff != "" {
			t.Errorf("after h3 was deployed (-want +got):\n%s", diff)
		}
		if h := w.state("h2"); h.CancelledBy == nil {
			t.Error("h2 is not cancelled any more")
		}
	})
}

// Pushes during a run are one more run, with the newest head, and never two runs at once.
func TestPushesDuringARun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newCancelWorld(t)
		defer func() { w.stop() }()
		w.changeAll()
		w.doors.close("h1")
		first := w.bell.Ring("push")
		w.begins(first)

		next := map[string]bool{}
		for range 3 {
			w.changeAll()
			next[w.bell.Ring("push")] = true
			time.Sleep(5 * time.Second)
			synctest.Wait()
			if run := w.bell.Current(); run != first {
				t.Fatalf("run %s is at work, want %s alone", run, first)
			}
		}
		if len(next) != 1 {
			t.Errorf("three pushes are %d runs, want 1", len(next))
		}

		w.doors.open("h1")
		w.ends(first, history.OutcomeDone)
		for run := range next {
			r := w.ends(run, history.OutcomeDone)
			if head := w.commits[len(w.commits)-1].Commit; deref(r.Commit) != head {
				t.Errorf("the run after it is of %s, want %s", deref(r.Commit), head)
			}
		}
		h, err := w.db.Runs(t.Context(), 50)
		if err != nil || len(h.Runs) != 4 || h.Runs[0].StartedAt.Before(*h.Runs[1].FinishedAt) {
			t.Errorf("%d runs are stored (%v), want 4, one after another", len(h.Runs), err)
		}
	})
}

// A rollback that is cancelled leaves the hosts that it did not begin as they were: at what they hold, and no
// longer held to what they were to go back to. One that was held before stays held.
func TestCancelARollback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newCancelWorld(t)
		defer func() { w.stop() }()
		for range 3 {
			w.changeAll()
			w.ends(w.bell.Ring("push"), history.OutcomeDone)
		}
		w.ends(w.bell.Do(plan.Request{Cause: "rollback", By: "mimi", On: "h3", Rollback: &plan.Rollback{}}), history.OutcomeDone)
		held := w.db.Holds().Of("h3")

		w.doors.close("h1")
		run := w.bell.Do(plan.Request{Cause: "rollback", By: "cadey", Rollback: &plan.Rollback{}})
		w.begins(run)
		c, ok := w.bell.Cancel("ann")
		if diff := cmp.Diff([]string{"h2", "h3"}, c.Left); !ok || diff != "" {
			t.Fatalf("Cancel = %+v, %v (-want +got):\n%s", c, ok, diff)
		}
		if h := w.state("h2"); h.State != history.Current || h.Held != nil || !strings.Contains(text(h.Error), "the rollback was cancelled by ann") {
			t.Errorf("h2 is %s, held %v: %s", h.State, h.Held, text(h.Error))
		}
		if now := w.db.Holds().Of("h3"); now == nil || now.Run != held.Run || w.state("h3").State != history.Held {
			t.Errorf("h3 is %s, held by %+v, want %+v", w.state("h3").State, now, held)
		}
		w.doors.open("h1")
		w.ends(run, history.OutcomeCancelled)

		before := w.doors.count("h2") + w.doors.count("h3")
		w.bell.Poll("poll")
		w.idle()
		w.restart()
		want := map[string]history.State{"h0": "held", "h1": "held", "h2": "current", "h3": "held"}
		if diff := cmp.Diff(want, w.states()); diff != "" {
			t.Errorf("after it (-want +got):\n%s", diff)
		}
		if n := w.doors.count("h2") + w.doors.count("h3"); n > before {
			t.Errorf("hosts of a cancelled rollback were reached %d times", n)
		}
	})
}

// That a run was cancelled is told of a host until there is another commit: what keeps the host from that one
// is something else.
func TestCancelledIsOldNewsAfterAnotherCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newCancelWorld(t)
		defer func() { w.stop() }()
		w.changeAll()
		w.doors.close("h1")
		run := w.bell.Ring("push")
		w.begins(run)
		if _, ok := w.bell.Cancel("cadey"); !ok {
			t.Fatal("there is nothing to cancel")
		}
		w.doors.open("h1")
		w.ends(run, history.OutcomeCancelled)
		if by := w.state("h3").CancelledBy; by == nil {
			t.Fatal("h3 does not say who cancelled")
		}

		w.changeAll()
		w.doors.close("h1")
		w.begins(w.bell.Ring("push"))
		if h := w.state("h3"); h.CancelledBy != nil {
			t.Errorf("h3 waits for the next commit, and says that %s cancelled", *h.CancelledBy)
		}
		w.doors.open("h1")
		w.idle()
	})
}
