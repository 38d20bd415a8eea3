package simulator

import (
	"context"
	"slices"
	"time"

	"bellhop/deploy/plan"
	"bellhop/internal/history/stops"
)

// What people do: they bring hosts back and resume them, pause runs, cancel one, and edit files on hosts.

const person = "ann"

// A pause is the pause of runs as the world knows it.
type pause struct {
	began time.Time
	until time.Time // zero: until somebody resumes
	then  bool
}

// A rollback is a run that brings hosts back.
type rollback struct {
	asked   time.Time
	planned int // 1 + the index of the commit that was accepted when it had its plan; 0: it has none
}

// personEvent lets a person do one thing.
func (w *world) personEvent(h *host) {
	switch w.rng.IntN(9) {
	case 0, 1, 2:
		w.rollBack(h)
	case 3:
		w.mu.Lock()
		w.trace.add(h.name, "is resumed")
		name := w.repo.names[h.index]
		h.maybeFree = time.Now()
		w.do(plan.Request{Cause: "resume", By: person, On: name, Resume: true})
		w.mu.Unlock()
	case 4:
		w.pauseRuns(pick(w.rng, 0, 3*time.Minute, 25*time.Minute), w.rng.IntN(2) == 0)
	case 5:
		w.resumeRuns()
	case 6:
		w.cancel()
	case 7:
		w.edit(h)
	default:
		w.rename(h)
	}
}

// rollBack brings one host back, or all.
func (w *world) rollBack(h *host) {
	w.mu.Lock()
	on := w.repo.names[h.index]
	if w.rng.IntN(4) == 0 {
		on = ""
	}
	run := w.do(plan.Request{Cause: "rollback", By: person, On: on, Rollback: &plan.Rollback{Reason: "it leaks"}})
	w.rollbacks[run] = &rollback{asked: time.Now()}
	w.mu.Unlock()
	w.trace.add("", "%s brings %q back", person, on)
}

// do has a person ask for a run. It is called under mu, so that nothing is heard of the run before.
func (w *world) do(req plan.Request) (run string) {
	w.asked()
	run = w.life.bell.Do(req)
	w.life.persons[run] = true
	if req.Retry || req.Resume || req.Rollback != nil {
		w.life.retries[run] = true
		w.retried()
	}
	return run
}

// asked notes that a person asked for something: hosts that a cancelled run left out may be begun. It is called
// under mu.
func (w *world) asked() {
	for _, h := range w.hosts {
		h.leftOut = false
	}
}

// pauseRuns pauses for d, 0: until somebody resumes.
func (w *world) pauseRuns(d time.Duration, then bool) {
	next := stops.Pause{By: person, Since: time.Now(), Then: then && d > 0}
	p := &pause{began: time.Now(), then: next.Then}
	if d > 0 {
		next.Until = time.Now().Add(d)
		p.until = next.Until
	}
	was, _, err := w.life.db.Pauses().Set(context.Background(), next)
	w.trace.add("", "runs are paused for %v, then %v: %v", d, next.Then, err)
	w.unsure(err)
	if err != nil {
		return
	}
	w.mu.Lock()
	if was != nil && w.pause != nil {
		p.began = w.pause.began
	}
	w.pause = p
	w.mu.Unlock()
	w.life.bell.Paused()
}

// unsure notes that it is not known whether bellhop wrote what it was told of a pause.
func (w *world) unsure(err error) {
	if err != nil || w.life.isDead() {
		w.isUnsure = true
	}
}

// resumeRuns ends the pause, and what a cancelled run left.
func (w *world) resumeRuns() {
	_, err := w.life.db.Pauses().End(context.Background())
	if err == nil {
		_, err = w.life.db.Stops().Resume(context.Background())
	}
	w.trace.add("", "runs are resumed: %v", err)
	w.unsure(err)
	if err != nil {
		return
	}
	w.mu.Lock()
	w.pause = nil
	w.asked()
	w.mu.Unlock()
	w.life.bell.Ring("resume")
}

// cancel cancels the run that is at work.
func (w *world) cancel() {
	c, ok := w.life.bell.Cancel(person)
	w.trace.add("", "the run is cancelled: %v, %v was not begun, %v goes on", ok, c.Left, c.AtWork)
	if !ok {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, h := range w.hosts {
		h.maybeFree = time.Now() // a rollback that is cancelled holds nothing
		if slices.Contains(c.Left, w.repo.names[h.index]) && !w.life.isDead() {
			h.leftOut, h.leftAt = true, w.life.loaded[c.Run]
		}
	}
}

// edit changes a file of a host by hand.
func (w *world) edit(h *host) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if h.record == nil || h.unit.isAtWork() {
		return
	}
	w.trace.add(h.name, "is edited by hand")
	h.edited = true
}

// rename gives a host another name, by a commit.
func (w *world) rename(h *host) {
	w.mu.Lock()
	before := w.repo.commits[len(w.repo.commits)-1].snap.Commit
	c, err := w.repo.rename(w.hosts, h)
	w.mu.Unlock()
	if err != nil {
		w.t.Fatal(err)
	}
	w.trace.add(h.name, "is to be named %s", w.repo.names[h.index])
	w.announce(before, c.snap.Commit)
}
