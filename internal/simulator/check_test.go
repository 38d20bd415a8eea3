package simulator

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"bellhop/deploy/plan"
	"bellhop/internal/bundle"
	"bellhop/internal/fleet"
	"bellhop/internal/history"
	"bellhop/internal/history/results"
	"bellhop/internal/history/services"
)

// What must hold once all was well for an hour:
//
//   - the head of the repo is what bellhop has seen: no push was lost;
//   - each host has the keys of what it holds in its RAM, with the values that it was given them with;
//   - each host holds what the head wants of it, or is held-back, rolled-back, failed, refused,
//     unconfirmed or not begun, says why, and there is a cause for that in the world;
//   - history and the host's own record agree;
//   - no two runs went on at once;
//   - each result that changed the state of a host is in the outbox;
//   - one more push delivery of the same head contacts nobody.
//
// What must hold of each run while it goes on is in checkwaves_test.go.
//
// That nothing is applied without a cause is watched all the time: see host.tries.

const afterAll = "after deploy --all"

// check looks twice: before a person asks for anything, at the hosts that nobody changed behind
// bellhop's back; and after a person asked for all hosts, at every one
// that was contacted then: a bundle that failed is not tried again by deploy --all.
func (w *world) check() {
	w.checkHosts("by itself", func(h *host) bool { return !h.strays })
	w.mu.Lock()
	w.do(plan.Request{Cause: "deploy", By: person, All: true})
	w.mu.Unlock()
	w.pass(20 * time.Minute)
	w.rest()
	w.checkHosts(afterAll, func(h *host) bool { return !h.strays })
	w.checkRuns()
	w.checkRest()
	w.rest()
}

// rest lets time go by while a run is at work, or what came of one is still to be heard: two hosts that take minutes,
// one after the other, take long.
func (w *world) rest() {
	for range 24 {
		w.mu.Lock()
		isAtWork := w.life.bell.Current() != "" || slices.ContainsFunc(w.hosts, func(h *host) bool { return h.unit.isAtWork() })
		w.mu.Unlock()
		for _, h := range w.life.db.Hosts() {
			isAtWork = isAtWork || h.State == history.Unknown || h.State == history.Deploying
		}
		if !isAtWork {
			return
		}
		w.pass(5 * time.Minute)
	}
}

