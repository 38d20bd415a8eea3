package forge

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"bellhop/internal/history"
	"bellhop/internal/history/stops"
	"bellhop/internal/plain"
)

// A view is what history knew at one moment. The statuses of commits follow from it and from nothing else.
type view struct {
	at     time.Time
	status history.Status
	runs   []history.Run // newest first
	pause  *stops.Pause  // nil: runs are not paused
	sync   *history.SyncError
	pushed string // the newest commit of the branch that a webhook named; "": none did
}

// A verdict is what came of a commit so far.
type verdict struct {
	state State
	text  string
	run   string // whose page tells more; "" is none

	tally *tally // of a success, whose text is made late: see wanted
}

// pausedFor is how long a commit may wait for the end of a pause before its status says that it is not tried.
const pausedFor = 10 * time.Minute

// syncFor is how long the repo may be unreadable before the pushed commit says so.
const syncFor = time.Minute

// top is the commit that hosts are brought to; "" before the first.
func (v *view) top() string {
	if v.status.Commit == nil {
		return ""
	}
	return *v.status.Commit
}

// newest is the newest run of a commit; nil when there is none.
func (v *view) newest(commit string) *history.Run {
	for i, r := range v.runs {
		if r.Commit != nil && *r.Commit == commit {
			return &v.runs[i]
		}
	}
	return nil
}

// knows says that something is still told of a commit: it is the newest, or a run or the pause is about it.
func (v *view) knows(commit string) bool {
	isPaused := v.pause != nil && v.pause.Head == commit
	isHead := commit == v.top() || commit == v.pushed
	return isHead || isPaused || v.newest(commit) != nil
}

// oldest is the first run of a commit that is still known.
func (v *view) oldest(commit string) *history.Run {
	for i, r := range slices.Backward(v.runs) {
		if r.Commit != nil && *r.Commit == commit {
			return &v.runs[i]
		}
	}
	return nil
}

// verdictOn is what came of a commit; false when nothing can be said of it.
func (v *view) verdictOn(commit string) (verdict, bool) {
	r := v.newest(commit)
	isWaiting := v.pause != nil && v.pause.Head == commit && commit != v.top()
	switch {
	case isWaiting:
		return v.paused(commit, r), true
	case r == nil:
		return v.unread(commit)
	case r.FinishedAt == nil:
		return verdict{state: Pending, text: deployingText(r), run: r.ID}, true
	case isRefusal(r) && !v.isOnlyPaused(commit, r):
		return verdict{state: Error, text: "not deployed: " + firstLine(r.Error), run: r.ID}, true
	case commit == v.top():
		return v.current(commit, r), true
	}

	return v.superseded(commit, r), true
}

// isRefusal says that a run was not made at all: its commit is refused, or it could not be read.
func isRefusal(r *history.Run) bool {
	wasNotMade := r.Outcome != nil && (*r.Outcome == history.OutcomeRefused || *r.Outcome == history.OutcomeFailed)
	return wasNotMade && r.Error != ""
}

// isOnlyPaused says that a refused run left the commit as it was: a person asked for it while runs were paused. A commit that
// is refused has all hosts in its run.
func (v *view) isOnlyPaused(commit string, r *history.Run) bool {
	return commit == v.top() && len(r.Hosts) == 0 && len(v.status.Hosts) > 0
}

func deployingText(r *history.Run) string {
	if len(r.Hosts) == 0 {
		return "looking at the commit"
	}
	return "deploying to " + count(len(r.Hosts), "host")
}

// paused is the verdict on a commit that waits for the end of a pause.
func (v *view) paused(commit string, r *history.Run) verdict {
	text := firstLine(v.pause.Status().Text(0))
	since := v.at
	run := ""
	if r != nil {
		since, run = v.oldest(commit).StartedAt, r.ID
	}
	if v.at.Sub(since) < pausedFor {
		return verdict{state: Pending, text: text, run: run}
	}

	return verdict{state: Error, text: "not deployed: " + text, run: run}
}

// unread is the verdict on a commit that no run has seen: a webhook named it, and the repo can't be read.
func (v *view) unread(commit string) (verdict, bool) {
	isUnread := commit == v.pushed && v.sync != nil && v.at.Sub(v.sync.Since) >= syncFor
	if !isUnread {
		return verdict{}, false
	}
	return verdict{state: Error, text: "not deployed: " + firstLine(v.sync.Error), run: ""}, true
}

// A tally counts the hosts of a commit by what came of it there.
type tally struct {
	hosts, changed   int
	away, bad, left  []string
	isOpen           bool
	firstBad, reason string // the first host that failed, and its line
	cancelledBy      string
}

