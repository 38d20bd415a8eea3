package simulator

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"bellhop/deploy/plan"
	"bellhop/internal/bundle"
)

// A world is hosts, a remote, and a bellhop, in which one event happens after another.
type world struct {
	t     *testing.T
	seed  uint64
	rng   *rand.Rand // of the driver alone
	disk  *disk
	repo  *repo
	hosts []*host
	trace trace

	rules rules

	mu     sync.Mutex // guards hosts, and what follows
	life   *life
	isAway bool // the deployer's own network is gone
	isCalm bool // nothing goes wrong any more
	looks  int  // at the remote
	timers int

	pause     *pause               // that holds, nil: none, as far as the world knows
	isUnsure  bool                 // of pause, until bellhop starts again
	rollbacks map[string]*rollback // by run
	jitters   int
	calmAt    time.Time // since when nothing goes wrong
}

const (
	hostCount = 4
	events    = 14
)

func newWorld(t *testing.T, seed uint64, dir string, rules rules) *world {
	w := &world{t: t, seed: seed, rules: rules, rollbacks: map[string]*rollback{}, rng: rand.New(rand.NewPCG(seed, 1)), disk: newDisk(t, filepath.Join(dir, fmt.Sprint(seed, time.Now().UnixNano()%1000, ".db")))}
	w.trace.start = time.Now()
	for i := range hostCount {
		w.hosts = append(w.hosts, &host{w: w, name: fmt.Sprint("h", i), index: i, isOn: true, isThere: true, boots: 1, results: map[string]*bundle.Result{},
			open: map[*connection]bool{}, changed: make(chan struct{}), knows: map[string]told{}, unconfirmed: map[string]bool{}, vanished: map[string]bool{}, held: map[string]bool{}})
	}
	var err error
	if w.repo, err = newRepo(w.rng, w.hosts, rules); err != nil {
		t.Fatal(err)
	}
	return w
}

// live is all that happens in a world.
func (w *world) live() {
	w.start()
	defer func() { w.life.end() }()
	for range events {
		w.pass(pick(w.rng, 50*time.Millisecond, time.Second, 5*time.Second, 20*time.Second, 90*time.Second, 11*time.Minute))
		w.event()
	}
	w.calmDown()
	w.check()
}

// pass lets time go by. A bellhop that was killed meanwhile is started again.
func (w *world) pass(d time.Duration) {
	end := time.After(d + time.Duration(w.rng.IntN(1_000_000)))
	for {
		select {
		case <-end:
			return
		case <-w.life.died:
			w.excuse()
			w.life.end()
			w.start()
		}
	}
}

// after has f called later, at an instant of its own.
func (w *world) after(d time.Duration, f func()) {
	w.timers++
	time.AfterFunc(d+time.Duration(w.timers)*11, f)
}

func (w *world) named(name string) *host {
	return w.hosts[name[1]-'0'] // whatever it is called now
}

func (w *world) calm() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.isCalm
}

func (w *world) closed(c *connection) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(c.h.open, c)
}

func (w *world) hangUp() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, h := range w.hosts {
		h.hangUp()
	}
}

// blame notes what must not be.
func (w *world) blame(format string, args ...any) {
	w.trace.add("", "WRONG: "+format, args...)
	w.t.Errorf(format, args...)
}

// excuse takes back that a deployer knows what it was told just now: it was killed, or could not write.
func (w *world) excuse() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, h := range w.hosts {
		for digest, t := range h.knows {
			if time.Since(t.at) < time.Minute {
				delete(h.knows, digest)
			}
		}
		if h.stopped != nil && time.Since(h.stopped.at) < time.Minute {
			h.stopped = nil
		}
	}
}

// event lets one thing happen.
func (w *world) event() {
	h := pick(w.rng, w.hosts...)
	kinds := map[rules]int{beforePersons: 20, byRunID: 30, beforeKeys: 30, today: 34}[w.rules]
	switch n := w.rng.IntN(kinds); n {
	case 0, 1, 2, 3, 4, 5:
		w.push()
	case 6, 7:
		w.mu.Lock()
		h.isThere = !h.isThere
		w.trace.add(h.name, "is there: %v", h.isThere)
		if !h.isThere {
			if h.unit.isAtWork() {
				h.unit.vanished = true
			}
			h.hangUp()
		}
		h.tellChange()
		w.mu.Unlock()
	case 8, 9:
		w.power(h)
	case 10:
		w.mu.Lock()
		w.trace.add(h.name, "is reinstalled")
		h.reinstall()
		w.mu.Unlock()
	case 11:
		w.theft(h)
	case 12:
		w.mu.Lock()
		w.trace.add(h.name, "all lines are cut")
		h.hangUp()
		w.mu.Unlock()
	case 13:
		w.leave(time.Duration(5+w.rng.IntN(150)) * time.Second)
	case 14:
		n := 1 + w.rng.IntN(3)
		w.trace.add("", "%d writes fail", n)
		w.disk.failNext(n)
		w.excuseLater()
	case 15:
		w.trace.add("", "bellhop is upgraded")
		w.life.end()
		w.mu.Lock()
		for _, h := range w.hosts {
			h.isFormer = w.rng.IntN(2) == 0
		}
		w.mu.Unlock()
		w.start()
	case 16:
		w.ask()
	case 30, 31:
		w.reboot(h)
	case 32, 33:
		w.pushKeys(h)
	default:
		if n >= 20 {
			w.personEvent(h)
			return
		}
		w.disk.killIn(w.rng.IntN(10), w.rng.IntN(2) == 0)
		w.trace.add("", "bellhop is to be killed at a write")
		if w.rng.IntN(2) == 0 {
			w.push()
		}
	}
}

