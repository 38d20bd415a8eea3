package forge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"bellhop/internal/forge/rest"
	"bellhop/internal/history/outbox"
)

// A Plan is the plan of a request, as it is shown.
type Plan struct {
	Marker string // with which Text begins
	Text   string // Markdown
	Digest string // "" of a head that would be refused
	// Again is why the plan is not whole, where that is no fault of the request: it is made once more later. "": it is whole.
	Again string
}

// A Planner keeps one comment in each open request that says what its head would change. Plans are made one at a time, in
// a goroutine of their own: no push and no status waits for one. Its fields are set before Run.
type Planner struct {
	Client *Client
	Marks  Marks
	Branch string // that requests are to be merged into
	// Base is the commit that is deployed; "": none is.
	Base func() (string, error)
	// Plan plans a request against base. isFull asks for each change, which is not for the eyes of everybody.
	Plan func(ctx context.Context, r Request, base string, isFull bool) (Plan, error)
	// IsFull says whether comments name each change; nil: they do unless everybody can read the repo.
	IsFull *bool
	// Forks has requests from forks planned too, which anybody who can read the repo may open.
	Forks bool
	// Evaluates says that NixOS systems are evaluated for a plan, which may take long.
	Evaluates bool
	// Changed receives when a request may have changed.
	Changed <-chan struct{}
	// Looked receives after a look at the repo; nil: the next round sees what it found.
	Looked <-chan struct{}
	// Branches is a text that changes when a branch of the repo moved; nil: that is not known.
	Branches func() string
	Log      *slog.Logger
	// Troubles is told what the forge refuses; nil: nobody asks.
	Troubles *Troubles

	seen  string    // what the repo was like in the newest round
	waits forkWaits // heads of forks that could not be planned
}

// requestPoll is how often requests are asked for without a webhook.
const requestPoll = 5 * time.Minute

// planTime is how long one plan may take, with fetching its head.
const planTime = 3 * time.Minute

// evaluateTime is how long one plan may take that evaluates NixOS systems.
const evaluateTime = 30 * time.Minute

// planTime is how long one plan may take.
func (p *Planner) planTime() time.Duration {
	if p.Evaluates {
		return evaluateTime
	}
	return planTime
}

// planned is what a request was told, as the mark has it.
type planned struct {
	Head    string `json:"head"`
	Base    string `json:"base"`
	Full    bool   `json:"full,omitempty"`
	Comment int64  `json:"comment,omitempty"`
	Digest  string `json:"digest,omitempty"`
	// Closed is when it was not open any more: what it was told is kept for a while, to be compared with what is deployed.
	Closed time.Time `json:"closed,omitzero"`
}

// keepClosed is for how long.
const keepClosed = 7 * 24 * time.Hour

// Run plans until ctx ends.
func (p *Planner) Run(ctx context.Context) {
	fails := 0
	for {
		wait := requestPoll
		err := p.round(ctx)
		if ctx.Err() == nil {
			p.Troubles.note("plans of requests", err)
		}
		if err != nil && ctx.Err() == nil {
			var said *rest.Error
			wait = min(firstWait<<min(fails, 8), lastWait)
			if errors.As(err, &said) {
				wait = max(wait, said.After)
			}
			fails++
			p.Log.Error("requests are not planned", "err", err, "again", wait)
		} else {
			fails = 0
		}

		if !p.await(ctx, wait, fails > 0) {
			return
		}
	}
}

// repo is what of the repo makes another round worthwhile.
func (p *Planner) repo(base string) string {
	if p.Branches == nil {
		return base
	}
	return base + " " + p.Branches()
}

// await waits until there is a reason to ask the forge; false when ctx ended. A look at the repo is one only when another commit
// is deployed since, or a branch moved: a server that polls looks every half a minute.
func (p *Planner) await(ctx context.Context, wait time.Duration, isRefused bool) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()

	// While the forge refuses, a crowd of deliveries does not have it asked again and again.
	changed, looked := p.Changed, p.Looked
	if isRefused {
		changed, looked = nil, nil
	}

	for {
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
			return true
		case <-changed:
			sleep(ctx, between)
			return ctx.Err() == nil
		case <-looked:
			if base, err := p.Base(); err == nil && p.repo(base) == p.seen {
				continue
			}
			sleep(ctx, between)
			return ctx.Err() == nil
		}
	}
}

// plansMark is the mark of a planner.
func plansMark(c *Client) string { return "forge-plans " + c.Name() }

