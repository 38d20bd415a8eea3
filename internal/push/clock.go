package push

import (
	"context"
	"sync"
	"time"

	"bellhop/internal/bundle"
)

// A Clock is the time that one host has for a push, and ends the push when that is over. It stands
// still while the host waits for what its bundle asks for: the steps before services, and units that
// take their time to start. How long that may be follows from the bundle, so a host can't hold a
// push by saying that it waits. A nil Clock does nothing.
type Clock struct {
	began   time.Time
	timer   *time.Timer
	allowed map[string]time.Duration // what is left of the waits of a kind

	mu      sync.Mutex
	learn   func() *bundle.Manifest // see Learn
	left    time.Duration           // until the end, at since
	since   time.Time               // when what follows began
	kind    string                  // of the wait that the host is in; "": none
	stopped time.Duration           // that waits for steps took until since
}

// Kinds of waits.
const (
	waitSteps = "steps" // before services: not the host's fault
	waitUnits = "units"
	waitCopy  = "copy" // of the closure of a NixOS system: as long as the line takes
)

// maxCopy is how long the closure of a system may take to the host.
const maxCopy = 6 * time.Hour

// waitOf are the kinds of the steps of a host that are waits.
var waitOf = map[string]string{"before": waitSteps, "start": waitUnits, "health": waitUnits, "copy": waitCopy}

// margin is how much longer a wait may be than the host itself gives it.
const margin = time.Minute

// NewClock returns a context that ends, with the cause ErrDeadline, when a host with the manifest m
// had limit.
func NewClock(parent context.Context, limit time.Duration, m *bundle.Manifest) (context.Context, context.CancelFunc, *Clock) {
	ctx, cancel := context.WithCancelCause(parent)
	now := time.Now()
	c := &Clock{began: now, since: now, left: limit, allowed: map[string]time.Duration{waitUnits: bundle.MaxStart + margin, waitCopy: maxCopy}}
	c.allow(m)
	c.timer = time.AfterFunc(limit, func() { cancel(ErrDeadline) })
	return ctx, func() { c.timer.Stop(); cancel(nil) }, c
}

// Learn has c find out only when the host says that it is at steps before services how long those may
// take: for a run whose manifest is not at hand. f may take its time; nil from it allows nothing.
func (c *Clock) Learn(f func() *bundle.Manifest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.learn = f
}

// allow takes in how long the steps of m may take.
func (c *Clock) allow(m *bundle.Manifest) {
	if steps := LongestSteps(m); steps > 0 {
		c.allowed[waitSteps] = steps + margin
	}
}

// learnSteps is the question of Learn, asked once.
func (c *Clock) learnSteps() {
	f := c.learn
	if f == nil || c.kind != waitSteps {
		return
	}

	c.learn = nil
	go func() {
		m := f()
		c.mu.Lock()
		defer c.mu.Unlock()
		if m == nil {
			return
		}

		c.allow(m) // before the account: the time that the question took was the steps', too
		c.account(time.Now())
		if c.left+c.allowed[c.kind] > 0 {
			c.timer.Reset(c.left + c.allowed[c.kind])
		}
	}()
}

// LongestSteps is how long the steps before services may take: those of one service follow each
// other, services do not wait for others.
func LongestSteps(m *bundle.Manifest) (longest time.Duration) {
	for _, s := range m.Services {
		var all time.Duration
		for _, b := range s.Before {
			all += b.Limit()
		}
		longest = max(longest, all)
	}
	return longest
}

// step takes in that the host began a step.
func (c *Clock) step(name string) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()

	now := time.Now()
	c.account(now)
	c.kind = waitOf[name]
	c.learnSteps()
	c.timer.Reset(c.left + c.allowed[c.kind])
}

// account takes what passed since the last step from the host's time, or from that of its wait.
func (c *Clock) account(now time.Time) {
	took := now.Sub(c.since)
	waited := min(took, c.allowed[c.kind])
	c.since = now
	c.left -= took - waited
	if c.kind != "" {
		c.allowed[c.kind] -= waited
	}
	if c.kind == waitSteps {
		c.stopped += waited
	}
}

// Took is how long the push takes by now, without what the steps before services take: that long a
// host is slow.
func (c *Clock) Took() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	c.account(now)
	return now.Sub(c.began) - c.stopped
}
