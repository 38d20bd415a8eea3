package simulator

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"bellhop/deploy/follow"
	"bellhop/internal/fleet"
	"bellhop/internal/history"
	"bellhop/internal/history/stops"
)

// What must hold of what people did:
//
//   - a run that began while runs were paused deploys nothing; a pause ends when somebody resumes, or by its
//     clock where one commit waits at most or that was said before, and no other way;
//   - a host that somebody brought back is held at what it held once, until somebody resumes it or a commit
//     changes what it is to hold, and no longer;
//   - a host that a cancelled run left out is not begun until somebody asks, or there is another commit;
//   - status tells of each file that was edited by hand since the last push, and of no other; no look puts one back.

// since are the messages of the commits between two.
func (w *world) since(_ context.Context, last, head string) (messages []string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := w.repo.index(last) + 1; i <= w.repo.index(head); i++ {
		messages = append(messages, w.repo.commits[i].snap.Subject)
	}
	return messages, nil
}

// jitter spreads looks by the seed.
func (w *world) jitter(most time.Duration) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.jitters++
	return time.Duration(w.hosts[0].chance("jitter", w.jitters).Int64N(int64(most) + 1))
}

// waits says how many commits are not deployed. It is called under mu.
func (w *world) waits() int { return w.repo.visible - w.repo.index(w.life.db.Top()) }

// loads hears that a run reads the repo, so no pause holds that began before it. A run that brings hosts back
// may, while runs are paused.
func (w *world) loads(l *life, e follow.Event) {
	run := e.Run
	began, _ := l.began.Load(run)
	w.mu.Lock()
	defer w.mu.Unlock()
	_, subject, _ := strings.Cut(e.Text, " ")
	l.loaded[run] = slices.IndexFunc(w.repo.commits, func(c commit) bool { return c.snap.Subject == subject })
	p := w.pause
	_, goesBack := w.rollbacks[run]
	if p == nil || goesBack || began.(time.Time).Before(p.began) {
		return
	}

	isOver := !p.until.IsZero() && !time.Now().Before(p.until)
	showed := time.Since(w.repo.shownAt) < time.Second // after the run counted what waits
	if !isOver || !p.then && w.waits() > 1 && !showed {
		w.blame("a run deploys %d commits while runs are paused since %v until %v", w.waits(), p.began, p.until)
	}
	w.pause = nil
}

// checkPause looks at the pause after an hour without trouble. One that holds still is ended by a person, and all comes to
// rest again.
func (w *world) checkPause() {
	p, err := w.life.db.Pauses().Now()
	if err != nil {
		w.t.Fatal(err)
	}
	st, err := w.life.db.Status(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	isPast := p != nil && !p.Until.IsZero() && time.Now().After(p.Until.Add(pollEvery))
	switch {
	case p == nil && w.pause != nil:
		w.blame("a pause was forgotten: %+v", *w.pause)
	case p == nil:
	case w.pause == nil:
		w.blame("runs are paused, and nobody did that: %+v", *p)
	case isPast && (!p.Kept || p.Then || w.waits() <= 1):
		w.blame("the time of the pause is over with %d commits that wait, and it holds: %+v", w.waits(), *p)
	case st.Waiting != w.waits():
		w.blame("status says that %d commits wait, and %d do", st.Waiting, w.waits())
	}
	w.mu.Unlock()

	if p != nil {
		w.resumeRuns()
		w.pass(75 * time.Minute)
	}
}

// unlikeHeld says what is wrong with a host that is held; "" when all is right.
func (w *world) unlikeHeld(h *host, s history.HostStatus, whole *fleet.Bundle, hold *stops.Hold, when string) string {
	_, isOurs := w.rollbacks[hold.Run]
	switch {
	case !isOurs || hold.By != person:
		return fmt.Sprintf("nobody brought it back: %+v", *hold)
	case hold.Wanted != whole.Digest:
		return "it is held, though a commit changes what it is to hold"
	case !h.held[hold.Digest]:
		return "it is held to what it never held"
	case s.State == history.Held && s.Held == nil:
		return "status does not say who holds it"
	case s.State == history.Held && (h.record == nil || h.record.Digest != hold.Digest):
		return "it does not hold what the rollback brought"
	case s.State == history.Held:
		return ""
	case s.State == history.Unconfirmed && h.unconfirmed[hold.Digest]:
		return ""
	case s.State == history.Behind && strings.HasPrefix(value(s.Error), "stopped: "):
		return ""
	case s.CancelledBy != nil && when != afterAll: // it was away, or was not begun, when the run that was to bring it there was cancelled
		return ""
	}
	return "it is to be held"
}

// lostHold says that the host was brought back and is held no longer, without a cause; "" when it is not to be
// held.
func (w *world) lostHold(h *host) string {
	for run, back := range w.rollbacks {
		if back.planned == 0 || !h.maybeFree.Before(back.asked) {
			continue
		}
		hr, err := w.life.db.Run(context.Background(), run)
		if err != nil {
			continue // it was not stored: bellhop was killed
		}
		for _, res := range hr.Hosts {
			if w.named(res.Name) == h && !w.changes(h, back.planned-1) {
				return fmt.Sprintf("run %s brought it back, and it is held no longer", run)
			}
		}
	}
	return ""
}

// changes says that a commit after the one of that index wants something else of the host than that one.
func (w *world) changes(h *host, index int) bool {
	was := w.repo.wants(index, h)
	for i := index; i <= w.repo.visible; i++ {
		if w.repo.wants(i, h) != was {
			return true
		}
	}
	return false
}

// wants is the digest of what a commit wants of a host.
func (r *repo) wants(index int, h *host) string {
	c := r.commits[index]
	b, err := c.fleet.Bundle(c.config.names[h.index])
	if err != nil {
		return ""
	}
	return b.Digest
}

// unlikeLook says what is wrong with what the last look found; "" when all is right.
func (w *world) unlikeLook(h *host, s history.HostStatus) string {
	isLooked := w.repo.commits[w.repo.visible].config.look != "" && h.record != nil
	isKnown := s.Generation != nil && !h.isOthers()
	if !isLooked || !isKnown {
		return ""
	}
	isDue := s.SeenAt != nil && time.Since(*s.SeenAt) > 25*time.Minute
	switch {
	case isDue:
		return fmt.Sprintf("it was heard last at %v, and looked at no more", *s.SeenAt)
	case h.isFormer || s.LookedAt == nil || s.LookedAt.Before(w.calmAt) || s.Drift == nil:
		return ""
	case h.edited != (*s.Drift > 0):
		return fmt.Sprintf("%d things differ by the look at %v, and that somebody edited it is %v", *s.Drift, *s.LookedAt, h.edited)
	}
	return ""
}