// round plans requests until each has its comment. After each plan the forge is asked again, so that a head that was pushed
// meanwhile takes the place of the one that waited.
func (p *Planner) round(ctx context.Context) error {
	tried := map[string]bool{}
	for ctx.Err() == nil {
		base, err := p.Base()
		if err != nil {
			return err
		}
		if p.seen = p.repo(base); base == "" {
			return nil
		}
		requests, isAll, err := p.Client.Requests(ctx, p.Branch, p.Forks)
		if err != nil {
			return err
		}
		mark, err := p.mark(ctx)
		if err != nil {
			return err
		}
		isFull, err := p.isFull(ctx, len(requests))
		if err != nil {
			return err
		}

		next := -1
		for i, r := range requests {
			was := mark[strconv.Itoa(r.Number)]
			isDone := was.Head == r.Head && was.Base == base && was.Full == isFull
			key := fmt.Sprint(r.Number, r.Head, base)
			if !isDone && !tried[key] && !p.waits.has(r, time.Now()) {
				tried[key] = true
				next = i
				break
			}
		}
		if next < 0 && !isAll {
			return nil // one that is not listed may be open all the same
		}
		if next < 0 {
			return p.forget(ctx, mark, requests)
		}
		if err := p.tell(ctx, requests[next], base, isFull, mark); err != nil {
			return err
		}
	}

	return nil
}

func (p *Planner) isFull(ctx context.Context, requests int) (bool, error) {
	if p.IsFull != nil || requests == 0 {
		return p.IsFull != nil && *p.IsFull, nil
	}
	isPublic, err := p.Client.IsPublic(ctx)
	return !isPublic, err
}

// tell plans one request, and has its comment say so. A head that can't be planned is told of in the log, and waits for the
// next round, or longer when it is of a fork.
func (p *Planner) tell(ctx context.Context, r Request, base string, isFull bool, mark map[string]planned) error {
	planning, cancel := context.WithTimeout(ctx, p.planTime())
	defer cancel()
	plan, err := p.Plan(planning, r, base, isFull)
	if err != nil {
		if ctx.Err() == nil {
			p.waits.add(r, time.Now())
			p.Log.Warn("request is not planned", "request", r.Number, "commit", r.Head, "err", err)
		}
		return nil
	}

	key := strconv.Itoa(r.Number)
	id, err := p.Client.Comment(ctx, r.Number, mark[key].Comment, plan.Marker, plan.Text)
	var said *rest.Error
	if errors.As(err, &said) && said.IsOfOneCommit() {
		p.waits.add(r, time.Now())
		p.Log.Error("request is planned, and has no comment", "request", r.Number, "err", err)
		return nil
	}
	if isNotOurs(err) { // whoever opened it may have blocked us; the others have their turn in the next round
		p.waits.add(r, time.Now())
	}
	if err != nil {
		return fmt.Errorf("comment on request %d: %w", r.Number, err)
	}

	p.Log.Info("request planned", "request", r.Number, "commit", r.Head, "digest", plan.Digest)
	mark[key] = planned{Head: r.Head, Base: base, Full: isFull, Comment: id, Digest: plan.Digest}
	if plan.Again != "" {
		p.waits.addAny(r, time.Now())
		mark[key] = planned{Comment: id}
		p.Log.Warn("request is planned in part, and is planned again later", "request", r.Number, "commit", r.Head, "cause", plan.Again)
	}
	return p.remember(ctx, mark)
}

func (p *Planner) mark(ctx context.Context) (map[string]planned, error) {
	return plansOf(ctx, p.Client, p.Marks)
}

// plansOf are the requests that were planned, by number.
func plansOf(ctx context.Context, c *Client, m Marks) (map[string]planned, error) {
	marks, err := m.Marks(ctx)
	if err != nil {
		return nil, err
	}

	all := map[string]planned{}
	for number, text := range marks[plansMark(c)].Told {
		var one planned
		if json.Unmarshal([]byte(text), &one) == nil { // what a later release wrote is planned again
			all[number] = one
		}
	}

	return all, nil
}

func (p *Planner) remember(ctx context.Context, mark map[string]planned) error {
	told := map[string]string{}
	for number, one := range mark {
		text, err := json.Marshal(one)
		if err != nil {
			return err
		}
		told[number] = string(text)
	}

	return p.Marks.SetMark(ctx, plansMark(p.Client), outbox.Mark{Seq: 1, At: time.Now(), Told: told})
}

// forget notes which requests are not open any more, and drops those of old times.
func (p *Planner) forget(ctx context.Context, mark map[string]planned, open []Request) error {
	isOpen, isChanged := map[string]bool{}, false
	for _, r := range open {
		isOpen[strconv.Itoa(r.Number)] = true
	}

	for number, one := range mark {
		switch {
		case isOpen[number]:
		case one.Closed.IsZero():
			one.Closed, isChanged = time.Now().UTC(), true
			mark[number] = one
		case time.Since(one.Closed) > keepClosed:
			delete(mark, number)
			isChanged = true
		}
	}

	if !isChanged {
		return nil
	}

	return p.remember(ctx, mark)
}

// ReadComments reads --plan-comments. isOn is false when there are to be none; isFull is nil where the forge decides.
func ReadComments(value string) (isOn bool, isFull *bool, err error) {
	switch value {
	case "":
		return true, nil, nil
	case "full":
		return true, new(true), nil
	case "summary":
		return true, new(false), nil
	case "off":
		return false, nil, nil
	}
	return false, nil, fmt.Errorf("read --plan-comments %s: want full, summary or off", value)
}
