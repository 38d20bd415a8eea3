package deploy_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"bellhop/deploy"
	"bellhop/deploy/bell"
	"bellhop/deploy/commits"
	"bellhop/deploy/follow"
	"bellhop/deploy/plan"
	"bellhop/deploy/routes"
	"bellhop/internal/bundle"
	"bellhop/internal/bundle/wire"
	"bellhop/internal/fleet"
	"bellhop/internal/history"
	"bellhop/internal/history/stops"
	"bellhop/internal/lab"
	"bellhop/internal/link"
)

// eventually waits until ok; hosts and lines live in real time.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// A cutter loses the line of a host in the middle of a session: when says how many bytes of
// what is written still pass, -1 for all and no cut.
type cutter struct {
	routes.Links
	mu      sync.Mutex
	when    func(written []byte) int
	host    *lab.Machine  // that begins a run by what passes; nil: by what passes no run begins
	arrived func() bool   // in place of host: that it has what was written
	died    func()        // the deployer, as soon as the host has it
	lost    routes.Stream // the one that was cut: nothing of it is heard any more, however fast the host is
}

func (c *cutter) Helper(ctx context.Context, t link.Target, ahead func(io.Writer) error) (routes.Stream, error) {
	first := ahead
	if ahead != nil {
		first = func(w io.Writer) error { return ahead(&cutStream{w.(routes.Stream), c}) }
	}
	s, err := c.Links.Helper(ctx, t, first)
	if err != nil {
		return nil, err
	}
	return &cutStream{s, c}, nil
}

type cutStream struct {
	routes.Stream
	c *cutter
}

func (s *cutStream) Write(p []byte) (int, error) {
	s.c.mu.Lock()
	pass := -1
	if s.c.when != nil {
		pass = s.c.when(p)
	}
	if pass >= 0 {
		s.c.when, s.c.lost = nil, s.Stream
	}
	s.c.mu.Unlock()
	if pass < 0 {
		return s.Stream.Write(p)
	}
	before := s.c.begun()
	if _, err := s.Stream.Write(p[:pass]); err != nil {
		return 0, err
	}
	s.c.letItArrive(before)
	s.Stream.Close()
	return 0, errors.New("cut by the test")
}

func (s *cutStream) Read(p []byte) (int, error) {
	n, err := s.Stream.Read(p)
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.c.lost == s.Stream {
		return 0, errors.New("cut by the test")
	}
	return n, err
}

// begun is how many times the host began to apply a run.
func (c *cutter) begun() (n int) {
	if c.host == nil {
		return 0
	}
	files, _ := filepath.Glob(c.host.Path(bundle.StateDir + "/runs/*/events"))
	for _, f := range files {
		p, _ := os.ReadFile(f)
		n += bytes.Count(p, []byte(`"preflight"`))
	}
	return n
}

// letItArrive waits until the host has what was written.
func (c *cutter) letItArrive(before int) {
	arrived := c.arrived
	if c.host != nil {
		arrived = func() bool { return c.begun() > before }
	}
	for end := time.Now().Add(time.Minute); arrived != nil && !arrived() && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if c.died != nil {
		c.died()
	}
}

// find is where in p a frame of that kind begins and ends, deflated or not; -1 for nowhere.
func find(p []byte, kind byte) (start, end int) {
	for at := 0; at+5 <= len(p); at = end {
		end = at + 5 + int(binary.BigEndian.Uint32(p[at+1:]))
		if p[at]&^0x80 == kind {
			return at, end
		}
	}
	return -1, -1
}

// inside cuts after the head of a frame.
func inside(kind byte) func([]byte) int {
	return func(p []byte) int {
		if start, _ := find(p, kind); start >= 0 {
			return start + 5
		}
		return -1
	}
}

// after cuts behind a frame.
func after(kind byte) func([]byte) int {
	return func(p []byte) int {
		_, end := find(p, kind)
		return end
	}
}

func TestLostLineIsAttachedTo(t *testing.T) {
	for _, tt := range []struct {
		name string
		keys bool // then the host is heard before it may begin
		when func([]byte) int
		all  bool // is sent
	}{
		{"before anything is sent", false, inside(bundle.FrameOffer), false},
		{"before the last file", false, inside(bundle.FrameData), false},
		{"after everything is sent", false, after(bundle.FrameData), true},
		{"keys, before anything is sent", true, inside(bundle.FrameOffer), false},
		{"keys, before the end", true, inside(bundle.FrameEnd), false},
		{"keys, after everything is sent", true, after(bundle.FrameEnd), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, "a")
			if tt.keys {
				keyed(w, "a", 2, 5)
				w.enable("a", "web", "vault")
			}
			w.push("first", history.OutcomeDone)
			w.machines["a"].ClearLog()
			c := &cutter{Links: w.d.Links, when: tt.when}
			if tt.all {
				c.host = w.machines["a"]
			}
			w.d.Links = c
			w.files["services/web/files/etc/web.conf"] = "new\n"
			r := w.push("second", history.OutcomeDone)
			if c.when != nil {
				t.Fatal("the line was never cut")
			}
			w.wantState("a", history.Current, *r.Commit)
			if n := w.machines["a"].Count("restart", "web.service"); n != 1 {
				t.Errorf("%d restarts, want 1", n)
			}
		})
	}
}

