package server

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"bellhop/internal/history"
	"bellhop/internal/history/deliveries"
)

func commitNo(n int) string { return fmt.Sprintf("%040x", n) }

// A remote is a git remote whose branch is looked at shortly after each ring, as a deployer does.
// A commit is its number; it builds on those below it in its line.
type remote struct {
	t     *testing.T
	s     *Server
	shelf *shelf
	rung  chan bool // whether by the clock

	mu     sync.Mutex
	line   []int // commits of the branch, oldest first
	away   bool  // looks fail
	looked int
}

// set moves the branch.
func (r *remote) set(line ...int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.line, r.away = line, false
}

// add adds commits to the branch.
func (r *remote) add(commits ...int) { r.set(append(r.commits(), commits...)...) }

func (r *remote) commits() []int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.line)
}

// last is the branch's head.
func (r *remote) last() int {
	line := r.commits()
	return line[len(line)-1]
}

// goAway has looks fail.
func (r *remote) goAway() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.away = true
}

func (r *remote) looks() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.looked
}

func (r *remote) forgetLooks() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.looked = 0
}

func (r *remote) Ring(string) string { return r.ring(false) }
func (r *remote) Poll(string) string { return r.ring(true) }

func (r *remote) ring(byClock bool) string {
	select {
	case r.rung <- byClock:
	default:
	}
	return "run"
}

func (r *remote) holds(_ context.Context, head, commit string) (bool, error) {
	for _, n := range r.commits() {
		if commitNo(n) == commit {
			return true, nil
		}
		if commitNo(n) == head {
			break
		}
	}
	return false, nil
}

// look looks once: a run takes a tenth of a second. The end of a test ends
// it too, since time stands still from then on.
func (r *remote) look(ctx context.Context, byClock bool) {
	select {
	case <-ctx.Done():
		return
	case <-time.After(100 * time.Millisecond):
	}

	head := commitNo(r.last())
	r.mu.Lock()
	r.looked++
	if r.away {
		head = ""
	}
	r.mu.Unlock()
	r.s.Looked(ctx, head, byClock)
}

func (r *remote) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case byClock := <-r.rung:
			r.look(ctx, byClock)
		}
	}
}

// withRemote runs do in a bubble of time, with a server whose remote is at commit 1.
func withRemote(t *testing.T, poll time.Duration, known []deliveries.Delivery, do func(r *remote)) {
	synctest.Test(t, func(t *testing.T) {
		r := &remote{t: t, line: []int{1}, rung: make(chan bool, 1), shelf: &shelf{}}
		var err error
		for i := range known {
			known[i].At = time.Now().Add(-time.Minute)
		}
		r.s, err = New(Config{Secret: secret, Bell: r, Record: r.shelf, Holds: r.holds, Known: known})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		go r.run(ctx)
		go r.s.awaited.run(ctx)
		go r.s.Poll(ctx, poll, false)
		r.Ring("start")
		time.Sleep(time.Second)
		r.forgetLooks()
		do(r)
		cancel()
		synctest.Wait()
	})
}

// deliver tells of a push from one commit to another; 0 is none.
func (r *remote) deliver(before, after int) {
	r.t.Helper()
	r.deliverTo("main", before, after)
}

// deliverTo tells of a push to a branch.
func (r *remote) deliverTo(branch string, before, after int) {
	r.t.Helper()
	id := func(n int) string { return commitNo(n) }
	body, _ := json.Marshal(map[string]any{"ref": "refs/heads/" + branch, "before": id(before), "after": id(after),
		"repository": map[string]string{"full_name": "a/b"}, "head_commit": map[string]any{"timestamp": time.Now().Format(time.RFC3339)}})
	w := ask(r.s.Public(), delivery(string(body), set("X-GitHub-Delivery", fmt.Sprint("d-", before, "-", after))))
	if w.Code != 202 {
		r.t.Fatalf("delivery of %d: %d %s", after, w.Code, w.Body)
	}
}

