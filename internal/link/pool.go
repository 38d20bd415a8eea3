package link

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"
)

// A Pool keeps one connection to each target. It is safe for concurrent use.
type Pool struct {
	cfg       Config
	dials     chan struct{} // a place for each handshake under way
	coalescer coalescer

	mu      sync.Mutex
	closed  bool
	entries map[string]*entry
	open    map[*conn]struct{}
	tend    chan struct{}      // nil: no one tends the connections, since there are none
	apart   map[*Pool]struct{} // those that FreshHelper made, while they have connections

	parent *Pool // that FreshHelper made this one for; nil: none
}

// An entry is what a pool knows of one target. It outlives the connection.
type entry struct {
	turn  chan struct{} // held by the one who dials
	n     *counters
	conn  *conn  // under Pool.mu, as the rest
	arch  string // learnt from the host
	watch int    // watches that want it kept
}

// NewPool returns a pool. It opens nothing until it is asked to.
func NewPool(cfg Config) *Pool {
	cfg = cfg.withDefaults()
	return &Pool{
		cfg:     cfg,
		dials:   make(chan struct{}, cfg.MaxDials),
		entries: map[string]*entry{},
		open:    map[*conn]struct{}{},
		apart:   map[*Pool]struct{}{},
	}
}

// Close closes every connection, and with them what still runs over them.
func (p *Pool) Close() error {
	p.mu.Lock()
	p.closed = true
	var all []*conn
	for c := range p.open {
		all = append(all, c)
	}
	apart := slices.Collect(maps.Keys(p.apart))
	p.mu.Unlock()

	for _, other := range apart {
		other.Close()
	}

	for _, c := range all {
		c.close(ErrClosed)
	}

	for _, c := range all {
		<-c.ended
	}

	return nil
}

// Stats counts what was done so far.
func (p *Pool) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := Stats{Open: len(p.open), Targets: make(map[string]TargetStats, len(p.entries))}
	for name, e := range p.entries {
		s.Targets[name] = e.n.read()
	}

	return s
}

// Drop closes the pooled connection to a host, if one is open.
func (p *Pool) Drop(name string) {
	p.mu.Lock()
	var c *conn
	if e := p.entries[name]; e != nil {
		c = e.conn
	}

	p.mu.Unlock()
	if c != nil {
		c.close(errors.New("dropped"))
	}
}

func (p *Pool) entry(name string) *entry {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.entries[name]
	if e == nil {
		e = &entry{turn: make(chan struct{}, 1), n: p.countersOf(name)}
		p.entries[name] = e
	}

	return e
}

// get returns a standing connection to t, held: the caller releases it.
func (p *Pool) get(ctx context.Context, t Target) (*conn, error) {
	c, _, err := p.getWithin(ctx, t, limits{p.cfg.DialTimeout, p.cfg.HandshakeTimeout})
	return c, err
}

// getWithin is get with limits of its own; pooled says that the connection was open before.
// One caller dials for a host at a time; the others wait for their turn and find it done.
func (p *Pool) getWithin(ctx context.Context, t Target, lim limits) (_ *conn, pooled bool, _ error) {
	e := p.entry(t.Name)
	if c, err := p.standing(e, t); c != nil || err != nil {
		return c, true, err
	}

	select {
	case e.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, false, &Error{t.Name, ErrUnreachable, context.Cause(ctx)}
	}
	defer func() { <-e.turn }()
	if c, err := p.standing(e, t); c != nil || err != nil {
		return c, true, err
	}

	c, err := p.connect(ctx, t, e.n, lim)
	if err != nil {
		return nil, false, err
	}

	return c, false, p.keep(e, t, c)
}