// A deployer that dies in the middle knows at its next start what came of it.
func TestDeployerDies(t *testing.T) {
	w := newWorld(t, "a")
	first := *w.push("first", history.OutcomeDone).Commit
	ctx, cancel := context.WithCancel(t.Context())
	w.d.Links = &cutter{Links: w.d.Links, when: after(bundle.FrameData), host: w.machines["a"], died: cancel}
	w.files["services/web/files/etc/web.conf"] = "new\n"
	second := w.commit("second")
	if r, err := w.d.Run(ctx, plan.Request{Cause: "push"}); err == nil && r.Outcome != nil && *r.Outcome == history.OutcomeDone {
		t.Fatal("a run whose deployer died is done")
	}
	w.wantState("a", history.Deploying, first)
	sessions := w.sessions("a")
	id := w.d.ID
	w.d = w.deployer(id)
	w.must(w.d.Settle(t.Context()))
	w.wantState("a", history.Current, second)
	w.run(plan.Request{Cause: "start"}, history.OutcomeNothing)
	if n := w.sessions("a") - sessions; n > 1 {
		t.Errorf("%d sessions to learn what came of it, want 1", n)
	}
	// The plan after it knows what was there, though nobody heard the result.
	w.files["services/web/files/etc/web.conf"] = "newer\n"
	w.commit("third")
	p, err := w.d.Plan(t.Context(), plan.Request{})
	w.must(err)
	if got := p.Sentence(); got != "1 of 1 host changes, 1 unit restarts" {
		t.Errorf("plan after it: %q", got)
	}
}

// What a lost run left behind is found out even when the repo has gone back to what was there
// before it, and the host was away for a while.
func TestLostRunAndRevert(t *testing.T) {
	w := newWorld(t, "a")
	w.push("first", history.OutcomeDone)
	ctx, cancel := context.WithCancel(t.Context())
	w.d.Links = &cutter{Links: w.d.Links, when: after(bundle.FrameData), host: w.machines["a"], died: cancel}
	w.files["services/web/files/etc/web.conf"] = "new\n"
	w.commit("second")
	w.d.Run(ctx, plan.Request{Cause: "push"})
	eventually(t, "the host goes on by itself", func() bool { return read(t, w.machines["a"].Path("/etc/web.conf")) == "new\n" })
	w.hosts["a"].Cut()
	w.d = w.deployer(w.d.ID)
	w.files["services/web/files/etc/web.conf"] = "hello\n"
	w.push("revert", history.OutcomeFailed)
	w.must(w.hosts["a"].Mend())
	w.files["README"] = "x"
	w.push("a readme", history.OutcomeDone)
	if got := read(t, w.machines["a"].Path("/etc/web.conf")); got != "hello\n" {
		t.Errorf("/etc/web.conf is %q, want what the repo went back to", got)
	}
}

func TestSlowHostIsDetached(t *testing.T) {
	w := newWorld(t, "a", "b")
	w.push("first", history.OutcomeDone)
	hold := w.slowly("b", 300*time.Millisecond)
	w.files["services/web/files/etc/web.conf"] = "new\n"
	r := w.push("second", history.OutcomeDone)
	w.wantState("a", history.Current, *r.Commit)
	w.files["services/web/files/etc/web.conf"] = "newer\n"
	r = w.push("third", history.OutcomeDone) // not delayed by b
	if len(r.Hosts) != 2 {
		t.Errorf("the run lists %s; want b too, which waits for its turn", w.tell(r))
	}
	w.wantState("a", history.Current, *r.Commit)
	w.wantState("b", history.Deploying, w.commits[0].Commit)
	close(hold)
	w.must(w.d.Wait(t.Context()))
	w.wantState("b", history.Behind, w.commits[1].Commit)
	r = w.run(plan.Request{Cause: "more"}, history.OutcomeDone)
	w.wantState("b", history.Current, *r.Commit)
}

// A host alone has no peers to be slower than; when another push waits it is let go, and what
// came of it is what its run says in the end.
func TestLoneSlowHost(t *testing.T) {
	for _, waits := range []bool{false, true} {
		w := newWorld(t, "a")
		w.push("first", history.OutcomeDone)
		bell := deploy.NewBell(w.d)
		hold := w.slowly("a", 200*time.Millisecond)
		w.machines["a"].Fail("web.service")
		w.files["services/web/files/etc/web.conf"] = "bad\n"
		if waits {
			bell.Ring("push")
			r := w.push("second", history.OutcomeNothing)
			again := w.run(plan.Request{Cause: "deploy"}, history.OutcomeNothing)
			if len(again.Hosts) != 1 || *again.Hosts[0].Outcome != history.Deploying.Outcome() {
				t.Errorf("a run beside one at work lists %s, want a: deploying", w.tell(again))
			}
			close(hold)
			w.must(w.d.Wait(t.Context()))
			r, err := w.db.Run(t.Context(), r.ID)
			w.must(err)
			if *r.Outcome != history.OutcomeFailed {
				t.Errorf("the run whose only host failed later is %s, want failed", *r.Outcome)
			}
			continue
		}
		bell.Poll("poll")
		time.AfterFunc(time.Second, func() { close(hold) })
		w.push("second", history.OutcomeFailed)
	}
}

