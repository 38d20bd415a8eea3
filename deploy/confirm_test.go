package deploy_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"bellhop/deploy"
	"bellhop/deploy/follow"
	"bellhop/deploy/plan"
	"bellhop/deploy/routes"
	"bellhop/internal/bundle"
	"bellhop/internal/bundle/wire"
	"bellhop/internal/history"
	"bellhop/internal/history/results"
	"bellhop/internal/lab"
	"bellhop/internal/link"
)

// confirmed is a world whose hosts wait to be confirmed, and hold a first commit.
func confirmed(t *testing.T, window string, names ...string) *world {
	t.Helper()
	w := newWorld(t, names...)
	w.top = atOnce
	w.confirm = "30s"
	w.push("first", history.OutcomeDone)
	w.confirm = window
	return w
}

func (w *world) change(text string) { w.files["services/web/files/etc/web.conf"] = text + "\n" }

// when calls do at the first event of that step on the host.
func (w *world) when(host, step string, do func()) {
	var once sync.Once
	was := w.d.Progress
	w.d.Progress = func(e follow.Event) {
		if e.Host == host && e.Step == step {
			once.Do(do)
		}
		was(e)
	}
}

// lockOut lets nobody log in any more. What is logged in goes on.
func (w *world) lockOut(host string) { w.hosts[host].Allow(w.newSigner().PublicKey()) }

func (w *world) letIn(host string) { w.hosts[host].Allow(w.signer.PublicKey()) }

// A host that changes costs one login and one session more, and any other costs none.
func TestConfirmCosts(t *testing.T) {
	count := func(window string) (changed, same lab.Counts) {
		w := newWorld(t, "a", "b")
		w.confirm = window
		w.service("other", nil)
		w.enable("b", "other")
		w.push("first", history.OutcomeDone)

		a, b := w.hosts["a"].Counts(), w.hosts["b"].Counts()
		w.change("new")
		w.push("second", history.OutcomeDone)
		return minus(w.hosts["a"].Counts(), a), minus(w.hosts["b"].Counts(), b)
	}

	off, none := count("0s")
	on, still := count("30s")
	if on.Logins != off.Logins+1 || on.Sessions != off.Sessions+1 {
		t.Errorf("a changed host costs %d logins and %d sessions, and %d and %d without confirm; want one more of each",
			on.Logins, on.Sessions, off.Logins, off.Sessions)
	}
	if off.Sessions != 1 || off.Logins != 0 {
		t.Errorf("without confirm it costs %d logins and %d sessions, want 0 and 1", off.Logins, off.Sessions)
	}
	if none.Sessions+none.Logins+still.Sessions+still.Logins != 0 {
		t.Errorf("a host that does not change costs %+v, and %+v without confirm; want nothing", still, none)
	}
}

func minus(a, b lab.Counts) lab.Counts {
	return lab.Counts{Logins: a.Logins - b.Logins, Sessions: a.Sessions - b.Sessions, Connections: a.Connections - b.Connections}
}

// A run that changes nothing on a host waits for no confirmation, nor does one that is refused.
func TestNothingToConfirm(t *testing.T) {
	w := confirmed(t, "30s", "a")
	before := w.hosts["a"].Counts()
	w.run(plan.Request{Cause: "deploy", All: true}, history.OutcomeNothing)
	if n := minus(w.hosts["a"].Counts(), before); n.Logins != 0 || n.Sessions != 1 {
		t.Errorf("a look at a host that changes nothing cost %+v, want one session", n)
	}
}

// Promise 5: a host that its bundle cuts off comes back by itself, and says why. The same bundle is not
// tried again until somebody asks.
func TestCutOffHostComesBack(t *testing.T) {
	w := confirmed(t, "3s", "a", "b")
	first := w.commits[0].Commit
	w.when("a", "applied", func() { w.lockOut("a") })
	w.change("new")
	w.push("second", history.OutcomePartial)

	h := w.state("a")
	w.wantState("a", history.Unconfirmed, first)
	w.wantState("b", history.Current, w.commits[1].Commit)
	if h.Reason == nil || *h.Reason != results.ReasonCutOff || !strings.Contains(*h.Error, "login refused") || !strings.Contains(*h.Error, "host b could be reached") {
		t.Errorf("reason %v, error %q; want cut-off by a refused login while host b could be reached", deref(h.Reason), *h.Error)
	}
	if got := read(t, w.machines["a"].Path("/etc/web.conf")); got != "hello\n" {
		t.Errorf("/etc/web.conf is %q, want what was there before", got)
	}

	w.letIn("a")
	sessions := w.sessions("a")
	w.run(plan.Request{Cause: "start"}, history.OutcomeFailed)
	if n := w.sessions("a") - sessions; n != 0 {
		t.Errorf("what cut the host off was tried again: %d sessions", n)
	}
	if h := w.state("a"); h.State != history.Unconfirmed || deref(h.Reason) != results.ReasonCutOff {
		t.Errorf("after the next run the host is %s, %s", h.State, deref(h.Reason))
	}

	w.run(plan.Request{Cause: "deploy", Retry: true}, history.OutcomeDone)
	w.wantState("a", history.Current, w.commits[1].Commit)
	if h := w.state("a"); h.Reason != nil {
		t.Errorf("a current host has the reason %s", *h.Reason)
	}
}

