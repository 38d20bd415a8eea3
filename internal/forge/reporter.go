package forge

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"bellhop/internal/forge/rest"
	"bellhop/internal/history"
	"bellhop/internal/history/deliveries"
	"bellhop/internal/history/outbox"
	"bellhop/internal/history/stops"
)

// History is what a reporter reads and writes.
type History interface {
	Status(ctx context.Context) (history.Status, error)
	Runs(ctx context.Context, limit int, hosts ...string) (history.History, error)
	Deliveries(ctx context.Context, limit int) ([]deliveries.Delivery, error)
}

// Marks remembers what each target was told.
type Marks interface {
	Marks(ctx context.Context) (map[string]outbox.Mark, error)
	SetMark(ctx context.Context, target string, m outbox.Mark) error
}

// A Reporter tells a forge what came of commits. Its fields are set before Run; one whose comment does not say what nil
// means must be set.
type Reporter struct {
	Client  *Client
	History History
	Marks   Marks
	Pause   func() (*stops.Pause, error)
	// SyncError says since when the repo can't be read; nil when it can.
	SyncError func() *history.SyncError
	// RunURL is the address of a run's page; "" when it has none.
	RunURL func(run string) string
	// Changed receives when history may know something new.
	Changed <-chan struct{}
	// Deployed is the digest of the plan by which a commit was deployed; "" when it is not known. Nil: it never is.
	Deployed func(commit string) string
	Troubles *Troubles // is told what the forge refuses; nil: nobody asks
	Log      *slog.Logger
}

// Times of a reporter.
const (
	gather    = 200 * time.Millisecond // events come in groups
	between   = time.Second            // between two looks at history
	firstWait = 5 * time.Second        // after a refusal; twice as long each time
	lastWait  = 10 * time.Minute
	idle      = time.Hour
	openLook  = time.Minute // while a status is pending that the clock may end
	giveUp    = 24 * time.Hour
)

// Run reports until ctx ends.
func (r *Reporter) Run(ctx context.Context) {
	p := newProgress()
	for {
		again := r.round(ctx, &p)
		timer := time.NewTimer(again)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-r.Changed:
			timer.Stop()
			sleep(ctx, max(gather, time.Until(p.notBefore), time.Until(p.last.Add(between))))
		case <-timer.C:
		}
	}
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// A progress is what a reporter remembers between rounds. All of it may be lost.
type progress struct {
	last      time.Time        // when history was read
	fails     int              // rounds in a row that the forge as a whole refused
	notBefore time.Time        // when it may be asked again
	retries   map[string]retry // of single commits that it refuses
	compared  map[string]bool  // commits whose request is known, or that no request brought
}

func newProgress() progress {
	return progress{retries: map[string]retry{}, compared: map[string]bool{}}
}

type retry struct {
	first, next time.Time
	wait        time.Duration
	isDenied    bool // the token lacks the right
}

// told is what the forge knows of one commit, as the mark has it.
type sentStatus struct {
	State State  `json:"state"`
	Text  string `json:"text"`
	Run   string `json:"run,omitempty"`
	// Changed counts the hosts that runs changed, as far as they were known: old runs are not read again.
	Changed int `json:"changed,omitempty"`
	// Plan is what was said of the request that brought the commit: see asPlanned.
	Plan string `json:"plan,omitempty"`
	// Digest is that of the plan by which the commit is deployed; "": it is not known.
	Digest string `json:"digest,omitempty"`
}

// handledKey is the entry of a mark that names the newest run up to which all commits have their last status.
const handledKey = ""

func (r *Reporter) markName() string { return "forge " + r.Client.Name() }

// round tells the forge what it does not know, and returns when to look again.
func (r *Reporter) round(ctx context.Context, p *progress) time.Duration {
	now := time.Now()
	p.last = now
	if wait := p.notBefore.Sub(now); wait > 0 {
		return wait
	}

	mark, err := r.mark(ctx)
	var v *view
	if err == nil {
		v, err = r.look(ctx, mark)
	}
	if err != nil {
		if ctx.Err() == nil {
			r.Log.Warn("commit statuses wait", "err", err)
		}
		return 6 * firstWait
	}
	return r.tell(ctx, v, mark, p)
}

// mark is what the forge was told.
func (r *Reporter) mark(ctx context.Context) (map[string]string, error) {
	marks, err := r.Marks.Marks(ctx)
	if err != nil {
		return nil, err
	}
	mark := maps.Clone(marks[r.markName()].Told)
	if mark == nil {
		mark = map[string]string{}
	}
	return mark, nil
}

// keptUnhandled is how many runs may be newer than the one that is remembered as handled: remembering each would be a write
// for each run. It is less than the first of runLimits.
const keptUnhandled = 5

// noRun is what is handled where there was no run yet.
const noRun = "-"