// power goes, or comes back.
func (w *world) power(h *host) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.trace.add(h.name, "has power: %v", !h.isOn)
	if h.isOn {
		h.losePower()
	} else {
		h.boot()
	}
}

// theft is another deployer that comes by.
func (w *world) theft(h *host) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if h.record == nil || h.unit.isAtWork() {
		return
	}
	w.trace.add(h.name, "is taken by another deployer")
	r := *h.record
	r.Deployer, r.Digest, r.Generation, r.Origins = "SHA256:two", "theirs", r.Generation+1, nil
	h.record, h.strays = &r, true
}

// leave takes the deployer's own network away for a time.
func (w *world) leave(d time.Duration) {
	w.trace.add("", "the deployer is away for %v", d)
	set := func(away bool) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.isAway = away
		for _, h := range w.hosts {
			if away {
				h.hangUp()
			}
			h.tellChange()
		}
	}
	set(true)
	w.after(d, func() { set(false) })
}

// excuseLater excuses what is told while writes may fail.
func (w *world) excuseLater() {
	for i := range 30 {
		w.after(time.Duration(i)*time.Minute, w.excuse)
	}
}

// ask is a person who asks for a run.
func (w *world) ask() {
	req := plan.Request{Cause: "deploy", By: "ann", All: w.rng.IntN(2) == 0, Retry: w.rng.IntN(2) == 0}
	w.mu.Lock()
	if rng := w.hosts[0].chance("ask", time.Since(w.trace.start)); w.rules != beforePersons && rng.IntN(3) == 0 {
		req.On = pick(rng, w.repo.names...) // the others are left out
	}
	w.do(req)
	w.mu.Unlock()
	w.trace.add("", "ann asks: all %v, retry %v, on %q", req.All, req.Retry, req.On)
}

// planned hears that a run has its plan: what a person asked to try again may be tried, and hosts that a run before
// left out, since it was cancelled while this one waited, may be begun.
func (w *world) planned(l *life, run string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if l.persons[run] {
		w.asked()
	}
	if !l.retries[run] {
		return
	}
	w.retried()
	if back := w.rollbacks[run]; back != nil {
		commit, _ := l.db.Accepted()
		back.planned = 1 + w.repo.index(commit)
	}
	for _, h := range w.hosts {
		clear(h.knows)
	}
}

// push is a push of one commit, or of several in a burst.
func (w *world) push() {
	n := 1
	if w.rng.IntN(5) == 0 {
		n = 3
	}
	for range n {
		w.mu.Lock()
		before := w.repo.commits[len(w.repo.commits)-1].snap.Commit
		c, err := w.repo.commit(w.hosts)
		w.mu.Unlock()
		if err != nil {
			w.t.Fatal(err)
		}
		w.announce(before, c.snap.Commit)
	}
}

// announce lets the remote show a commit, and brings its deliveries, each in its time.
func (w *world) announce(before, commit string) {
	index := w.repo.index(commit)
	shows := pick(w.rng, 0, 0, 0, 3*time.Second, 40*time.Second)
	w.trace.add("", "commit %d is pushed, shows in %v", index, shows)
	w.after(shows, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.repo.visible = max(w.repo.visible, index)
		w.repo.shownAt = time.Now()
	})

	id := fmt.Sprint("d-", index)
	for range pick(w.rng, 0, 1, 1, 1, 2) {
		w.after(pick(w.rng, 0, time.Second, 5*time.Second, 3*time.Minute), func() { w.deliver(id, before, commit) })
	}
}

// calmDown ends all trouble, and lets the world come to rest.
func (w *world) calmDown() {
	w.mu.Lock()
	w.isCalm, w.isAway, w.calmAt = true, false, time.Now()
	w.trace.add("", "all is well from here on")
	for _, h := range w.hosts {
		h.isThere = true
		if !h.isOn {
			h.boot()
		}
		h.tellChange()
	}
	w.mu.Unlock()
	w.disk.failNext(0)
	w.disk.killIn(-2, false)
	w.pass(75 * time.Minute)
	w.checkPause()
}