// A host that refuses the login was reached: its bundle cut it off, also where the deployer has nothing else
// to ask, as with one host and a repo on the same disk.
func TestTheHostItselfTellsThatItIsCutOff(t *testing.T) {
	w := confirmed(t, "3s", "a")
	first := w.commits[0].Commit
	w.d.Elsewhere = func(context.Context, string) string { return "" }
	w.when("a", "applied", func() { w.lockOut("a") })
	w.change("new")
	w.push("second", history.OutcomeFailed)

	w.wantState("a", history.Unconfirmed, first)
	h := w.state("a")
	if deref(h.Reason) != results.ReasonCutOff || !strings.Contains(*h.Error, "login refused") || !strings.Contains(*h.Error, "while its sshd could be reached") {
		t.Errorf("reason %s, error %q; want cut-off by its own sshd", deref(h.Reason), *h.Error)
	}
}

// A deployer whose own network was away gives the bundle a second chance, not before two minutes
// later, and no third.
func TestDeployerThatWasAway(t *testing.T) {
	w := confirmed(t, "3s", "a")
	first := w.commits[0].Commit
	w.d.Elsewhere = func(context.Context, string) string { return "" }
	w.d.Links = &noFresh{Links: w.d.Links}
	w.change("new")
	r := w.push("second", history.OutcomeFailed)
	w.wantState("a", history.Unconfirmed, first)
	if got := r.Hosts[0]; *got.Outcome != history.OutcomeUnconfirmed || deref(got.Reason) != results.ReasonAway || !strings.Contains(*got.Error, "tried once more") {
		t.Errorf("the run says %s, %s: %s", *got.Outcome, deref(got.Reason), *got.Error)
	}

	sessions := w.sessions("a")
	w.run(plan.Request{Cause: "push"}, history.OutcomeFailed)
	if n := w.sessions("a") - sessions; n != 0 {
		t.Errorf("it was tried again at once: %d sessions", n)
	}

	w.later("a", 2*time.Minute)
	r = w.run(plan.Request{Cause: "push"}, history.OutcomeFailed)
	if got := r.Hosts[0]; deref(got.Reason) != results.ReasonAway || !strings.Contains(*got.Error, "for the second time") {
		t.Errorf("the second time the run says %s: %s", deref(got.Reason), *got.Error)
	}

	w.later("a", time.Hour)
	sessions = w.sessions("a")
	w.d = w.deployer(w.d.ID) // one that knows only what history knows
	w.run(plan.Request{Cause: "start"}, history.OutcomeFailed)
	if n := w.sessions("a") - sessions; n != 0 {
		t.Errorf("it was tried a third time: %d sessions", n)
	}
	w.run(plan.Request{Cause: "deploy", Retry: true}, history.OutcomeDone)
	w.wantState("a", history.Current, w.commits[1].Commit)
}

// The second time is asked for when it is due, and a bundle that was confirmed then stays.
func TestSecondChanceIsAskedFor(t *testing.T) {
	w := confirmed(t, "3s", "a")
	bell := deploy.NewBell(w.d)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	w.d.Watch(ctx)
	w.d.Elsewhere = func(context.Context, string) string { return "" }
	links := w.d.Links
	w.d.Links = &noFresh{Links: links}
	w.change("new")
	w.push("second", history.OutcomeFailed)
	if got := bell.Waiting(); len(got) != 0 {
		t.Fatalf("a run is asked for at once: %v", got)
	}

	w.d.Links = links
	w.later("a", 2*time.Minute-15*time.Second)
	w.run(plan.Request{Cause: "push"}, history.OutcomeFailed) // too early, and plans the time anew
	eventually(t, "a run is asked for", func() bool { return len(bell.Waiting()) > 0 })
	w.run(plan.Request{Cause: "a was not confirmed"}, history.OutcomeDone)
	w.wantState("a", history.Current, w.commits[1].Commit)
}

