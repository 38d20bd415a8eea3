package link

import (
	"context"
	"errors"
	"time"
)

// How a watch tries again after the line broke: soon, then often while the host may be
// rebooting, then seldom. Always by a real login, since sshd punishes bare probes.
const (
	watchFirst   = 200 * time.Millisecond
	watchOften   = 2 * time.Second
	watchSeldom  = 30 * time.Second
	watchPatient = 10 * time.Minute
	watchTry     = 3 * time.Second // for a dial and for a handshake, while it tries often
)

// backoff is how long to wait before try n (from 1) of a host that is away for that long.
func backoff(n int, away time.Duration) time.Duration {
	if away >= watchPatient {
		return watchSeldom
	}

	if n > 4 {
		return watchOften
	}

	return watchFirst << (n - 1)
}

// A Watcher is called when a watched connection opens and breaks. Down may be nil.
type Watcher struct {
	// Up is called each time a connection was opened: at the start, after
	// a reboot, after a cut. Its context ends with that connection. While it returns an error it
	// is called again, spaced like redials.
	Up func(ctx context.Context) error
	// Down is called after each try that ended without a connection, and when one broke.
	Down func(ctx context.Context, err error)
}

// Watch keeps a connection to t until ctx ends, and calls w when it opens and breaks. Watch returns when ctx ends, or with a *HostKeyError, since no retry helps there.
//
// A login that works does not prove that the host has rebooted, nor a refused one that it
// will stay so: sshd lets in during shutdown, and refuses users other than root early in a boot.
func (p *Pool) Watch(ctx context.Context, t Target, w Watcher) error {
	e := p.entry(t.Name)
	p.addWatch(e, 1)
	defer p.addWatch(e, -1)
	since := time.Now()
	for n := 1; ; n++ {
		stood, err := p.watchOnce(ctx, t, limitsFor(p.cfg, time.Since(since)), w.Up)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if w.Down != nil {
			w.Down(ctx, err)
		}
		if HardStop(err) {
			return err
		}
		if stood {
			n, since = 1, time.Now()
		}
		wait := backoff(n, time.Since(since))
		if errors.Is(err, ErrAuth) {
			wait = max(wait, watchOften) // each refusal counts against us (PerSourcePenalties)
		}
		p.cfg.Log.Debug("line is down", "host", t.Name, "err", err, "again_in", wait)
		if err := sleep(ctx, jitter(wait)); err != nil {
			return err
		}
	}
}

func (p *Pool) addWatch(e *entry, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e.watch += n
}

// limitsFor are short while a host may be rebooting: a packet sent into the dark is not
// sent again for seconds, so a new try finds it sooner.
func limitsFor(cfg Config, away time.Duration) limits {
	lim := limits{cfg.DialTimeout, cfg.HandshakeTimeout}
	if away < watchPatient {
		lim.dial, lim.handshake = min(lim.dial, watchTry), min(lim.handshake, watchTry+time.Second)
	}

	return lim
}

// watchOnce makes sure of a connection, calls up until it is content, and waits for the
// end. stood says that up returned no error.
func (p *Pool) watchOnce(ctx context.Context, t Target, lim limits, up func(context.Context) error) (stood bool, err error) {
	c, _, err := p.getWithin(ctx, t, lim)
	if err != nil {
		return false, err
	}

	c.release() // being watched keeps it; only sessions hold it
	if err := p.content(ctx, c, up); err != nil {
		return false, err
	}

	select {
	case <-c.down:
		return true, &Error{t.Name, ErrLost, c.why}
	case <-ctx.Done():
		return true, context.Cause(ctx)
	}
}

// content calls up until it returns no error, or the connection ends.
func (p *Pool) content(ctx context.Context, c *conn, up func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-c.down:
			cancel(&Error{c.target.Name, ErrLost, c.why})
		case <-ctx.Done():
		}
	}()
	began := time.Now()
	for n := 1; ; n++ {
		err := up(ctx)
		if err == nil || sleep(ctx, jitter(backoff(n, time.Since(began)))) != nil {
			return err
		}
	}
}
