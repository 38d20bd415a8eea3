package host_test

import (
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/bundle/wire"
	"bellhop/internal/host/helper"
	"bellhop/internal/host/state"
	"bellhop/internal/lab"
)

// askRestart asks a twin to restart a service, and returns the steps that it tells of and the result.
// The result is nil when the line ends without one.
func askRestart(t *testing.T, m *lab.Machine, service string) (events []string, res *bundle.Result) {
	t.Helper()
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	go func() {
		err := helper.Serve(t.Context(), m.Host(), inR, outW)
		outW.CloseWithError(err)
	}()
	defer inW.Close()

	r := wire.NewReader(outR)
	var h bundle.Hello
	_, err := r.SkipNoise()
	if err == nil {
		err = r.Expect(bundle.FrameHello, &h)
	}
	if err == nil {
		err = wire.WriteFrame(inW, bundle.FrameAsk, bundle.Ask{Verb: bundle.AskRestart, Run: "restart-1", Service: service})
	}
	for err == nil {
		kind, p, rerr := r.Next()
		if rerr != nil {
			t.Fatalf("restart of %s: %v", service, rerr)
		}
		switch kind {
		case bundle.FrameEvent:
			var e bundle.Event
			err = bundle.Unmarshal(p, &e)
			events = append(events, strings.TrimSpace(e.Step+" "+e.Text))
		case bundle.FrameResult:
			res = &bundle.Result{}
			if err := bundle.Unmarshal(p, res); err != nil {
				t.Fatal(err)
			}
			return events, res
		}
	}
	t.Fatal(err)
	return nil, nil
}

// A restart restarts what runs and starts what should: sockets that are up, jobs that are done and key units
// stay as they are. No generation is made.
func TestRestart(t *testing.T) {
	m := lab.NewMachine(t.TempDir())
	l := rigBot("one", "first")
	l.service("down.service", "[Service]\nExecStart=/x\n[Install]\nWantedBy=multi-user.target\n")
	l.service("call.socket", "[Socket]\nListenStream=99\n[Install]\nWantedBy=sockets.target\n")
	l.service("other.service", "[Service]\nExecStart=/x\n[Install]\nWantedBy=multi-user.target\n")
	for i := range l.Units {
		l.Units[i].Service = "rigbot"
	}
	l.Units[len(l.Units)-1].Service = "other"
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	if err := m.Stop("down.service"); err != nil {
		t.Fatal(err)
	}
	before, err := state.Of(m.Host()).Current()
	if err != nil {
		t.Fatal(err)
	}
	m.ClearLog()

	events, res := askRestart(t, m, "rigbot")
	if res.Outcome != bundle.OutcomeDone {
		t.Fatalf("outcome %s (%s), want done", res.Outcome, res.Error)
	}
	wantList(t, "restarted", res.Restarted, "rigbot.service")
	wantList(t, "started", res.Started, "down.service")
	if want := []string{"restart rigbot.service", "start down.service", "health"}; !slices.Equal(events, want) {
		t.Errorf("events %q, want %q", events, want)
	}
	for unit, want := range map[string]int{"rigbot.service": 1, "down.service": 1, "call.socket": 0, "rigtoken-key.service": 0, "other.service": 0} {
		if got := m.Starts(unit); got != want {
			t.Errorf("%s was started %d times, want %d; log %v", unit, got, want, m.Log())
		}
	}
	if now, err := state.Of(m.Host()).Current(); err != nil || now.Generation != before.Generation {
		t.Errorf("generation %d after a restart (%v), want %d", now.Generation, err, before.Generation)
	}
}

// A unit that dies after its restart fails it, with what the unit wrote, less the values of keys.
func TestRestartFails(t *testing.T) {
	m := lab.NewMachine(t.TempDir())
	l := rigBot("one", "first-first-first")
	l.Services = nil // settles as by default
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	m.DieAfter("rigbot.service", time.Millisecond)
	m.Say("rigbot.service", "login with first-first-first", "it broke")

	_, res := askRestart(t, m, "rigbot")
	if res.Outcome != bundle.OutcomeFailed || !strings.Contains(res.Error, "unit rigbot.service") {
		t.Fatalf("result %s (%s), want failed, and the unit", res.Outcome, res.Error)
	}
	if len(res.Evidence) != 1 || !slices.Contains(res.Evidence[0].Lines, "it broke") {
		t.Fatalf("evidence %+v, want the unit's lines", res.Evidence)
	}
	if text := strings.Join(res.Evidence[0].Lines, "\n"); strings.Contains(text, "first-first") {
		t.Errorf("evidence has the value of a key: %s", text)
	}
	if len(res.Failing) != 1 || res.Failing[0] != "rigbot" {
		t.Errorf("failing %q, want rigbot", res.Failing)
	}
}