// told is what the newest word on the delivery of a push is.
func (r *remote) told(before, after int) string {
	text := ""
	queue, _ := r.s.record.take()
	for _, d := range queue {
		if d.ID == fmt.Sprint("d-", before, "-", after) {
			text = d.Answer
		}
	}
	return text
}

func (r *remote) found(n int) bool {
	r.s.awaited.mu.Lock()
	defer r.s.awaited.mu.Unlock()
	return r.s.awaited.head.commit == commitNo(n)
}

// A delivery that is faster than the remote is followed by looks until the push is there, with
// --poll 0 too.
func TestEarlyDelivery(t *testing.T) {
	for _, late := range []time.Duration{0, 500 * time.Millisecond, 2 * time.Second, 15 * time.Second, time.Minute, 4 * time.Minute} {
		withRemote(t, 0, nil, func(r *remote) {
			r.deliver(1, 2)
			time.Sleep(late)
			r.add(2)
			time.Sleep(late + 5*time.Second) // the wait doubles at most
			if !r.found(2) {
				t.Errorf("shown %v after its delivery, the push was not found in as long again", late)
			}
			looks := r.looks()
			if time.Sleep(time.Hour); r.looks() != looks {
				t.Errorf("shown %v after its delivery: %d looks after it was found", late, r.looks()-looks)
			}
			if text := r.told(1, 2); late > time.Second && !strings.Contains(text, "the remote showed it after") {
				t.Errorf("shown %v after its delivery, its answer is %q", late, text)
			}
		})
	}
}

// A push to a testing branch is awaited as one to the branch that is deployed is, and neither ends the wait for the other.
func TestEarlyDeliveryOfATest(t *testing.T) {
	for _, late := range []time.Duration{0, 2 * time.Second, time.Minute} {
		withRemote(t, 0, nil, func(r *remote) {
			var shown atomic.Value // what the newest look found testing-nas at
			shown.Store("")
			awaited := func() int {
				r.s.awaited.mu.Lock()
				defer r.s.awaited.mu.Unlock()
				return len(r.s.awaited.open)
			}
			r.s.cfg.Testing = true
			r.s.awaited.mu.Lock()
			r.s.awaited.tested = func(branch string) string {
				if branch != "testing-nas" {
					t.Errorf("asked for branch %q", branch)
				}
				return shown.Load().(string)
			}
			r.s.awaited.mu.Unlock()

			r.deliver(1, 2)
			r.deliverTo("testing-nas", 0, 7)
			time.Sleep(late)
			shown.Store(commitNo(7))
			time.Sleep(late + 5*time.Second)
			if text := r.told(0, 7); late > time.Second && !strings.Contains(text, "looking at testing-nas; the remote showed it after") {
				t.Errorf("shown %v after its delivery, its answer is %q", late, text)
			}
			if n := awaited(); n != 1 {
				t.Errorf("%d pushes are awaited, want that of the other branch", n)
			}
			r.add(2)
			time.Sleep(2 * time.Minute)
			looks := r.looks()
			if time.Sleep(time.Hour); r.looks() != looks || awaited() != 0 {
				t.Errorf("shown %v after its delivery: %d looks after both were found, %d awaited", late, r.looks()-looks, awaited())
			}
		})
	}
}

