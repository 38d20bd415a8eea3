package server

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"bellhop/internal/history/deliveries"
)

// A delivery is often faster than the git side of the same forge: the remote still shows the
// commit from before the push when it is asked. So a push is awaited: as long as the branch's
// head, as a look found it, does not hold the commit that the delivery named, there is another
// look, soon and then seldom, for five minutes at most.
//
// A push to a testing branch is awaited in the same way, by what the look found that branch at. It says nothing of how often to poll.
//
// What a delivery names decides when to look and nothing else: what is deployed is what the
// remote says. Looks end by themselves, so a replayed delivery, or one of a commit that was
// pushed away meanwhile, costs a handful of questions.
//
// The same book-keeping shows how well the webhook works, and so how often to poll: see poll.go.

const (
	awaitFor    = 5 * time.Minute
	mostAwaited = 16
)

// awaitSteps are the waits between looks for a push; the last is doubled again and again.
var awaitSteps = []time.Duration{1, 2, 5, 10, 20, 40}

// awaitStep is how long to wait after the look with that number, from 0.
func awaitStep(n int) time.Duration {
	last := len(awaitSteps) - 1
	if n <= last {
		return awaitSteps[n] * time.Second
	}
	return awaitSteps[last] * time.Second << min(n-last, 8)
}

// An await is one push that no look has found yet.
type await struct {
	branch   string // that is tested; "": the one that is deployed
	delivery deliveries.Delivery
	push     pushed
	looks    int       // that ended without it
	next     time.Time // when to look again; zero: a look is on its way
	until    time.Time
}

// awaited are the pushes that were announced, and what looks found.
type awaited struct {
	holds  func(ctx context.Context, head, commit string) (bool, error) // nil: a head holds itself alone
	tested func(branch string) string                                   // what the newest look found a testing branch at; nil: none is looked at
	bell   Bell
	record *recorder
	news   signal // something was added, or a look has ended

	mu   sync.Mutex
	open []*await // oldest first
	head head     // that the newest look found
	pace pace
}

// A head is what a look found the branch at.
type head struct {
	commit    string // "": no look has succeeded yet
	announced bool   // a delivery named it, or one that it holds and that the head before did not
	byClock   bool   // a poll found it
	foundAt   time.Time
}

// A signal wakes one goroutine that waits for news.
type signal chan struct{}

func newSignal() signal { return make(signal, 1) }

func (c signal) tell() {
	select {
	case c <- struct{}{}:
	default:
	}
}

// isCommit says whether s is the id of a commit; zeros stand for none.
func isCommit(s string) bool {
	if len(s) != 40 && len(s) != 64 {
		return false
	}
	return strings.Trim(s, "0") != "" && strings.Trim(s, "0123456789abcdef") == ""
}

// add awaits the push of a delivery that just rang.
func (a *awaited) add(d deliveries.Delivery, p pushed) {
	if !isCommit(p.After) {
		return // the branch was deleted, or the sender names none
	}
	a.mu.Lock()
	defer a.mu.Unlock()

	if p.After == a.head.commit {
		a.announce()
		return
	}
	a.wait(&await{delivery: d, push: p})
}

// addTest awaits the push to a testing branch of a delivery that just rang.
func (a *awaited) addTest(d deliveries.Delivery, p pushed, branch string) {
	if a.tested == nil || !isCommit(p.After) {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.wait(&await{branch: branch, delivery: d, push: p})
}

// wait begins one wait. It is called under mu.
func (a *awaited) wait(w *await) {
	a.replace(w.branch, w.push)
	if len(a.open) >= mostAwaited {
		a.open = a.open[1:]
	}
	w.until = w.delivery.At.Add(awaitFor)
	a.open = append(a.open, w)
	a.news.tell()
}

// replace ends the wait for those pushes to a branch that p came after. Deliveries may arrive out of their
// order: one that is known to be newer than p is awaited still.
func (a *awaited) replace(branch string, p pushed) {
	var newer []*await
	for _, w := range a.open {
		isOfAnother := w.branch != branch
		followsIt := w.push.Before == p.After
		committedLater := !p.Time.IsZero() && w.push.Time.After(p.Time)
		if isOfAnother || followsIt || committedLater {
			newer = append(newer, w)
		} else if w.looks > 0 {
			a.amend(w, "a newer push came before the remote showed it")
		}
	}
	a.open = newer
}

// looked hears what a look found the branch at: "" when it failed. byClock says that nothing but
// the clock made it. Git is asked without the lock, which deliveries take.
func (a *awaited) looked(ctx context.Context, commit string, byClock bool) {
	open, before := a.waiting()
	found := map[*await]bool{}
	isNews := false // one that was found is not in the head before
	for _, w := range open {
		if w.branch != "" {
			found[w] = a.shows(ctx, a.tested(w.branch), w.push)
			continue
		}
		found[w] = a.shows(ctx, cmp.Or(commit, before), w.push)
		isNews = isNews || found[w] && !a.shows(ctx, before, w.push)
	}

	a.mu.Lock()
	defer a.mu.Unlock()

	isNew := commit != "" && commit != before
	if isNew {
		a.head = head{commit: commit, byClock: byClock, foundAt: time.Now()}
	}
	a.settle(found)
	switch {
	case !isNew:
	case isNews || a.announcedMeanwhile():
		a.announce()
	case byClock && before != "":
		a.pace.miss(commit)
	}
	a.news.tell()
}

// waiting are the pushes that are awaited now, and the head that the newest look found.
func (a *awaited) waiting() (open []*await, head string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.open), a.head.commit
}

