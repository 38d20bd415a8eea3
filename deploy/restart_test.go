package deploy_test

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"bellhop/deploy/actions"
	"bellhop/deploy/drift"
	"bellhop/internal/history"
	"bellhop/internal/host/state"
)

// A restart tells what it restarts, has the host do it in one session, and leaves what is remembered of the
// host as it was.
func TestRestartService(t *testing.T) {
	w := newWorld(t, "a")
	w.push("first", history.OutcomeDone)
	before, starts, sessions := w.state("a"), w.machines["a"].Starts("web.service"), w.sessions("a")
	var lines []string
	r := w.d.Restart("web", func(host, line string) { lines = append(lines, host+": "+line) })

	if err := r.Check("a"); err != nil {
		t.Errorf("Check = %v", err)
	}
	res, err := r.On(t.Context(), "a")
	if err != nil || len(res.Restarted) != 1 || res.Restarted[0] != "web.service" {
		t.Fatalf("On = %+v, %v", res, err)
	}
	if got := strings.Join(lines, "; "); got != "a: restarting web.service" {
		t.Errorf("told %q", got)
	}
	if n := w.machines["a"].Starts("web.service") - starts; n != 1 {
		t.Errorf("web.service was started %d times, want once", n)
	}
	if n := w.sessions("a") - sessions; n != 1 {
		t.Errorf("it took %d sessions, want one", n)
	}
	if now := w.state("a"); *now.Generation != *before.Generation || now.State != before.State {
		t.Errorf("a was %+v, and is %+v", before, now)
	}
}

// A service that is not on the host is refused before any contact, with the names of those that are.
func TestRestartOfAServiceThatIsElsewhere(t *testing.T) {
	w := newWorld(t, "a")
	w.push("first", history.OutcomeDone)
	r := w.d.Restart("wob", nil)
	err := r.Check("a")
	if !errors.Is(err, actions.ErrNoService) || err.Error() != "a has no service wob; it has web" {
		t.Errorf("Check = %v, want the services that there are", err)
	}
}

// A restart that comes while a run is at work on the host waits for it.
func TestRestartIsBehindTheRunAtWork(t *testing.T) {
	w := newWorld(t, "a")
	w.push("first", history.OutcomeDone)
	unlock, err := state.Of(w.machines["a"].Host()).Lock(0)
	w.must(err)
	starts := w.machines["a"].Starts("web.service")

	var mu sync.Mutex
	waits := make(chan bool, 1)
	r := w.d.Restart("web", func(_, line string) {
		mu.Lock()
		defer mu.Unlock()
		if strings.Contains(line, "waits for the run at work") {
			waits <- w.machines["a"].Starts("web.service") == starts
		}
	})
	done := make(chan error, 1)
	go func() {
		_, err := r.On(t.Context(), "a")
		done <- err
	}()

	if !<-waits {
		t.Error("it restarted beside the run at work")
	}
	unlock()
	if err := <-done; err != nil {
		t.Errorf("On = %v", err)
	}
	if n := w.machines["a"].Starts("web.service") - starts; n != 1 {
		t.Errorf("web.service was started %d times, want once", n)
	}
}

// What fails is an error that names the unit, with what the unit wrote.
func TestRestartServiceFails(t *testing.T) {
	w := newWorld(t, "a")
	w.push("first", history.OutcomeDone)
	w.machines["a"].Fail("web.service")
	w.machines["a"].Say("web.service", "it broke")

	res, err := w.d.Restart("web", nil).On(t.Context(), "a")
	if err == nil || !strings.Contains(err.Error(), "restart web on a: unit web.service") {
		t.Errorf("On = %v, want the unit that failed", err)
	}
	if res == nil || len(res.Evidence) != 1 || res.Evidence[0].Lines[0] != "it broke" {
		t.Errorf("result %+v, want what the unit wrote", res)
	}
}

// What the last look found is another after a restart: a unit that had failed runs again, and status says so
// at once.
func TestRestartLooksAgain(t *testing.T) {
	w := newWorld(t, "a")
	w.push("first", history.OutcomeDone)
	w.machines["a"].Crash("web.service")
	w.drift(drift.Request{})
	if u := w.state("a").Units; u == nil || len(u.Failed) != 1 {
		t.Fatalf("before the restart status has the units %+v, want one that failed", u)
	}
	if _, err := w.d.Restart("web", nil).On(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if u := w.state("a").Units; u == nil || len(u.Failed) != 0 {
		t.Errorf("after the restart status has the units %+v, want none that failed", u)
	}
}