// A push that never shows costs a handful of looks, and its delivery says so.
func TestPushThatNeverShows(t *testing.T) {
	withRemote(t, 0, nil, func(r *remote) {
		r.deliver(1, 2)
		var waits []time.Duration
		last, n := time.Now(), 0
		for range 360 * 10 {
			time.Sleep(100 * time.Millisecond)
			if r.looks() != n {
				waits = append(waits, time.Since(last).Round(time.Second))
				last, n = time.Now(), r.looks()
			}
		}
		want := []time.Duration{0, 1, 2, 5, 10, 20, 40, 80}
		for i, w := range want[:min(len(want), len(waits))] {
			if waits[i] != w*time.Second {
				t.Errorf("look %d came %v after the one before, want %v", i, waits[i], w*time.Second)
			}
		}
		if len(waits) < 8 || len(waits) > 10 {
			t.Errorf("%d looks, want 8 to 10: %v", len(waits), waits)
		}
		if text := r.told(1, 2); !strings.Contains(text, "did not show 0000000000 within 5m0s") {
			t.Errorf("its answer is %q", text)
		}
		if time.Sleep(time.Hour); r.looks() != n {
			t.Errorf("%d looks after it was given up", r.looks()-n)
		}
	})
}

func TestAwaitedPushes(t *testing.T) {
	for name, c := range map[string]struct {
		do    func(r *remote)
		looks [2]int // at least, at most, in ten minutes
	}{
		"seen at once": {func(r *remote) {
			r.add(2)
			r.deliver(1, 2)
		}, [2]int{1, 1}},
		"several in one": {func(r *remote) {
			r.add(2, 3, 4)
			r.deliver(1, 2)
			r.deliver(2, 3)
			r.deliver(3, 4)
		}, [2]int{1, 2}},
		"deleted branch": {func(r *remote) { r.deliver(1, 0) }, [2]int{1, 1}},
		"replay of an old push": {func(r *remote) {
			r.add(2, 3)
			r.deliver(2, 3)
			time.Sleep(time.Second)
			r.forgetLooks()
			for range 50 {
				r.deliver(1, 2)
				time.Sleep(time.Second)
			}
		}, [2]int{50, 50}},
		"forced away meanwhile": {func(r *remote) {
			r.deliver(1, 2)
			time.Sleep(3 * time.Second)
			r.set(1, 7)
			r.deliver(2, 7)
		}, [2]int{3, 5}},
		"forced back, early": {func(r *remote) { // the remote still shows 3 when it is asked
			r.set(1, 2, 3)
			r.Ring("by hand")
			time.Sleep(time.Second)
			r.forgetLooks()
			r.deliver(3, 2)
			time.Sleep(1500 * time.Millisecond)
			r.set(1, 2)
		}, [2]int{3, 3}},
		"out of their order": {func(r *remote) { // 3 is told before 2, and shows last
			r.deliver(2, 3)
			r.set(1, 2)
			r.deliver(1, 2)
			time.Sleep(4 * time.Second)
			r.set(1, 2, 3)
		}, [2]int{4, 5}},
		"replaced by one that shows": {func(r *remote) {
			r.deliver(1, 2)
			time.Sleep(1500 * time.Millisecond)
			r.set(1, 9)
			r.deliver(1, 9)
		}, [2]int{3, 3}},
		"a burst of what never comes": {func(r *remote) {
			for i := range 200 {
				r.deliver(i+100, i+101)
				time.Sleep(10 * time.Millisecond)
			}
		}, [2]int{8, 40}},
		"the remote is away for a while": {func(r *remote) {
			r.goAway()
			r.deliver(1, 2)
			time.Sleep(30 * time.Second)
			r.set(1, 2)
		}, [2]int{5, 8}},
	} {
		t.Run(name, func(t *testing.T) {
			withRemote(t, 0, nil, func(r *remote) {
				c.do(r)
				time.Sleep(10 * time.Minute)
				if r.looks() < c.looks[0] || r.looks() > c.looks[1] {
					t.Errorf("%d looks, want %d to %d", r.looks(), c.looks[0], c.looks[1])
				}
				if !r.found(r.last()) {
					t.Errorf("the head of the remote, %d, was not found", r.last())
				}
				synctest.Wait()
				if n := len(r.s.awaited.open); n != 0 {
					t.Errorf("%d pushes are awaited still", n)
				}
			})
		})
	}
}

