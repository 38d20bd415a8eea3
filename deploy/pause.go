package deploy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"bellhop/deploy/commits"
	"bellhop/deploy/follow"
	"bellhop/deploy/plan"
	"bellhop/internal/history/stops"
)

// While runs are paused a run still looks at the repo, so that status can say how many commits wait, and
// deploys nothing. A pause with an end is over when a run finds that its time is over: the bell asks for
// one then, and a server that starts later begins with one. So the decision whether commits are
// deployed is made in one place, by a run.

// ErrPaused says that a run was refused because runs are paused; errors.Is finds it.
var ErrPaused = fmt.Errorf("%w: runs are paused", commits.ErrRefused)

// A PausedError is ErrPaused, with the pause that holds.
type PausedError struct {
	Pause  stops.Pause
	isNews bool // the look found another head than the one before
}

// Error says who paused, since when, why and until when, and what waits.
func (e *PausedError) Error() string { return e.Pause.Status().Text(e.Pause.Waiting) }

func (e *PausedError) Is(err error) bool { return err == ErrPaused || err == commits.ErrRefused }

// gate refuses a run while runs are paused, after a look at what waits. It ends a pause whose time is over.
func (r *run) gate(ctx context.Context) error {
	pauses := r.d.History.Pauses()
	p, err := pauses.Now()
	if err != nil || p == nil {
		return err
	}

	head, waiting, err := r.waiting(ctx)
	if err != nil && r.req.By == "" {
		return err
	}

	looked := err == nil

	isOver, isNews := false, false
	_, p, err = pauses.Change(context.Background(), func(p *stops.Pause) *stops.Pause {
		if p == nil || !looked {
			return p
		}

		isNews = p.Head != head
		p.Head, p.Waiting = head, waiting
		if isOver = endsNow(p, time.Now()); isOver {
			return nil
		}

		p.Kept = p.IsPast(time.Now())
		return p
	})

	switch {
	case err != nil:
		return err
	case isOver:
		r.d.log().Info("the pause is over", "run", r.head.ID, "commit", head, "waiting_commits", waiting)
		r.head.Notes = append(r.head.Notes, "the pause was over")
		return nil
	case p == nil: // somebody resumed meanwhile
		return nil
	}

	paused := &PausedError{Pause: *p, isNews: isNews}
	if r.req.Resume {
		return r.resumeLater(context.Background(), paused)
	}

	r.d.log().Warn("runs are paused", "run", r.head.ID, "commit", p.Head, "cause", r.head.Cause, "by", p.By, "reason", p.Reason, "waiting_commits", p.Waiting)
	return paused
}

// endsNow says that a pause is over by its clock. One commit that waits is what a push without a pause
// would have been. Several were pushed one after another, and nobody saw the first ones deployed: they
// wait for a person, unless it was said before that they need not.
func endsNow(p *stops.Pause, now time.Time) bool {
	needsNobody := p.Waiting <= 1 || p.Then
	return p.IsPast(now) && !p.Kept && needsNobody
}

// waiting asks the remote for the head, and counts the commits of it that are not deployed. A head whose
// history can't be compared with what is deployed, as after a forced push, counts as many.
func (r *run) waiting(ctx context.Context) (head string, n int, err error) {
	d := r.d
	look := d.Sync
	if d.Look != nil {
		look = d.Look // so that the run after the pause is told of a history that was rewritten
	}
	r.event(follow.Event{Step: "sync"})
	snap, err := look(ctx)
	d.repo.Looked(err)
	if err != nil {
		return "", 0, fmt.Errorf("read the repo: %w", err)
	}
	r.head.Commit, r.head.Author, r.head.Subject = snap.Commit, snap.Author, snap.Subject

	top := d.History.Top()
	switch {
	case snap.Commit == top:
		return snap.Commit, 0, nil
	case top == "" || d.Since == nil:
		return snap.Commit, 1, nil
	}

	messages, err := d.Since(ctx, top, snap.Commit)
	if err != nil {
		d.log().Warn("commits that wait can't be counted", "commit", snap.Commit, "err", err)
	}
	n = max(len(messages), 1)
	if snap.Rewritten || err != nil {
		n = max(n, 2)
	}
	return snap.Commit, n, nil
}

// isOldNews says that a run by the clock found that runs are paused, and nothing else: it is not stored.
func (r *run) isOldNews(err error) bool {
	var paused *PausedError
	if r.stored || r.req.Trigger != plan.TriggerClock {
		return false
	}
	if errors.As(err, &paused) {
		return !paused.isNews
	}
	return r.d.repo.Repeats(err)
}