// later has history believe that the host went back that long ago.
func (w *world) later(host string, ago time.Duration) {
	w.t.Helper()
	w.must(w.db.Correct(w.t.Context(), host, func(h *history.Host) { h.ReasonAt = time.Now().Add(-ago) }))
}

// noFresh has no fresh connection.
type noFresh struct{ routes.Links }

func (n *noFresh) FreshHelper(_ context.Context, t link.Target, _ func(io.Writer) error) (routes.Stream, error) {
	return nil, &link.Error{Host: t.Name, Kind: link.ErrUnreachable, Err: errors.New("network is unreachable")}
}

// The line of the run is lost while the host waits: it is confirmed all the same, and its result heard.
func TestLineLostWhileTheHostWaits(t *testing.T) {
	w := confirmed(t, "30s", "a")
	w.when("a", "confirm", func() { w.hosts["a"].Drop() })
	w.change("new")
	w.push("second", history.OutcomeDone)
	w.wantState("a", history.Current, w.commits[1].Commit)
	if n := w.machines["a"].Count("restart", "web.service"); n != 1 {
		t.Errorf("%d restarts, want 1", n)
	}
}

// The network of the host goes with the bundle, before anybody hears that the host waits: lines that
// could not be had tell that it was cut off.
func TestNetworkLostBeforeTheHostWaits(t *testing.T) {
	w := confirmed(t, "3s", "a", "b")
	w.change("new")
	mended := make(chan error, 1)
	w.machines["a"].Host().Reached = func(step string) {
		switch step {
		case "health":
			w.hosts["a"].Cut()
		case "undo units": // it is heard again only when it has gone back
			time.AfterFunc(2*time.Second, func() { mended <- w.hosts["a"].Mend() })
		}
	}
	w.push("second", history.OutcomePartial)
	w.must(<-mended)

	w.wantState("a", history.Unconfirmed, w.commits[0].Commit)
	if h := w.state("a"); deref(h.Reason) != results.ReasonCutOff {
		t.Errorf("reason %s (%s), want cut-off", deref(h.Reason), deref(h.Error))
	}
}

// SIGTERM: a host that has applied its bundle is confirmed, and its result stored.
func TestHostThatWaitsIsConfirmedAtTheEnd(t *testing.T) {
	for _, detach := range []bool{false, true} {
		w := confirmed(t, "30s", "a")
		w.d.Detach = detach
		ctx, stop := context.WithCancel(t.Context())
		w.when("a", "confirm", stop)
		w.change("new")
		w.commit("second")
		w.d.Run(ctx, plan.Request{Cause: "push"})
		w.must(w.d.Wait(t.Context()))
		w.wantState("a", history.Current, w.commits[1].Commit)
	}
}

// A deployer that died before it could confirm does so at its next start.
func TestOpenRunIsConfirmedAtStart(t *testing.T) {
	w := confirmed(t, "30s", "a")
	ctx, die := context.WithCancel(t.Context())
	w.when("a", "files", die)
	w.change("new")
	w.commit("second")
	w.d.Run(ctx, plan.Request{Cause: "push"})
	w.wantState("a", history.Deploying, w.commits[0].Commit)

	w.d = w.deployer(w.d.ID)
	w.must(w.d.Settle(t.Context()))
	w.wantState("a", history.Current, w.commits[1].Commit)
	w.run(plan.Request{Cause: "start"}, history.OutcomeNothing)
}

// One that finds the host only later confirms the run that it left there, and goes on.
func TestOpenRunIsConfirmedByTheNextPush(t *testing.T) {
	w := confirmed(t, "10m", "a")
	ctx, die := context.WithCancel(t.Context())
	w.when("a", "files", die)
	w.change("new")
	w.commit("second")
	w.d.Run(ctx, plan.Request{Cause: "push"})

	w.d = w.deployer(w.d.ID)
	links := w.d.Links
	w.d.Links = scripted{Links: links, name: "a", err: &link.Error{Host: "a", Kind: link.ErrUnreachable, Err: errors.New("not yet")}}
	w.must(w.d.Settle(t.Context()))
	w.wantState("a", history.Unknown, w.commits[0].Commit)

	w.d.Links = links
	w.d.Limits.Host = 30 * time.Second // not the ten minutes that the host waits
	w.run(plan.Request{Cause: "start"}, history.OutcomeNothing)
	w.wantState("a", history.Current, w.commits[1].Commit)
}