// A fix that is pushed while a bad commit is at work on a slow host follows when that fails; a
// bad one that nothing followed is not tried again.
func TestPushIsFollowedWhenASlowHostEndsBadly(t *testing.T) {
	for _, fixed := range []bool{true, false} {
		w := newWorld(t, "a", "b")
		w.push("first", history.OutcomeDone)
		bell := deploy.NewBell(w.d)
		hold := w.slowly("b", 300*time.Millisecond)
		w.machines["b"].Fail("web.service")
		w.files["services/web/files/etc/web.conf"] = "bad\n"
		w.push("second", history.OutcomeDone)
		if fixed {
			w.files["services/web/files/etc/web.conf"] = "good\n"
			w.push("third", history.OutcomeDone)
		}
		close(hold)
		w.must(w.d.Wait(t.Context()))
		w.wantState("b", history.RolledBack, w.commits[0].Commit)
		if rung := len(bell.Waiting()) > 0; rung != fixed {
			t.Errorf("b failed, and the next push came: %v; rung: %v", fixed, rung)
		}
	}
}

// slowly has a host answer nobody until hold is closed, and be detached after patience.
func (w *world) slowly(host string, patience time.Duration) (hold chan struct{}) {
	w.d.Detach, w.d.Limits.Patience = true, patience
	hold = make(chan struct{})
	w.d.Links = &slow{w.d.Links, host, hold}
	return hold
}

type slow struct {
	routes.Links
	host string
	hold chan struct{}
}