// runLimits are how many runs are read until one is found that is handled.
var runLimits = []int{10, 100, 1000}

// look reads history as far back as something may have to be told.
func (r *Reporter) look(ctx context.Context, mark map[string]string) (*view, error) {
	v := &view{at: time.Now(), sync: r.SyncError()}
	var err error
	if v.status, err = r.History.Status(ctx); err != nil {
		return nil, err
	}
	if v.pause, err = r.Pause(); err != nil {
		return nil, err
	}

	for _, limit := range runLimits {
		h, err := r.History.Runs(ctx, limit)
		if err != nil {
			return nil, err
		}
		v.runs = h.Runs
		isFirst := mark[handledKey] == ""
		isEnough := slices.ContainsFunc(v.runs, func(h history.Run) bool { return h.ID == mark[handledKey] })
		if isFirst || isEnough || len(v.runs) < limit {
			break
		}
	}
	if mark[handledKey] == "" {
		mark[handledKey] = v.beforeNewest()
		if err := r.remember(ctx, v, mark); err != nil {
			return nil, err
		}
	}
	v.pushed, err = r.pushed(ctx, v)
	return v, err
}

// beforeNewest is the run before the newest one. A forge that was never told anything hears of what came after it, and of
// the newest commit.
func (v *view) beforeNewest() string {
	if len(v.runs) < 2 {
		return noRun
	}
	return v.runs[1].ID
}

var commitID = regexp.MustCompile(`^[0-9a-f]{40}([0-9a-f]{24})?$`)

// pushed is the newest commit that a webhook named. It is asked for only while the repo can't be read.
func (r *Reporter) pushed(ctx context.Context, v *view) (string, error) {
	if v.sync == nil {
		return "", nil
	}
	ds, err := r.History.Deliveries(ctx, 20)
	for _, d := range ds {
		if d.Run != "" && commitID.MatchString(d.Commit) {
			return d.Commit, err
		}
	}
	return "", err
}

// commits are those that may have to be told of, oldest first.
func (v *view) commits(mark map[string]string) []string {
	var all []string
	add := func(commit string) {
		if commitID.MatchString(commit) && !slices.Contains(all, commit) {
			all = append(all, commit)
		}
	}

	isNew := true // than the newest run that is handled
	add(v.pushed)
	if v.pause != nil {
		add(v.pause.Head)
	}
	for _, r := range v.runs {
		isNew = isNew && r.ID != mark[handledKey]
		if r.Commit == nil {
			continue
		}
		if isNew || mark[*r.Commit] != "" {
			add(*r.Commit)
		}
	}
	add(v.top())
	for commit := range mark {
		add(commit)
	}
	slices.Reverse(all)
	return all
}

// tell sends what the forge does not know.
func (r *Reporter) tell(ctx context.Context, v *view, mark map[string]string, p *progress) time.Duration {
	again, isOpen, isDone := idle, false, true
	for _, commit := range v.commits(mark) {
		want, ok := r.wanted(v, commit, mark[commit])
		if !ok {
			continue
		}
		isOpen = isOpen || want.state == Pending
		if wait := time.Until(p.retries[commit].next); wait > 0 {
			again, isDone = min(again, wait), false
			continue
		}

		switch sent, wait := r.send(ctx, v, commit, want, mark, p); {
		case wait > 0: // nothing more can be told now
			return wait
		case !sent:
			again, isDone = min(again, time.Until(p.retries[commit].next)), false
		}
	}

	areDeployed, wait := r.tryDeployments(ctx, v, mark, p)
	isDone, again = isDone && areDeployed, min(again, wait)

	if isOpen {
		return min(again, openLook)
	}
	if isDone {
		r.handled(ctx, v, mark)
	}
	if v.sync != nil {
		again = min(again, openLook)
	}
	return max(again, 0)
}

// wanted is the verdict on a commit; false when there is nothing to tell. What was told of a commit that another one followed
// stays, unless it is pending.
func (r *Reporter) wanted(v *view, commit, was string) (verdict, bool) {
	before := sentStatusOf(was)
	isLast := before.State != "" && before.State != Pending
	isPast := commit != v.top() && (v.pause == nil || commit != v.pause.Head)
	if isLast && isPast {
		return verdict{}, false
	}

	want, ok := v.verdictOn(commit)
	if !ok && before.State == Pending && isPast { // its runs are too old to be known
		want, ok = verdict{state: Error, text: "it is not known what came of it"}, true
	}
	if want.tally != nil {
		want.tally.changed = max(want.tally.changed, before.Changed)
		want.text = want.tally.success()
	}
	return want, ok
}

func sentStatusOf(text string) sentStatus {
	var t sentStatus
	_ = json.Unmarshal([]byte(text), &t) // "" and what a later release wrote are nothing
	return t
}