// A push that was announced before a restart and that the remote did not show is awaited on.
func TestAwaitedOverARestart(t *testing.T) {
	known := []deliveries.Delivery{{ID: "d", Event: "push", Branch: "main", Commit: commitNo(2), Run: "r", Answer: "looking at main"}}
	withRemote(t, 0, known, func(r *remote) {
		time.Sleep(10 * time.Second)
		r.add(2)
		time.Sleep(20 * time.Second)
		if !r.found(2) {
			t.Error("it was not looked for")
		}
	})
	known[0].Commit = commitNo(1) // it had been seen
	withRemote(t, 0, known, func(r *remote) {
		if time.Sleep(10 * time.Minute); r.looks() != 0 {
			t.Errorf("%d looks for a push that was there", r.looks())
		}
	})
}

// What a delivery says after its answer is stored in place of it.
func TestAmendedDelivery(t *testing.T) {
	db, err := history.Open(t.TempDir() + "/bellhop.db")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	at := time.Now().UTC().Truncate(time.Millisecond)
	d := deliveries.Delivery{ID: "d", At: at, Event: "push", Answer: "looking at main", Run: "r1"}
	other := deliveries.Delivery{ID: "d", At: at.Add(time.Second), Answer: "seen before; looked again", Run: "r2"}
	amended := d
	amended.Amends, amended.Answer, amended.Run = true, "looking at main; the remote showed it after 3s", "r3"
	if err := db.AddDeliveries(t.Context(), []deliveries.Delivery{d, other, amended}); err != nil {
		t.Fatal(err)
	}
	ds, err := db.Deliveries(t.Context(), 0)
	if err != nil || len(ds) != 2 || ds[1].Answer != amended.Answer || ds[1].Run != "r3" || ds[0].Answer != other.Answer {
		t.Errorf("deliveries %+v, %v", ds, err)
	}
}

func TestPoll(t *testing.T) {
	const often, seldom = 30 * time.Second, 10 * time.Minute
	push := func(r *remote, early bool) { // one more commit, told by a delivery before a poll finds it
		next := r.last() + 1
		if early {
			r.deliver(next-1, next)
		}
		r.add(next)
		if !early {
			r.deliver(next-1, next)
		}
		time.Sleep(5 * time.Second)
	}
	unannounced := func(r *remote) {
		r.add(r.last() + 1)
		for !r.found(r.last()) {
			time.Sleep(time.Second)
		}
	}
	for name, c := range map[string]struct {
		do   func(r *remote)
		want time.Duration
	}{
		"no webhook":          {func(r *remote) {}, often},
		"one push":            {func(r *remote) { push(r, false) }, often},
		"two pushes":          {func(r *remote) { push(r, false); push(r, false) }, seldom},
		"two early ones":      {func(r *remote) { push(r, true); push(r, true) }, seldom},
		"the same push twice": {func(r *remote) { push(r, false); r.deliver(1, 2); r.deliver(1, 2) }, often},
		"pings": {func(r *remote) {
			for range 5 {
				ask(r.s.Public(), delivery(`{"zen":"x"}`, set("X-GitHub-Event", "ping")))
			}
		}, often},
		"pushes elsewhere": {func(r *remote) {
			for range 5 {
				ask(r.s.Public(), delivery(strings.Replace(fmt.Sprintf(`{"ref":"refs/heads/dev","after":%q}`, commitNo(1)), "x", "", 1), nil))
			}
		}, often},
		"tests of the webhook": {func(r *remote) {
			for range 5 {
				ask(r.s.Public(), delivery(`{"ref":"refs/heads/main","after":""}`, nil))
				time.Sleep(time.Second)
			}
		}, often},
		"replays": {func(r *remote) {
			push(r, false)
			for range 5 {
				r.deliver(0, 1)
				time.Sleep(time.Second)
			}
		}, often},
		"a push that never shows": {func(r *remote) {
			for i := range 5 {
				r.deliver(0, 50+i)
				time.Sleep(time.Second)
			}
		}, often},
		"a missed push": {func(r *remote) { push(r, false); push(r, false); unannounced(r) }, often},
		"one push after a missed one": {func(r *remote) {
			push(r, false)
			push(r, false)
			unannounced(r)
			push(r, false)
		}, often},
		"two pushes after a missed one": {func(r *remote) {
			push(r, false)
			push(r, false)
			unannounced(r)
			push(r, false)
			push(r, false)
		}, seldom},
		"a poll was a little faster": {func(r *remote) {
			push(r, false)
			push(r, false)
			unannounced(r)
			n := r.last()
			r.deliver(n-1, n)
		}, seldom},
		"a push found by a person": {func(r *remote) {
			push(r, false)
			push(r, false)
			r.add(9)
			r.Ring("ring by cadey")
			time.Sleep(time.Second)
		}, seldom},
	} {
		t.Run(name, func(t *testing.T) {
			withRemote(t, often, nil, func(r *remote) {
				c.do(r)
				every, reason := r.s.Interval()
				if every != c.want || reason == "" {
					t.Errorf("polls every %v (%s), want %v", every, reason, c.want)
				}
				// And so it is done.
				before := r.s.count.polls.Load()
				time.Sleep(time.Hour)
				polls := int(r.s.count.polls.Load() - before)
				if most := int(time.Hour / c.want); polls > most+1 || polls < most*10/12 {
					t.Errorf("%d polls in an hour, want about %d", polls, most)
				}
			})
		})
	}
}