func (s *slow) Helper(ctx context.Context, t link.Target, ahead func(io.Writer) error) (routes.Stream, error) {
	if t.Name == s.host {
		select {
		case <-s.hold:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return s.Links.Helper(ctx, t, ahead)
}

func serve(t *testing.T, w *world) (*bell.Bell, func()) {
	t.Helper()
	b := deploy.NewBell(w.d)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.Serve(ctx) }()
	stop := func() {
		cancel()
		select {
		case <-done:
		case <-time.After(time.Minute):
			t.Error("Serve does not end")
		}
	}
	t.Cleanup(stop)
	return b, sync.OnceFunc(func() { cancel(); <-done; done <- nil })
}

func TestKeysComeBackAfterAReboot(t *testing.T) {
	w := newWorld(t, "a")
	keyed(w, "a", 2, 5)
	w.commit("first")
	serve(t, w)
	eventually(t, "the host is current", func() bool {
		h, ok := w.db.Host("a")
		return ok && h.State == history.Current && h.BootID == w.machines["a"].BootID()
	})
	// A newer secret that the host was not given yet is not what it gets back.
	w.files["secrets/key0.age"] = "newer"
	w.commit("not pushed yet")
	w.must(w.machines["a"].Reboot())
	w.hosts["a"].Drop()
	eventually(t, "the keys stand and what waited runs", func() bool {
		_, err := os.Stat(w.machines["a"].Path("/run/keys/key1"))
		return err == nil && w.machines["a"].Active("vault.service")
	})
	if got := read(t, w.machines["a"].Path("/run/keys/key0")); !strings.HasPrefix(got, "value 0") {
		t.Errorf("key0 came back as %q, want that of the generation that stands", got)
	}
	eventually(t, "history knows the new boot", func() bool {
		h, _ := w.db.Host("a")
		return h.BootID == w.machines["a"].BootID() && h.KeysPresent == 2
	})
}

func TestKeysOfAnOlderGeneration(t *testing.T) {
	w := newWorld(t, "a")
	keyed(w, "a", 1, 5)
	w.push("first", history.OutcomeDone)
	w.machines["a"].Fail("vault.service")
	w.files["secrets/key0.age"] = "a bad one"
	w.push("second", history.OutcomeFailed)
	w.machines["a"].Mend("vault.service")
	w.must(w.machines["a"].Reboot())
	ks, err := w.d.Keys().Push(t.Context(), "")
	w.must(err)
	if len(ks) != 1 || ks[0].Error != nil || len(ks[0].Keys) != 1 || !ks[0].Keys[0].Present {
		t.Fatalf("PushKeys: %+v", ks)
	}
	if got := read(t, w.machines["a"].Path("/run/keys/key0")); !strings.HasPrefix(got, "value 0") {
		t.Errorf("key0 is %q, want that of the generation that stands", got)
	}
	ks, err = w.d.Keys().Status(t.Context(), "a")
	w.must(err)
	if k := ks[0].Keys[0]; !k.Expected || !k.Present || k.Since == nil || *ks[0].BootID != w.machines["a"].BootID() {
		t.Errorf("KeyStatus: %+v", ks[0])
	}
}

// A host that was away is pushed as soon as it is back, and nobody needs to ask.
func TestPendingHostIsPushedWhenItIsBack(t *testing.T) {
	w := newWorld(t, "a")
	w.hosts["a"].Cut()
	commit := w.commit("first")
	b, _ := serve(t, w)
	eventually(t, "the host is pending", func() bool { h, ok := w.db.Host("a"); return ok && h.State == history.Pending && b.Current() == "" })
	w.must(w.hosts["a"].Mend())
	eventually(t, "the host is current", func() bool { h, _ := w.db.Host("a"); return h.State == history.Current })
	w.wantState("a", history.Current, commit)
}

// A host whose line is kept and that comes back with another host key is refused in a run, once,
// and its line is kept anew when the key is put right.
func TestLineToAHostWithAnotherKey(t *testing.T) {
	w := newWorld(t, "a")
	keyed(w, "a", 1, 3)
	w.commit("first")
	b, _ := serve(t, w)
	b.Ring("push")
	eventually(t, "a is current, with its key", func() bool { h, _ := w.db.Host("a"); return h.State == history.Current && h.KeysPresent == 1 })
	w.must(w.hosts["a"].NewHostKey())
	w.hosts["a"].Drop()
	eventually(t, "a is refused", func() bool { h, _ := w.db.Host("a"); return h.State == history.Refused && b.Current() == "" })
	if h := w.state("a"); h.Error == nil || !strings.Contains(*h.Error, "pin the new one") {
		t.Errorf("a is refused (%v), want the word on its host key", h.Error)
	}
	hist, err := w.db.Runs(t.Context(), 10, "a")
	w.must(err)
	if r := hist.Runs[0]; *r.Outcome != history.OutcomeRefused || !strings.HasSuffix(r.Cause, "a shows another host key") {
		t.Errorf("the newest run was for %q and ended %s, want one for the host key, refused", r.Cause, *r.Outcome)
	}
	w.enable("a", "vault")
	w.must(w.machines["a"].Reboot())
	commit := w.commit("the new key is pinned")
	b.Ring("push")
	eventually(t, "a is current again, with its key", func() bool { h, _ := w.db.Host("a"); return h.State == history.Current && h.KeysPresent == 1 })
	w.wantState("a", history.Current, commit)
	w.must(w.machines["a"].Reboot())
	w.hosts["a"].Drop()
	eventually(t, "the key is back after a reboot", func() bool { h, _ := w.db.Host("a"); return h.BootID == w.machines["a"].BootID() && h.KeysPresent == 1 })
}

// A host that lets us in and can't be worked with is tried again by the clock: its line stands, so
// no line tells when it is better.
func TestHostThatIsThereIsTriedAgain(t *testing.T) {
	w := newWorld(t, "a")
	w.hosts["a"].MaxSessions(-1)
	commit := w.commit("first")
	b, _ := serve(t, w)
	runs := func() int {
		h, err := w.db.Runs(t.Context(), 50, "a")
		w.must(err)
		return len(h.Runs)
	}
	// The first run, and the one that its line rings for when it stands.
	eventually(t, "the host is pending, and its line stands", func() bool {
		h, ok := w.db.Host("a")
		return ok && h.State == history.Pending && b.Current() == "" && runs() > 1
	})
	if h := w.state("a"); !strings.Contains(*h.Error, "MaxSessions") {
		t.Errorf("a is pending by %q, want a word on MaxSessions", *h.Error)
	}
	w.hosts["a"].MaxSessions(0)
	eventually(t, "the host is current", func() bool { h, _ := w.db.Host("a"); return h.State == history.Current })
	w.wantState("a", history.Current, commit)
}

// Hosts that are away hold up nobody: they come last, and one that takes long to give no answer is
// tried once. Since when it is away stays told.
func TestHostsThatAreAway(t *testing.T) {
	w := newWorld(t, "a", "b", "c")
	slow := &noAnswer{Links: w.d.Links, hosts: map[string]int{"a": 0, "b": 0}}
	w.d.Links = slow
	w.yaml["c"] += "rollout: { parallel: 1 }\n"
	w.push("first", history.OutcomePartial)
	since := func(host string) string {
		h := w.state(host)
		if h.State != history.Pending || h.Error == nil || !strings.HasPrefix(*h.Error, "away since 20") || !strings.HasSuffix(*h.Error, "Z: unreachable: no answer") {
			t.Fatalf("%s is %s (%v), want pending, with since when and why", host, h.State, h.Error)
		}
		at, _, _ := strings.Cut(*h.Error, "Z: ")
		return at
	}
	was := since("a")
	if slow.hosts["a"] != 1 || slow.hosts["b"] != 1 {
		t.Errorf("tries of hosts that give no answer: %v, want one each", slow.hosts)
	}
	next := time.Now().Truncate(time.Second).Add(time.Second)
	eventually(t, "another second", func() bool { return time.Now().After(next) })
	w.mu.Lock()
	w.events = nil
	w.mu.Unlock()
	w.files["services/web/files/etc/web.conf"] = "second\n"
	w.push("second", history.OutcomePartial)
	w.mu.Lock()
	var order []string
	for _, e := range w.events {
		if e.Step == "end" && e.Host != "" {
			order = append(order, e.Host)
		}
	}
	w.mu.Unlock()
	if got := strings.Join(order, " "); got != "c a b" {
		t.Errorf("hosts ended in the order %s, want c first, which was not away", got)
	}
	if now := since("a"); now != was {
		t.Errorf("a is %s, was %s: want the time that it was missed first", now, was)
	}
	w.d.Links = slow.Links
	r := w.run(plan.Request{Cause: "push"}, history.OutcomeDone)
	w.wantState("a", history.Current, *r.Commit)
}

// noAnswer takes long to find that hosts do not answer, and counts how often it was asked to.
type noAnswer struct {
	routes.Links
	mu    sync.Mutex
	hosts map[string]int
}

func (n *noAnswer) Helper(ctx context.Context, t link.Target, ahead func(io.Writer) error) (routes.Stream, error) {
	n.mu.Lock()
	_, away := n.hosts[t.Name]
	if away {
		n.hosts[t.Name]++
	}
	n.mu.Unlock()
	if !away {
		return n.Links.Helper(ctx, t, ahead)
	}
	select { // as long as a dial has time
	case <-time.After(120 * time.Millisecond):
	case <-ctx.Done():
	}
	return nil, &link.Error{Host: t.Name, Kind: link.ErrUnreachable, Err: errors.New("no answer")}
}

func TestManyRingsAreFewRuns(t *testing.T) {
	w := newWorld(t, "a")
	w.commit("first")
	b, _ := serve(t, w)
	eventually(t, "the first run ended", func() bool { return b.Current() == "" && len(b.Waiting()) == 0 })
	before := w.syncs
	commit := w.commit("second")
	runs := map[string]bool{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 500 {
		wg.Go(func() {
			id := b.Ring("push")
			mu.Lock()
			defer mu.Unlock()
			runs[id] = true
		})
	}
	wg.Wait()
	for id := range runs {
		r, err := b.Follow(t.Context(), id, func(follow.Event) {})
		if err != nil || r == nil || r.FinishedAt == nil {
			t.Fatalf("Follow(%s) = %v, %v", id, r, err)
		}
	}
	if n := w.syncs - before; n > 2 || len(runs) > 2 {
		t.Errorf("500 rings were %d looks and %d runs, want at most 2", n, len(runs))
	}
	w.wantState("a", history.Current, commit)
}

// A push that follows shortly on another does not wait for the bell's gap; a crowd that rings
// for a commit that was looked at does.
func TestHeadThatMovedDoesNotWait(t *testing.T) {
	w := newWorld(t, "a")
	w.commit("first")
	asked := 0
	w.d.Head = func(context.Context) (string, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		asked++
		return w.commits[len(w.commits)-1].Commit, nil
	}
	b := deploy.NewBell(w.d)
	b.Gap = time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.Serve(ctx) }()
	defer func() { cancel(); <-done }()
	eventually(t, "the start's run is over", func() bool {
		h, ok := w.db.Host("a")
		return ok && h.State == history.Current && b.Current() == ""
	})
	b.Ring("push")
	eventually(t, "the remote was asked", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return asked > 1
	})
	w.mu.Lock()
	if w.syncs != 1 {
		t.Errorf("a ring for the same head was %d looks, want to wait", w.syncs)
	}
	w.mu.Unlock()
	w.files["services/web/files/etc/web.conf"] = "new\n"
	second := w.commit("second")
	eventually(t, "the second commit stands", func() bool {
		h, _ := w.db.Host("a")
		return h.State == history.Current && h.Commit == second
	})
}