// add counts one host, given its state, or the outcome of a run there: both have the same words.
func (t *tally) add(name, word, err string) {
	t.hosts++
	switch history.State(word) {
	case history.Current, history.State(history.OutcomeDone), history.State(history.OutcomeNothing):
	case history.Pending:
		t.away = append(t.away, name)
	case history.Failed, history.RolledBack, history.Unconfirmed, history.HeldBack, history.Refused, history.Held:
		if t.bad = append(t.bad, name); len(t.bad) == 1 {
			t.firstBad, t.reason = name+" "+word, firstLine(err)
		}
	case history.Deploying, history.Unknown, "":
		t.isOpen = true
	default: // behind, never, cancelled
		t.left = append(t.left, name)
	}
}

// current is the verdict on the commit that hosts are brought to. A run of it has ended.
func (v *view) current(commit string, r *history.Run) verdict {
	var t tally
	for _, h := range v.status.Hosts {
		isTest := h.Held != nil && h.Held.Test != nil // what runs there is another commit's matter
		if h.State != history.Released && !isTest {
			t.add(h.Name, string(h.State), deref(h.Error))
		}
		if h.CancelledBy != nil {
			t.cancelledBy = *h.CancelledBy
		}
	}

	t.changed = v.changed(commit)

	isCancelled := t.cancelledBy != "" && len(t.left) > 0
	switch {
	case t.isOpen:
		return verdict{state: Pending, text: deployingText(r), run: r.ID}
	case len(t.bad) > 0:
		return verdict{state: Failure, text: t.failure(), run: r.ID}
	case isCancelled:
		return verdict{state: Error, text: "cancelled by " + plain.Line(t.cancelledBy, 40) + ": " + t.leftText(), run: r.ID}
	case len(t.left) > 0:
		return verdict{state: Pending, text: "waiting to be deployed: " + listed(t.left), run: r.ID}
	}

	return verdict{state: Success, tally: &t, run: r.ID}
}

// changed counts the hosts that runs of a commit changed.
func (v *view) changed(commit string) int {
	names := map[string]bool{}
	for _, r := range v.runs {
		if r.Commit == nil || *r.Commit != commit {
			continue
		}
		for _, h := range r.Hosts {
			if h.Outcome != nil && *h.Outcome == history.OutcomeDone {
				names[h.Name] = true
			}
		}
	}

	return len(names)
}

// superseded is the verdict on a commit that another one followed: what came of it until then.
func (v *view) superseded(commit string, r *history.Run) verdict {
	var t tally
	for _, h := range r.Hosts {
		word := ""
		if h.Outcome != nil {
			word = string(*h.Outcome)
		}
		t.add(h.Name, word, deref(h.Error))
	}

	t.changed = v.changed(commit)

	next := ""
	if len(v.top()) >= 7 {
		next = ", followed by " + v.top()[:7]
	}
	isCancelled := r.Outcome != nil && *r.Outcome == history.OutcomeCancelled
	isUntried := len(r.Hosts) == 0 && r.Outcome != nil && *r.Outcome == history.OutcomeDone // one that found nothing to change says so
	switch {
	case len(t.bad) > 0:
		return verdict{state: Failure, text: t.failure(), run: r.ID}
	case isUntried:
		return verdict{state: Error, text: "not deployed" + next, run: r.ID}
	case t.isOpen || len(t.left) > 0 || isCancelled:
		return verdict{state: Error, text: fmt.Sprintf("not deployed everywhere: %d of %s changed%s", t.changed, count(t.hosts, "host"), next), run: r.ID}
	}

	return verdict{state: Success, tally: &t, run: r.ID}
}

func (t *tally) success() string {
	text := fmt.Sprintf("%d of %s changed", t.changed, count(t.hosts, "host"))
	if t.changed == 0 {
		text = "nothing to change on " + count(t.hosts, "host")
	}
	if len(t.away) > 0 {
		text += "; " + listed(t.away) + isAre(len(t.away)) + "away"
	}
	return text
}

// failure says first where and why, since the end may be cut.
func (t *tally) failure() string {
	good := t.hosts - len(t.bad) - len(t.left) - len(t.away)
	rest := fmt.Sprintf("; %d of %s hold it", good, count(t.hosts, "host"))
	text := t.firstBad
	if len(t.bad) > 1 {
		text += fmt.Sprintf(" and %d more", len(t.bad)-1)
	}
	if t.reason != "" {
		text += ": " + plain.Line(t.reason, max(MaxDescription-len(text)-len(rest)-2, 20))
	}

	return text + rest
}

func (t *tally) leftText() string {
	return listed(t.left) + isAre(len(t.left)) + "as before"
}

// listed is names as people list them; many become a number.
func listed(names []string) string {
	if len(names) <= 3 {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s, %s and %d more", names[0], names[1], len(names)-2)
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func isAre(n int) string {
	if n == 1 {
		return " is "
	}
	return " are "
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return plain.Line(line, plain.MaxLine)
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// status is a verdict as a forge is told it.
func (d verdict) status(network string, runURL func(string) string) Status {
	s := Status{State: d.state, Description: plain.Line(plain.Visible(d.text), MaxDescription), Context: "bellhop"}
	if network != "" {
		s.Context = "bellhop/" + network
	}
	if runURL != nil {
		s.URL = runURL(d.run)
	}
	return s
}