// An interval that was chosen stays.
func TestPollByHand(t *testing.T) {
	for _, every := range []time.Duration{0, time.Second, 20 * time.Minute} {
		p := pace{every: every, byHand: true}
		p.prove()
		p.prove()
		if got, reason := p.interval(); got != every || !strings.Contains(reason, "--poll") {
			t.Errorf("--poll %v: polls every %v (%s)", every, got, reason)
		}
	}
	p := pace{every: 30 * time.Minute}
	p.prove()
	p.prove()
	if got, _ := p.interval(); got != 30*time.Minute {
		t.Errorf("polls every %v after proofs, want no more often than before", got)
	}
}

func TestIsCommit(t *testing.T) {
	good := []string{commitNo(1), strings.Repeat("0a", 32)}
	bad := []string{"", "main", commitNo(0), strings.Repeat("0", 64), commitNo(1)[1:], strings.ToUpper(commitNo(10)), commitNo(1)[:39] + "g", "--" + commitNo(1)[2:]}
	for _, s := range slices.Concat(good, bad) {
		if isCommit(s) != slices.Contains(good, s) {
			t.Errorf("isCommit(%q) = %v", s, isCommit(s))
		}
	}
}

// A delivery is answered at once, also while git is asked what the head holds.
func TestDeliveryIsAnsweredWhileGitIsAsked(t *testing.T) {
	asked, proceed := make(chan bool), make(chan bool)
	s, _ := newServer(t, Config{Holds: func(context.Context, string, string) (bool, error) {
		asked <- true
		<-proceed
		return false, nil
	}})
	body := fmt.Sprintf(`{"ref":"refs/heads/main","after":%q}`, commitNo(2))
	ask(s.Public(), delivery(body, nil))
	done := make(chan bool)
	go func() {
		s.Looked(t.Context(), commitNo(1), false)
		close(done)
	}()
	<-asked

	answered := make(chan int, 1)
	go func() { answered <- ask(s.Public(), delivery(body, nil)).Code }()
	select {
	case code := <-answered:
		if code != 202 {
			t.Errorf("it is answered %d", code)
		}
	case <-time.After(time.Minute):
		t.Error("it waits for git")
	}
	s.Interval() // nor does status wait
	close(proceed)
	go func() {
		for range asked {
		}
	}()
	<-done
	close(asked)
}