func TestRequestsByHandKeepTheirFlags(t *testing.T) {
	w := newWorld(t, "a", "b")
	first := *w.push("first", history.OutcomeDone).Commit
	b, _ := serve(t, w)
	eventually(t, "the start's own look is over", func() bool {
		w.mu.Lock()
		looked := w.syncs > 1
		w.mu.Unlock()
		return looked && b.Current() == "" && len(b.Waiting()) == 0
	})
	w.files["services/web/files/etc/web.conf"] = "new\n"
	second := w.commit("second")
	var steps []string
	r, err := b.Follow(t.Context(), b.Do(plan.Request{Cause: "deploy", By: "cadey", On: "a"}), func(e follow.Event) { steps = append(steps, e.Step) })
	w.must(err)
	w.wantState("a", history.Current, second)
	w.wantState("b", history.Behind, first)
	if r.By != "cadey" || steps[0] != "sync" || steps[len(steps)-1] != "end" {
		t.Errorf("run by %q with steps %v", r.By, steps)
	}
}

func packaged(w *world, url, digest string) {
	w.service("app", map[string]string{"service.yaml": fmt.Sprintf("package: { version: 1.0.0, url: \"%s\", sha256: { amd64: %s } }\n", url, digest)})
}

func TestPackages(t *testing.T) {
	body := "#!/bin/sh\necho hello\n"
	sum := sha256.Sum256([]byte(body))
	digest := hex.EncodeToString(sum[:])
	var mu sync.Mutex
	gets := 0
	srv := httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		mu.Lock()
		gets++
		mu.Unlock()
		if r.URL.Path == "/away" {
			http.Redirect(rw, r, "http://"+r.Host+"/app", http.StatusFound)
			return
		}
		io.WriteString(rw, body)
	}))
	defer srv.Close()

	w := newWorld(t, "a", "b")
	w.d.Client = srv.Client()
	packaged(w, srv.URL+"/app", digest)
	w.enable("a", "app")
	w.enable("b", "app")
	w.push("first", history.OutcomeDone)
	if gets != 1 {
		t.Errorf("fetched %d times for two hosts, want once", gets)
	}
	wrong := strings.Repeat("0", 64)
	packaged(w, srv.URL+"/app", wrong)
	w.push("a wrong digest", history.OutcomeRefused)
	if e := w.state("a").Error; e == nil || !strings.Contains(*e, "sha256") {
		t.Errorf("error: %v", e)
	}
	if _, err := os.Stat(filepath.Join(w.d.Cache, wrong)); err == nil {
		t.Error("a package with the wrong digest was kept")
	}
	packaged(w, srv.URL+"/away", strings.Repeat("1", 64))
	w.push("a redirect to http", history.OutcomeRefused)
	if e := w.state("a").Error; e == nil || !strings.Contains(*e, "only https") {
		t.Errorf("error: %s", *e)
	}
}

