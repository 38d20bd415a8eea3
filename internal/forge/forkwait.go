package forge

import (
	"maps"
	"time"
)

// Fork heads that could not be planned wait, and each failure doubles the wait. Anybody can push a head that costs its whole bound
// of objects and then fails: without the wait it is fetched anew in each round, for as long as its request is open.
const (
	firstForkWait = 2 * requestPoll
	lastForkWait  = 24 * time.Hour
)

// A forkHead is what a request from a fork asks for. What is deployed is no part of it: a head that is too large stays so.
type forkHead struct {
	number int
	head   string
}

// A forkWait is how long a head waits.
type forkWait struct {
	wait time.Duration
	next time.Time // when it is tried again
}

// forkWaits are the heads that wait. The zero value has none.
type forkWaits struct{ by map[forkHead]forkWait }

// has says whether a request's head waits.
func (f *forkWaits) has(r Request, now time.Time) bool {
	return now.Before(f.by[forkHead{r.Number, r.Head}].next)
}

// add has the head of a fork wait, longer than before. Requests of the repo's own people wait for the next round alone.
func (f *forkWaits) add(r Request, now time.Time) {
	if r.IsFork {
		f.addAny(r, now)
	}
}

// addAny has a head wait, longer than before, wherever it is from.
func (f *forkWaits) addAny(r Request, now time.Time) {
	maps.DeleteFunc(f.by, func(_ forkHead, w forkWait) bool { return now.Sub(w.next) > lastForkWait })
	if f.by == nil {
		f.by = map[forkHead]forkWait{}
	}

	head := forkHead{r.Number, r.Head}
	wait := min(max(2*f.by[head].wait, firstForkWait), lastForkWait)
	f.by[head] = forkWait{wait: wait, next: now.Add(wait)}
}