// send tells the forge of one commit, and remembers that. When wait is not 0 the forge as a whole refuses, or history does.
func (r *Reporter) send(ctx context.Context, v *view, commit string, want verdict, mark map[string]string, p *progress) (sent bool, wait time.Duration) {
	before := sentStatusOf(mark[commit])
	digest, plan := r.digestOf(commit, before), before.Plan
	if plan == "" && want.state != Pending && want.state != Error {
		plan = r.asPlanned(ctx, commit, digest, p)
	}
	want.text += plan
	s := want.status(deref(v.status.Network), r.RunURL)
	now := sentStatus{State: s.State, Text: s.Description, Run: want.run, Plan: plan, Digest: digest}
	if want.tally != nil {
		now.Changed = want.tally.changed
	}
	isSame := now.State == before.State && (now.Text == before.Text || now.State == Pending)
	isNews := !isSame || digest != before.Digest
	switch {
	case !isNews:
		return true, 0
	case isSame:
		now = before
		now.Digest = digest
	default:
		if wait, err := r.setStatus(ctx, commit, s, p); err != nil {
			return false, wait
		}
	}

	text, err := json.Marshal(now)
	if err == nil {
		mark[commit] = string(text)
		err = r.remember(ctx, v, mark)
	}
	if err != nil {
		if ctx.Err() == nil {
			r.Log.Error("commit status sent, and may be sent again", "commit", commit, "err", err)
		}
		return false, 6 * firstWait
	}
	return true, 0
}

// setStatus sends one status. When wait is not 0 the forge as a whole refuses.
func (r *Reporter) setStatus(ctx context.Context, commit string, s Status, p *progress) (wait time.Duration, err error) {
	err = r.Client.SetStatus(ctx, commit, s)
	if ctx.Err() == nil {
		r.Troubles.note("commit statuses", err)
	}
	if err != nil {
		_, wait = r.refused(ctx, commit, err, p)
		return wait, err
	}
	p.fails = 0
	delete(p.retries, commit)
	r.Log.Info("commit status sent", "commit", commit, "state", s.State, "forge", r.Client.Name())
	return 0, nil
}

// refused decides when to try again: this commit, or the forge as a whole.
func (r *Reporter) refused(ctx context.Context, commit string, err error, p *progress) (sent bool, wait time.Duration) {
	if ctx.Err() != nil {
		return false, idle
	}
	var said *rest.Error
	isAPI := errors.As(err, &said)
	if isAPI && said.IsOfOneCommit() {
		again := p.retries[commit]
		again.first = cmp.Or(again.first, time.Now())
		again.wait = min(cmp.Or(again.wait*2, firstWait), lastWait)
		again.next = time.Now().Add(again.wait)
		if time.Since(again.first) > giveUp {
			again.next = time.Now().Add(giveUp)
		}
		p.retries[commit] = again
		r.Log.Error("commit status not sent", "commit", commit, "err", err, "again", again.wait)
		return false, 0
	}

	p.fails++
	wait = min(firstWait<<min(p.fails-1, 8), lastWait)
	if isAPI {
		wait = max(wait, said.After)
	}
	p.notBefore = time.Now().Add(wait)
	r.Log.Error("commit statuses not sent", "commit", commit, "err", err, "again", wait)
	return false, wait
}

// remember stores what the forge was told, less commits that nothing can change any more.
func (r *Reporter) remember(ctx context.Context, v *view, mark map[string]string) error {
	for commit, text := range mark {
		if strings.HasPrefix(commit, runKey("")) {
			if !v.keepsRun(commit) {
				delete(mark, commit)
			}
			continue
		}
		isFinal := sentStatusOf(text).State != Pending
		if commit != handledKey && isFinal && !v.knows(commit) {
			delete(mark, commit)
		}
	}
	return r.Marks.SetMark(ctx, r.markName(), outbox.Mark{Seq: 1, At: time.Now(), Told: mark})
}

// handled remembers the newest run, when all commits up to it have their last status.
func (r *Reporter) handled(ctx context.Context, v *view, mark map[string]string) {
	newest := v.runs[:min(len(v.runs), keptUnhandled)]
	if slices.ContainsFunc(newest, func(h history.Run) bool { return h.ID == mark[handledKey] }) || len(newest) == 0 {
		return
	}
	mark[handledKey] = v.runs[0].ID
	if err := r.remember(ctx, v, mark); err != nil && ctx.Err() == nil {
		r.Log.Warn("it is not remembered that commit statuses were sent", "err", err)
	}
}

// SetStatus sets the status of a commit.
func (c *Client) SetStatus(ctx context.Context, commit string, s Status) error {
	ctx, cancel := context.WithTimeout(ctx, rest.RequestTime)
	defer cancel()
	return c.api.setStatus(ctx, commit, s)
}