func TestTextsOfAHostAreFiltered(t *testing.T) {
	w := newWorld(t, "a")
	keyed(w, "a", 1, 5)
	w.push("first", history.OutcomeDone)
	w.d.Filter = func(keys map[string][]byte) func(string) string {
		return func(s string) string {
			for name, v := range keys {
				s = strings.ReplaceAll(s, string(v), "‹key "+name+"›")
			}
			return s
		}
	}
	w.d.Links = &liar{Links: w.d.Links, text: "boom \x1b[31m" + w.files["secrets/key0.age"]}
	w.files["services/vault/files/etc/vault.conf"] = "new\n"
	w.push("second", history.OutcomeFailed)
	if e := w.state("a").Error; e == nil || *e != "boom [31m‹key key0›" {
		t.Errorf("error of the host is %q", *e)
	}
}

// A run that a power cut ended is tried once more: the second time it may be the bundle that
// kills the host. Bellhop itself may have gone down with it.
func TestCutOffIsTriedOnceMore(t *testing.T) {
	for _, dies := range []bool{false, true} {
		w := newWorld(t, "a")
		first := *w.push("first", history.OutcomeDone).Commit
		bell := deploy.NewBell(w.d)
		l := &liar{Links: w.d.Links, text: "the run was cut off", cut: true}
		w.d.Links = l
		w.files["services/web/files/etc/web.conf"] = "new\n"
		w.push("second", history.OutcomeFailed)
		w.wantState("a", history.Behind, first)
		if len(bell.Waiting()) != 1 {
			t.Error("a run that was cut off is not rung for")
		}
		if dies {
			w.d = w.deployer(w.d.ID)
			w.d.Links = l
		}
		w.run(plan.Request{Cause: "a was cut off"}, history.OutcomeFailed)
		w.wantState("a", history.RolledBack, first)
		came := l.came
		w.run(plan.Request{Cause: "push"}, history.OutcomeFailed)
		if l.came != came {
			t.Error("a bundle that was cut off twice is tried a third time")
		}
	}
}

// A liar answers every offer with a result of its own.
type liar struct {
	routes.Links
	text string
	cut  bool
	came int // sessions
}

func (l *liar) Helper(_ context.Context, t link.Target, ahead func(io.Writer) error) (routes.Stream, error) {
	l.came++
	var first bytes.Buffer
	if ahead != nil {
		if err := ahead(&first); err != nil {
			return nil, err
		}
	}
	in, inW := io.Pipe()
	outR, out := io.Pipe()
	go func() {
		defer out.Close()
		io.WriteString(out, "motd\n"+bundle.Magic)
		wire.WriteFrame(out, bundle.FrameHello, bundle.Hello{Protocol: bundle.Protocol, Arch: "amd64", BootID: "b",
			Record: &bundle.Record{Network: "lab", Host: t.Name, Deployer: "SHA256:one", Generation: 1}})
		r := wire.NewReader(io.MultiReader(&first, in))
		var o bundle.Offer
		if r.Expect(bundle.FrameOffer, &o) == nil {
			wire.WriteFrame(out, bundle.FrameResult, bundle.Result{Run: o.Run, Outcome: bundle.OutcomeRolledBack, Error: l.text, CutOff: l.cut})
		}
	}()
	return pipes{outR, inW}, nil
}

type pipes struct {
	*io.PipeReader
	w *io.PipeWriter
}

func (p pipes) Write(b []byte) (int, error) { return p.w.Write(b) }
func (p pipes) CloseWrite() error           { return p.w.Close() }
func (p pipes) Leave()                      { p.Close() }
func (p pipes) Close() error                { p.w.Close(); return p.PipeReader.Close() }

func TestLock(t *testing.T) {
	dir := t.TempDir()
	unlock, err := deploy.Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := deploy.Lock(dir); !errors.Is(err, deploy.ErrLocked) {
		t.Errorf("second Lock = %v, want ErrLocked", err)
	}
	unlock()
	if unlock, err = deploy.Lock(dir); err != nil {
		t.Errorf("Lock after unlock = %v", err)
	} else {
		unlock()
	}
}

// rebooter reboots the lab's machine when it is asked to.
type rebooter struct {
	routes.Links
	w *world
}

func (r rebooter) Exec(_ context.Context, t link.Target, cmd string) (int, error) {
	if cmd != "systemctl --no-block reboot" {
		return 127, nil
	}
	err := r.w.machines[t.Name].Reboot()
	r.w.hosts[t.Name].Drop()
	return 0, err
}

func TestReboot(t *testing.T) {
	w := newWorld(t, "a")
	keyed(w, "a", 2, 5)
	w.push("first", history.OutcomeDone)
	w.d.Links = rebooter{w.d.Links, w}
	var said []string
	w.must(w.d.Reboot(t.Context(), "a", 0, func(s string) { said = append(said, s) }))
	if len(said) != 3 || said[0] != "rebooting" || said[2] != "2 of 2 keys stand" {
		t.Errorf("Reboot said %q", said)
	}
	if !w.machines["a"].Active("vault.service") {
		t.Error("what waited for the keys does not run")
	}
	if err := w.d.Reboot(t.Context(), "nobody", 0, func(string) {}); err == nil {
		t.Error("Reboot of a host that is not there is no error")
	}
}