// standing returns the pooled connection, held, when it is open and was made for the same
// target; one that was made for another address, user or pin is closed. What runs over it ends
// first: two callers may know different addresses of one host while a push brings the new one.
func (p *Pool) standing(e *entry, t Target) (*conn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, &Error{t.Name, ErrClosed, nil}
	}

	c := e.conn
	if c == nil {
		return nil, nil
	}

	if c.isClosed() || !c.target.sameWay(t) {
		e.conn = nil
		c.retire()
		return nil, nil
	}

	c.hold()
	c.setKeys(t.Keys)
	wake(p.tend) // an idle one is looked at rarely; from now on its silence is noticed soon
	return c, nil
}

func (p *Pool) keep(e *entry, t Target, c *conn) error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		c.start()
		c.close(ErrClosed)
		return &Error{t.Name, ErrClosed, nil}
	}

	c.hold()
	c.setKeys(t.Keys)
	if p.parent != nil {
		c.retire()
	}
	e.conn = c
	p.open[c] = struct{}{}
	extra := p.excess()
	if p.tend == nil {
		p.tend = make(chan struct{}, 1)
		go p.tendConnections(p.tend)
	}

	wake(p.tend)
	p.mu.Unlock()
	c.start()
	for _, old := range extra {
		old.close(errors.New("other connections are used more"))
	}

	return nil
}

// excess lists the least recently used connections beyond the cap, of those that nobody uses.
func (p *Pool) excess() []*conn {
	over := len(p.open) - p.cfg.MaxConnections
	if over <= 0 {
		return nil
	}

	var idle []*conn
	for c := range p.open {
		e := p.entries[c.target.Name]
		isWatched := e != nil && e.conn == c && e.watch > 0
		if c.held.Load() == 0 && !isWatched {
			idle = append(idle, c)
		}
	}

	slices.SortFunc(idle, func(a, b *conn) int { return cmp.Compare(a.used.Load(), b.used.Load()) })
	return idle[:min(over, len(idle))]
}

// forget is called once by a connection that has ended.
func (p *Pool) forget(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, c)
	if e := p.entries[c.target.Name]; e != nil && e.conn == c {
		e.conn = nil
	}

	if len(p.open) > 0 {
		return
	}
	if p.tend != nil {
		close(p.tend)
		p.tend = nil
	}
	if p.parent != nil {
		go p.parent.forgetApart(p) // not under this pool's lock
	}
}

// sameWay says that a connection to t serves o too.
func (t Target) sameWay(o Target) bool {
	sameHost := slices.Equal(t.Addresses, o.Addresses) && slices.Equal(t.HostKeys, o.HostKeys)
	if !sameHost || t.user() != o.user() {
		return false
	}

	if t.Jump == nil || o.Jump == nil {
		return t.Jump == o.Jump
	}

	return t.Jump.Name == o.Jump.Name && t.Jump.sameWay(*o.Jump)
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// tendConnections asks silent hosts whether they are there, and closes what does not
// answer. One goroutine does it for all, and whole seconds at a time, so that an idle pool
// wakes the process seldom.
func (p *Pool) tendConnections(change <-chan struct{}) {
	t := time.NewTimer(0)
	defer t.Stop()
	for soon := false; ; {
		select {
		case _, ok := <-change:
			if !ok {
				return
			}
			if !soon { // a thousand new ones are one change
				soon = true
				t.Reset(time.Second)
			}
		case <-t.C:
			soon = false
			t.Reset(p.tendOnce(time.Now()))
		}
	}
}

// tendOnce returns how long to wait for the next round.
func (p *Pool) tendOnce(now time.Time) time.Duration {
	p.mu.Lock()
	all := make([]*conn, 0, len(p.open))
	for c := range p.open {
		all = append(all, c)
	}

	p.mu.Unlock()
	next := time.Hour
	budget := max(64, len(all)/4) // a thousand hosts are not asked in one breath
	for _, c := range all {
		wait, asked := c.tend(now, budget > 0)
		next = min(next, wait)
		if asked {
			budget--
		}
	}

	return max(next.Round(time.Second), time.Second)
}