// What can't be restarted is said, and nothing is touched.
func TestRestartOfNothing(t *testing.T) {
	m := lab.NewMachine(t.TempDir())
	l := rigBot("one", "first").file("/etc/motd", "hello")
	l.Files[len(l.Files)-1].Service = "texts"
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	m.ClearLog()

	_, res := askRestart(t, m, "web")
	if res.Outcome != bundle.OutcomeRefused || res.Error != "it has no service web: it has bot, rigbot, texts" {
		t.Errorf("restart of a service that is not there: %s (%s)", res.Outcome, res.Error)
	}
	_, res = askRestart(t, m, "texts")
	if res.Outcome != bundle.OutcomeNothing || len(res.Warnings) != 1 || !strings.Contains(res.Warnings[0], "service texts has no units") {
		t.Errorf("restart of a service without units: %s, warnings %q", res.Outcome, res.Warnings)
	}
	if jobs := m.Jobs(); len(jobs) > 0 {
		t.Errorf("jobs %v, want none", jobs)
	}
}

// A restart waits for the run at work, and restarts what that run leaves.
func TestRestartWaitsForTheRunAtWork(t *testing.T) {
	m := lab.NewMachine(t.TempDir())
	l := rigBot("one", "first")
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	unlock, err := state.Of(m.Host()).Lock(0)
	if err != nil {
		t.Fatal(err)
	}
	m.ClearLog()
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	go func() { outW.CloseWithError(helper.Serve(t.Context(), m.Host(), inR, outW)) }()
	defer inW.Close()

	r := wire.NewReader(outR)
	wait := func(kind byte) (p []byte) {
		t.Helper()
		got, p, err := r.Next()
		if err != nil || got != kind {
			t.Fatalf("frame %q (%v), want %q", got, err, kind)
		}
		return p
	}
	if _, err := r.SkipNoise(); err != nil {
		t.Fatal(err)
	}
	wait(bundle.FrameHello)
	if err := wire.WriteFrame(inW, bundle.FrameAsk, bundle.Ask{Verb: bundle.AskRestart, Run: "restart-1", Service: "rigbot"}); err != nil {
		t.Fatal(err)
	}
	if e := wait(bundle.FrameEvent); !strings.Contains(string(e), "another run is at work") {
		t.Errorf("event %s, want that it waits", e)
	}
	if n := m.Starts("rigbot.service"); n != 0 {
		t.Errorf("%d starts beside a run at work", n)
	}
	unlock()
	if e := wait(bundle.FrameEvent); !strings.Contains(string(e), "rigbot.service") {
		t.Errorf("event %s, want the restart", e)
	}
	wait(bundle.FrameEvent)
	wait(bundle.FrameResult)
	if n := m.Starts("rigbot.service"); n != 1 {
		t.Errorf("%d starts after the run at work, want 1", n)
	}
}

// A deployer that is gone by the time that the run at work ends gets no restart.
func TestRestartOfADeployerThatIsGone(t *testing.T) {
	m := lab.NewMachine(t.TempDir())
	l := rigBot("one", "first")
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	unlock, err := state.Of(m.Host()).Lock(0)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	m.ClearLog()
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	served := make(chan error, 1)
	go func() {
		err := helper.Serve(t.Context(), m.Host(), inR, outW)
		outW.CloseWithError(err)
		served <- err
	}()
	go io.Copy(io.Discard, outR)

	if err := wire.WriteFrame(inW, bundle.FrameAsk, bundle.Ask{Verb: bundle.AskRestart, Run: "restart-1", Service: "rigbot"}); err != nil {
		t.Fatal(err)
	}
	inW.Close()
	if err := <-served; err != nil {
		t.Errorf("serve: %v", err)
	}
	if n := m.Starts("rigbot.service"); n != 0 {
		t.Errorf("%d starts for a deployer that is gone", n)
	}
}