// The host that bellhop runs on goes last, and alone.
func TestOwnHostGoesLast(t *testing.T) {
	for _, c := range []struct {
		name, machine string
		alone         bool
	}{
		{"a machine", "", true},
		{"the same machine id", "b08dfa6083e7567a1921a715000001fb", true},
		{"another container on its kernel", "0123456789abcdef0123456789abcdef", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, "a", "b", "c")
			w.d.MachineID = "b08dfa6083e7567a1921a715000001fb\n"
			if c.machine != "" {
				w.must(os.WriteFile(w.machines["a"].Path("/etc/machine-id"), []byte(c.machine+"\n"), 0o444))
			}
			w.push("first", history.OutcomeDone)
			w.d.BootID = w.machines["a"].BootID()
			w.events = nil
			w.files["services/web/files/etc/web.conf"] = "new\n"
			w.push("second", history.OutcomeDone)
			ended, alone := map[string]bool{}, true
			for _, e := range w.events {
				alone = alone && (e.Host != "a" || ended["b"] && ended["c"])
				ended[e.Host] = ended[e.Host] || e.Step == "end"
			}
			if alone != c.alone {
				t.Errorf("the host went last and alone: %v, want %v", alone, c.alone)
			}
		})
	}
}

func TestPaused(t *testing.T) {
	w := newWorld(t, "a")
	w.commit("first")
	w.pause(stops.Pause{})
	r, err := w.d.Run(t.Context(), plan.Request{Cause: "push"})
	if !errors.Is(err, deploy.ErrPaused) || !errors.Is(err, commits.ErrRefused) || *r.Outcome != history.OutcomeRefused || w.sessions("a") != 0 {
		t.Errorf("a paused run ended %v, %v, with %d sessions", r, err, w.sessions("a"))
	}
	w.resume()
	w.run(plan.Request{Cause: "resume"}, history.OutcomeDone)
}

// A head that must not be followed refuses the run, and touches nothing.
func TestHeadRefused(t *testing.T) {
	w := newWorld(t, "a")
	first := w.push("first", history.OutcomeDone)
	sync := w.d.Sync
	w.d.Sync = func(context.Context) (commits.Snapshot, error) {
		return commits.Snapshot{}, fmt.Errorf("%w: rewritten", commits.ErrRefused)
	}
	r, err := w.d.Run(t.Context(), plan.Request{Cause: "push"})
	if !errors.Is(err, commits.ErrRefused) || r == nil || *r.Outcome != history.OutcomeRefused {
		t.Errorf("a refused head ended %v, %v", r, err)
	}
	w.wantState("a", history.Current, *first.Commit)
	w.d.Sync = sync
	w.run(plan.Request{Cause: "push"}, history.OutcomeNothing)
}

// git is told to keep every commit that a generation came from, and no other.
func TestCommitsOfGenerationsAreKept(t *testing.T) {
	w := newWorld(t, "a", "b")
	var kept []string
	w.d.Keep = func(commits []string) error { kept = commits; return nil }
	first := *w.push("first", history.OutcomeDone).Commit
	w.files["README"] = "nothing of a host"
	w.push("second", history.OutcomeNothing)
	w.files["services/web/files/etc/web.conf"] = "new\n"
	third := *w.push("third", history.OutcomeDone).Commit
	want := []string{first, third}
	slices.Sort(want)
	if !slices.Equal(kept, want) {
		t.Errorf("kept %v, want those of the generations, %v", kept, want)
	}
}

func TestQuietPolls(t *testing.T) {
	w := newWorld(t, "a")
	w.push("first", history.OutcomeDone)
	for range 3 {
		w.run(plan.Request{Cause: "poll", Trigger: plan.TriggerClock}, history.OutcomeNothing)
	}
	h, err := w.db.Runs(t.Context(), 0)
	w.must(err)
	if len(h.Runs) != 1 {
		t.Errorf("%d runs are remembered, want 1: a poll that finds nothing tells nothing", len(h.Runs))
	}
	w.files["README"] = "x"
	w.commit("second")
	w.run(plan.Request{Cause: "poll", Trigger: plan.TriggerClock}, history.OutcomeNothing)
	w.wantState("a", history.Current, w.commits[1].Commit)
}

// A ring while the remote does not answer is not lost.
func TestRemoteAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, err := history.Open(filepath.Join(t.TempDir(), "bellhop.db"))
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		var looks atomic.Int32
		tree := fstest.MapFS{"bellhop.yaml": &fstest.MapFile{Data: []byte("network: n\n")}}
		d := &deploy.Deployer{Loader: &fleet.Loader{}, History: db, Source: commits.Source{Sync: func(context.Context) (commits.Snapshot, error) {
			if looks.Add(1) <= 3 {
				return commits.Snapshot{}, errors.New("no route to the remote")
			}
			return commits.Snapshot{Commit: "c", Tree: tree}, nil
		}}}
		b := deploy.NewBell(d)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- b.Serve(ctx) }()
		time.Sleep(10 * time.Minute)
		if n := looks.Load(); n != 4 || db.Top() != "c" {
			t.Errorf("%d looks, top %q; want 4, the last of them good", n, db.Top())
		}
		cancel()
		<-done
	})
}

// A host whose secret does not open is still one that expects its keys.
func TestRefusedHostExpectsItsKeys(t *testing.T) {
	w := newWorld(t, "a")
	keyed(w, "a", 2, 5)
	w.push("first", history.OutcomeDone)
	w.d.Loader.Open = func(fs.FS, string) ([]byte, error) { return nil, errors.New("no identity opens it") }
	w.files["secrets/key0.age"] = "new"
	w.push("second", history.OutcomeRefused)
	if k := w.state("a").Keys; k.Expected != 2 || k.Present != 2 {
		t.Errorf("keys of a host with a secret that does not open: %+v, want 2 of 2", k)
	}
}