// announcedMeanwhile says that a delivery named the head while git was asked about others.
func (a *awaited) announcedMeanwhile() bool {
	return slices.ContainsFunc(a.open, func(w *await) bool { return w.branch == "" && w.push.After == a.head.commit })
}

// settle ends the wait for what was found, and sets the time of the next look for the rest that
// was looked for. It is called under mu.
func (a *awaited) settle(found map[*await]bool) {
	now := time.Now()
	var open []*await
	for _, w := range a.open {
		isThere, asked := found[w]
		switch {
		case isThere && w.looks > 0:
			a.amend(w, fmt.Sprintf("the remote showed it after %v", now.Sub(w.delivery.At).Round(time.Second)))
		case isThere:
		case !now.Before(w.until):
			a.amend(w, fmt.Sprintf("the remote did not show %s within %v: was the branch moved, or the repo renamed?", w.delivery.Commit[:10], awaitFor))
		default:
			if asked {
				w.schedule(now)
			}
			open = append(open, w)
		}
	}

	a.open = open
}

// schedule sets the time of the next look, unless it is set and has not come.
func (w *await) schedule(now time.Time) {
	if now.Before(w.next) {
		return
	}
	w.next = earlier(now.Add(awaitStep(w.looks)), w.until)
	w.looks++
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// shows says whether a head is one from after the push: its commit, or one that builds on it. A
// head that is what the push replaced is none, even where the push went back to an older commit.
func (a *awaited) shows(ctx context.Context, head string, p pushed) bool {
	switch head {
	case "":
		return false
	case p.After:
		return true
	case p.Before:
		return false
	}
	if a.holds == nil {
		return false
	}
	ok, err := a.holds(ctx, head, p.After)
	return ok && err == nil
}

// announce notes that a delivery named the head. It is called under mu.
func (a *awaited) announce() {
	if a.head.announced {
		return
	}
	a.head.announced = true
	if a.pace.missed.commit != a.head.commit {
		a.pace.prove()
		return
	}
	a.pace.forgive(a.head) // a poll was faster than the delivery
}

// amend adds what became of a delivery to what it was answered.
func (a *awaited) amend(w *await, what string) {
	d := w.delivery
	d.Amends = true
	d.Answer += "; " + what
	a.record.add(d)
}

// due is when the next look for a push is to be made; ok says that there is one.
func (a *awaited) due() (at time.Time, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()

	for _, w := range a.open {
		if w.next.IsZero() {
			continue
		}
		if !ok || w.next.Before(at) {
			at, ok = w.next, true
		}
	}
	return at, ok
}

// ringDue rings for those whose time has come.
func (a *awaited) ringDue() {
	a.mu.Lock()
	defer a.mu.Unlock()

	now := time.Now()
	for _, w := range a.open {
		if !w.next.IsZero() && !now.Before(w.next) {
			w.next = time.Time{}
			w.delivery.Run = a.bell.Poll("push " + w.delivery.Commit[:10] + " looked for again")
		}
	}
}

// run makes the looks for pushes, until ctx ends.
func (a *awaited) run(ctx context.Context) {
	for {
		var alarm <-chan time.Time
		if at, ok := a.due(); ok {
			alarm = time.After(time.Until(at))
		}
		select {
		case <-ctx.Done():
			return
		case <-alarm:
			a.ringDue()
		case <-a.news:
		}
	}
}

// restore awaits the pushes that were announced shortly before a restart. ds are the newest
// deliveries, newest first. A look is made at start anyway.
func (a *awaited) restore(ds []deliveries.Delivery, branch string) {
	for _, d := range ds {
		fresh := time.Since(d.At) < awaitFor
		rang := d.Run != "" && d.Branch == branch
		if fresh && rang && isCommit(d.Commit) {
			a.add(d, pushed{After: d.Commit})
			return // an older one was replaced by it
		}
	}
}
