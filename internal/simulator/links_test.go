package simulator

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"time"

	"bellhop/deploy/routes"
	"bellhop/internal/link"
)

// How a bellhop gets connections to hosts.

// links is how one bellhop reaches hosts, until it is dead.
type links struct {
	w    *world
	life *life
}

func unreachable(h *host, text string) error {
	return &link.Error{Host: h.name, Kind: link.ErrUnreachable, Err: errors.New(text)}
}

// dial reaches a host for a run, or finds out that it does not answer.
func (l links) dial(ctx context.Context, h *host) (*connection, error) {
	l.w.mu.Lock()
	h.connections++
	c := &connection{h: h, n: h.connections, gone: make(chan struct{})}
	l.w.mu.Unlock()

	return l.reach(ctx, c, h.chance("dial", c.n), h.skew(c.n))
}

// dialToWatch does it for who waits until a host comes or goes: that one is counted by itself, since a run may
// dial at the very same instant.
func (l links) dialToWatch(ctx context.Context, h *host) (*connection, error) {
	if l.w.rules <= byRunID {
		return l.dial(ctx, h)
	}
	l.w.mu.Lock()
	h.watches++
	n := h.watches
	l.w.mu.Unlock()

	apart := hostCount * 64 * 127 * time.Nanosecond // from the instants of all dials of runs
	return l.reach(ctx, &connection{h: h, gone: make(chan struct{})}, h.chance("watch", n), h.skew(n)+apart)
}

func (l links) reach(ctx context.Context, c *connection, rng *rand.Rand, skew time.Duration) (*connection, error) {
	h := c.h
	wait := time.Duration(1+rng.IntN(30))*time.Millisecond + skew
	hangs, fails := rng.IntN(3) == 0, rng.IntN(16) == 0
	if !sleep(ctx, wait) {
		return nil, context.Cause(ctx)
	}
	l.w.mu.Lock()
	answers := h.answers() && !(fails && !l.w.isCalm)
	l.w.mu.Unlock()
	if !answers && hangs { // packets are sent again meanwhile
		within, cancel := context.WithTimeout(ctx, 10*time.Second)
		answers = h.until(within, true) == nil
		cancel()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}

	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	if !answers || !h.answers() || l.life.isDead() {
		return nil, unreachable(h, "no answer")
	}
	c.in, c.toHost = io.Pipe()
	c.answer, c.out = io.Pipe()
	h.open[c] = true
	return c, nil
}

func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

func (l links) Helper(ctx context.Context, t link.Target, first func(io.Writer) error) (routes.Stream, error) {
	c, err := l.dial(ctx, l.w.named(t.Name))
	if err != nil {
		return nil, err
	}
	var ahead bytes.Buffer
	if first != nil {
		if err := first(&ahead); err != nil {
			c.cut()
			return nil, err
		}
	}
	go func() {
		defer l.w.closed(c)
		err := c.serve(io.MultiReader(&ahead, c.in), first != nil)
		select { // the other side reads what was said to its end
		case <-c.gone:
		default:
			c.out.CloseWithError(err)
			c.in.CloseWithError(io.ErrClosedPipe)
		}
	}()
	return c, nil
}

func (l links) FreshHelper(ctx context.Context, t link.Target, first func(io.Writer) error) (routes.Stream, error) {
	return l.Helper(ctx, t, first)
}

func (l links) Fresh(ctx context.Context, t link.Target) error {
	c, err := l.dial(ctx, l.w.named(t.Name))
	if err == nil {
		c.cut()
		l.w.closed(c)
	}
	return err
}

func (l links) Exec(context.Context, link.Target, string) (int, error) { return 0, nil }

// stands calls watch.Up until it is content, and returns when the line of who watches ends.
func (l links) stands(ctx context.Context, h *host, watch link.Watcher) {
	up, done := context.WithCancel(ctx)
	defer done()
	if l.w.rules <= beforeKeys { // a line whose host comes back at once does not end, and Up is called without one
		for err := watch.Up(up); err != nil && sleep(ctx, 10*time.Second); {
			err = watch.Up(up)
		}
		h.until(ctx, false)
		return
	}

	l.w.mu.Lock()
	cuts := h.cuts
	l.w.mu.Unlock()
	go func() {
		h.untilCut(up, cuts)
		done()
	}()
	for err := watch.Up(up); err != nil && sleep(up, 10*time.Second); {
		err = watch.Up(up)
	}
	<-up.Done()
}

// Watch waits until the host answers, and then until it does not.
func (l links) Watch(ctx context.Context, t link.Target, watch link.Watcher) error {
	h := l.w.named(t.Name)
	if *withSteps {
		l.w.trace.add(h.name, "  a line to %s is kept", t.Name)
		defer func() { l.w.trace.add(h.name, "  no line to %s is kept any more: %v", t.Name, context.Cause(ctx)) }()
	}
	for n := 0; ; n++ {
		c, err := l.dialToWatch(ctx, h)
		if err == nil {
			c.cut()
			l.w.closed(c)
			l.stands(ctx, h, watch)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err == nil {
			err = unreachable(h, "it went away")
		}
		if watch.Down != nil {
			watch.Down(ctx, err)
		}
		if !sleep(ctx, time.Second+h.skew(n)) || h.until(ctx, true) != nil {
			return context.Cause(ctx)
		}
	}
}