// Commits that a forced push took away are told once, by what is missing.
func TestLostCommitsAreToldOnce(t *testing.T) {
	w := newWorld(t, "a")
	var log bytes.Buffer
	w.d.Log = slog.New(slog.NewTextHandler(&log, nil))
	gone := errors.New("keep 1: object not found")
	w.d.Keep = func([]string) error { return gone }
	for range 3 {
		w.files["services/web/files/etc/web.conf"] += "more\n"
		w.push("one more", history.OutcomeDone)
	}
	gone = errors.New("keep 2: object not found")
	w.push("another", history.OutcomeNothing)
	if n := strings.Count(log.String(), "object not found"); n != 2 || strings.Contains(log.String(), "level=ERROR") {
		t.Errorf("two sets of lost commits are told %d times:\n%s", n, log.String())
	}
}

// What a host says when nothing changes is known before: no filter is made for it, which for
// big keys is much work.
func TestNoFilterWhereNothingIsSaid(t *testing.T) {
	w := newWorld(t, "a")
	keyed(w, "a", 2, 5)
	w.push("first", history.OutcomeDone)
	var made int
	var texts []string
	w.d.Filter = func(map[string][]byte) func(string) string {
		made++
		return func(s string) string { texts = append(texts, s); return s }
	}
	w.run(plan.Request{Cause: "deploy", All: true}, history.OutcomeNothing)
	if made > 0 {
		t.Errorf("%d filters were made for %q, want none", made, texts)
	}
	w.files["services/vault/files/etc/vault.conf"] = "new\n"
	w.push("second", history.OutcomeDone)
	if made != 1 {
		t.Errorf("%d filters were made for a change, want one", made)
	}
}

// A host whose pin names another machine while a slow run is at work on the former one is not
// current when that run ends: the new machine is pushed.
func TestReplacedWhileItIsPushed(t *testing.T) {
	w := newWorld(t, "a", "b")
	w.push("first", history.OutcomeDone)
	hold := w.slowly("b", 300*time.Millisecond)
	w.files["services/web/files/etc/web.conf"] = "new\n"
	w.push("second", history.OutcomeDone)
	w.host("b", "web")
	commit := w.commit("b is replaced")
	w.run(plan.Request{Cause: "push"}, history.OutcomeNothing)
	close(hold)
	w.must(w.d.Wait(t.Context()))
	if s := w.state("b").State; s != history.Behind {
		t.Errorf("b is %s when the run on its former machine has ended, want behind", s)
	}
	w.run(plan.Request{Cause: "more"}, history.OutcomeDone)
	w.wantState("b", history.Current, commit)
	if got := read(t, w.machines["b"].Path("/etc/web.conf")); got != "new\n" {
		t.Errorf("the new machine holds %q", got)
	}
}

// What the former machine of a host could not do is not held against the new one.
func TestReplacedByANewerSystemd(t *testing.T) {
	w := newWorld(t, "a")
	w.machines["a"].SetVersion(249)
	keyed(w, "a", 1, 5)
	w.push("not sealed", history.OutcomeDone)
	w.files["services/vault/service.yaml"] = "keys:\n  key0: { source: secrets/key0.age, persist: sealed }\n"
	w.commit("sealed")
	w.run(plan.Request{Cause: "push"}, history.OutcomeRefused)
	w.host("a", "vault")
	w.machines["a"].SetVersion(252)
	commit := w.push("a is replaced by a newer machine", history.OutcomeDone).Commit
	w.wantState("a", history.Current, *commit)
}

// A host that shows another key than is pinned is not called current, though no run may look.
func TestAnotherKeyWhilePaused(t *testing.T) {
	w := newWorld(t, "a")
	keyed(w, "a", 1, 3)
	w.commit("first")
	b, _ := serve(t, w)
	b.Ring("push")
	eventually(t, "a is current, with its key", func() bool { h, _ := w.db.Host("a"); return h.State == history.Current && h.KeysPresent == 1 })
	w.pause(stops.Pause{})
	w.must(w.hosts["a"].NewHostKey())
	w.hosts["a"].Drop()
	eventually(t, "a is not current", func() bool { return w.state("a").State == history.Behind })
}

// One whose line heard that it holds what is wanted is called current again by the next look, also
// of the clock.
func TestHealedHostIsCurrent(t *testing.T) {
	w := newWorld(t, "a", "b")
	w.push("first", history.OutcomeDone)
	w.must(w.db.Correct(t.Context(), "a", func(h *history.Host) { h.State, h.Follows, h.Error = history.Refused, false, "host key changed" }))
	w.run(plan.Request{Cause: "poll", Trigger: plan.TriggerClock}, history.OutcomeNothing)
	if s := w.state("a").State; s != history.Current {
		t.Errorf("a is %s after a poll, want current", s)
	}
	before, err := w.db.Runs(t.Context(), 50)
	w.must(err)
	w.run(plan.Request{Cause: "poll", Trigger: plan.TriggerClock}, history.OutcomeNothing)
	if after, err := w.db.Runs(t.Context(), 50); err != nil || len(after.Runs) != len(before.Runs) {
		t.Errorf("the poll after it was stored too: %d runs, were %d (%v)", len(after.Runs), len(before.Runs), err)
	}
}