// A deployer dies while the host that it took over waits for it: who takes the host back waits until it went back.
func TestTakeOverWhileTheHostWaits(t *testing.T) {
	w := confirmed(t, "3s", "a")
	mine := w.d
	w.d = w.deployer("SHA256:two")
	w.d.History = historyOf(t)
	w.d.Links = &noFresh{Links: w.d.Links} // one that is dead confirms nothing
	ctx, die := context.WithCancel(t.Context())
	w.when("a", "files", die)
	w.change("theirs")
	w.commit("theirs")
	w.d.Run(ctx, plan.Request{Cause: "deploy", TakeOver: true})

	w.d = mine
	w.change("mine")
	w.commit("mine")
	w.run(plan.Request{Cause: "deploy", TakeOver: true}, history.OutcomeDone)
	w.wantState("a", history.Current, w.commits[2].Commit)
	rec := recordOf(w, "a")
	if holds(w, "a", "web") != "mine\n" || rec.Deployer != mine.ID || rec.Generation != 2 {
		t.Errorf("web holds %q, the record names %s, generation %d; want mine, %s, 2", holds(w, "a", "web"), rec.Deployer, rec.Generation, mine.ID)
	}
	if n := w.machines["a"].Count("restart", "web.service"); n != 3 {
		t.Errorf("web was restarted %d times, want 3: by theirs, on the way back, and by mine", n)
	}
}

// How long a host is asked to wait.
func TestConfirmWindow(t *testing.T) {
	for name, c := range map[string]struct {
		confirm string
		own     bool
		want    int64
	}{
		"by default":                 {confirm: "30s", want: 30_000},
		"off":                        {confirm: "0s"},
		"the deployer's own":         {confirm: "30s", own: true, want: 120_000},
		"the deployer's own, off":    {confirm: "0s", own: true},
		"the deployer's own, longer": {confirm: "5m", own: true, want: 300_000},
	} {
		w := newWorld(t, "a")
		w.confirm = c.confirm
		if c.own {
			w.push("first", history.OutcomeDone)
			h, _ := w.db.Host("a")
			w.d.BootID, w.d.MachineID = h.BootID, "none"
			w.change("new")
		}
		var got int64 = -1
		w.d.Links = scripted{Links: w.d.Links, name: "a", say: func(in *wire.Reader, out io.Writer, o *bundle.Offer) error {
			if err := greet(out, bundle.Hello{}); err != nil {
				return err
			}
			kind, p, err := in.Next()
			if err != nil {
				return err
			}
			if kind == bundle.FrameAsk {
				return wire.WriteFrame(out, bundle.FrameReply, bundle.Reply{}) // it never began
			}
			*o, err = in.Offer(kind, p)
			got = o.Confirm
			return cmp.Or(err, io.EOF)
		}}
		w.commit("next")
		w.d.Run(t.Context(), plan.Request{Cause: "push"})
		if got != c.want {
			t.Errorf("%s: the host is asked to wait %d ms, want %d", name, got, c.want)
		}
	}
}

// What people are told of it: status, history, and the messages that wait to be sent.
func TestUnconfirmedIsTold(t *testing.T) {
	w := confirmed(t, "1s", "a")
	w.d.Elsewhere = func(_ context.Context, host string) string { return "the git remote" }
	w.d.Links = &noFresh{Links: w.d.Links}
	w.change("new")
	r := w.push("second", history.OutcomeFailed)

	var shown bytes.Buffer
	w.must(json.NewEncoder(&shown).Encode(r))
	if want := `"outcome":"unconfirmed"`; !strings.Contains(shown.String(), want) || !strings.Contains(shown.String(), `"reason":"cut-off"`) {
		t.Errorf("the run as JSON lacks %s, or the reason: %s", want, shown.String())
	}
	ms, err := w.db.Outbox(t.Context(), 100)
	w.must(err)
	told := false
	for _, m := range ms {
		told = told || m.Host == "a" && m.Now == "unconfirmed" && m.Reason == results.ReasonCutOff
	}
	if !told {
		t.Errorf("no message tells of it: %+v", ms)
	}
}