func (w *world) checkHosts(when string, includes func(*host) bool) {
	st, err := w.life.db.Status(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	head := w.repo.head().Commit
	if w.repo.visible != len(w.repo.commits)-1 {
		w.t.Fatal("the remote does not show the newest commit")
	}
	if st.Commit == nil || *st.Commit != head {
		w.blame("%s: the newest commit that bellhop knows is not the head: a push was lost", when)
	}
	listed := 0
	for _, s := range st.Hosts {
		h := w.named(s.Name)
		if isFormerName := s.Name != w.repo.names[h.index]; isFormerName && s.State == history.Released {
			continue
		}
		listed++
		w.trace.add(h.name, "%s: %s, generation %d", when, s.State, h.base())
		if !includes(h) {
			if s.State == history.Current && when == afterAll {
				w.blame("%s: %s is current, and was never asked", when, h.name)
			}
			continue
		}
		why := cmp.Or(w.unlike(h, s, when), w.unlikeKeys(h, s), w.unlikeLook(h, s))
		if why != "" {
			w.blame("%s: %s is %s (%s): %s", when, h.name, s.State, value(s.Error), why)
		}
	}
	if listed != len(w.hosts) {
		w.blame("%s: status lists %d hosts, want %d", when, listed, len(w.hosts))
	}
}

func value(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// unlike says what is wrong with the state of a host; "" when all is right.
func (w *world) unlike(h *host, s history.HostStatus, when string) string {
	head := w.repo.commits[w.repo.visible]
	whole, err := head.fleet.Bundle(s.Name)
	if err != nil {
		return err.Error()
	}
	if h.isOthers() && s.State == history.Refused && strings.Contains(value(s.Error), "--take-over") {
		return "" // it got another name since it was ours
	}
	last, _ := w.life.db.Host(s.Name)
	isRenamed := h.record != nil && h.record.Host != s.Name
	wasStopped := s.State == history.Never && strings.HasPrefix(value(s.Error), "stopped: ")
	if isRenamed && last.Digest == "" && (wasStopped || s.CancelledBy != nil && when != afterAll) {
		return "" // it was not asked under its new name yet
	}
	isUnknown := last.Digest == "" && s.State != history.Current // of another deployer, or not undone whole
	if h.record != nil && (last.Generation != h.record.Generation || last.Digest != h.record.Digest && !isUnknown) {
		return fmt.Sprintf("history has generation %d with %.8s, the host %d with %.8s", last.Generation, last.Digest, h.record.Generation, h.record.Digest)
	}
	isSilent := s.State == history.Current || s.State == history.Held
	if !isSilent && s.Error == nil {
		return "it says no reason"
	}
	if hold := w.life.db.Holds().Of(s.Name); hold != nil {
		return w.unlikeHeld(h, s, whole, hold, when)
	}
	if why := w.lostHold(h); why != "" {
		return why
	}
	if s.CancelledBy != nil && when != afterAll {
		return ""
	}
	holds := h.record != nil && h.record.Digest == whole.Digest

	switch s.State {
	case history.Current:
		if !holds {
			return "it does not hold what the head wants"
		}
		return ""
	case history.HeldBack:
		return w.heldBack(h, s, whole)
	case history.RolledBack:
		if w.has(h, whole, isBad, isObscure, isBarred) || strings.Contains(*s.Error, ": it failed on h") {
			return ""
		}
	case history.Failed:
		if w.has(h, whole, isBroken) {
			return ""
		}
	case history.Refused:
		if w.has(h, whole, isBarred) || strings.Contains(*s.Error, "--allow-prune") {
			return ""
		}
	case history.Unconfirmed:
		if w.has(h, whole, cutsOff) || h.vanished[whole.Digest] || s.Reason != nil && *s.Reason == results.ReasonAway && h.unconfirmed[whole.Digest] {
			return ""
		}
	case history.Behind, history.Never:
		hasWaves := head.config.waves != "[]" || head.config.after != ""
		if strings.HasPrefix(*s.Error, "stopped: ") && hasWaves {
			return ""
		}
	}
	return "there is no cause for that"
}

// isOthers says that another deployer has the host.
func (h *host) isOthers() bool { return h.record != nil && h.record.Deployer != deployerID }

// has says that the bundle has a service of that nature on the host, which does not stand there.
func (w *world) has(h *host, b *fleet.Bundle, natures ...nature) bool {
	for _, s := range newServices(&h.full, &b.Manifest) {
		if slices.Contains(natures, w.repo.natureOf(h, &b.Manifest, s)) {
			return true
		}
	}
	return false
}

// heldBack looks for services that are held back and that nothing is wrong with, on any host.
func (w *world) heldBack(h *host, st history.HostStatus, whole *fleet.Bundle) string {
	isHeld := map[string]bool{}
	for _, s := range w.life.db.Services(st.Name) {
		if s.State == services.Held {
			isHeld[s.Name] = true
		}
	}
	for _, s := range whole.ServiceNames() {
		stands := bundle.ServiceDigest(&whole.Manifest, s) == bundle.ServiceDigest(&h.full, s)
		failsSomewhere := slices.ContainsFunc(w.hosts, func(o *host) bool {
			return slices.Contains([]nature{isBad, isBarred}, w.repo.natureOf(o, &whole.Manifest, s))
		})
		switch {
		case stands == isHeld[s]:
			return fmt.Sprintf("service %s is held back: %v, and stands there as the head has it: %v", s, isHeld[s], stands)
		case !stands && !failsSomewhere:
			return fmt.Sprintf("service %s is held back, and fails nowhere", s)
		}
	}
	return ""
}

// checkRuns looks at all runs: one after another, and each result in the outbox.
func (w *world) checkRuns() {
	ctx := context.Background()
	all, err := w.life.db.Runs(ctx, 10_000)
	if err != nil {
		w.t.Fatal(err)
	}
	messages, err := w.life.db.Outbox(ctx, 100_000)
	if err != nil {
		w.t.Fatal(err)
	}
	told := map[string]bool{}
	for _, m := range messages {
		told[m.Run+" "+m.Host] = true
	}

	slices.Reverse(all.Runs) // the oldest first
	var end time.Time
	for _, r := range all.Runs {
		if r.FinishedAt == nil {
			w.blame("run %s has no end", r.ID)
			continue
		}
		if r.StartedAt.Before(end.Truncate(time.Millisecond)) {
			w.blame("run %s began at %v, before the one before it ended at %v", r.ID, r.StartedAt, end)
		}
		end = *r.FinishedAt
		for _, res := range r.Hosts {
			if res.Outcome == nil {
				w.blame("run %s has no result of %s", r.ID, res.Name)
				continue
			}
			mustTell := slices.Contains([]history.Outcome{history.OutcomeDone, history.OutcomeRolledBack, history.OutcomeFailed, history.OutcomeUnconfirmed, history.OutcomeHeldBack}, *res.Outcome)
			wasPushed := res.TookMs > 0 // others are told when they are new
			if wasPushed && mustTell && !told[r.ID+" "+res.Name] {
				w.blame("run %s: that %s is %s is not in the outbox", r.ID, res.Name, *res.Outcome)
			}
		}
	}
}

// checkRest delivers the newest push once more: nobody is contacted for it.
func (w *world) checkRest() {
	count := func() (connections, works, moved int) {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, h := range w.hosts {
			if h.isOthers() { // each run asks it again
				continue
			}
			if w.repo.commits[w.repo.visible].config.look == "" {
				connections += h.connections
			}
			works += h.works
			moved += h.moved
		}
		return connections, works, moved
	}
	before, worksBefore, movedBefore := count()
	head := w.repo.head().Commit
	w.deliver("again", head, head)
	w.pass(3 * time.Minute)
	after, works, movedAfter := count()
	if before != after || works != worksBefore || movedBefore != movedAfter {
		w.blame("a push that changed nothing made %d connections and %d sessions, and changed %d hosts", after-before, works-worksBefore, movedAfter-movedBefore)
	}
}
