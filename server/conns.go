package server

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"
)

// Connections are a budget like any other: so many in all, so many for each address (or user of
// a socket), and some that only the trusted may take. A newcomer is not refused as long as
// somebody holds a connection for nothing: when there is no room, the oldest idle connection of
// whoever has the most is closed.

// A phase is what a connection is at.
type phase int

const (
	phaseIdle    phase = iota // no request, or not the whole head of one
	phaseReading              // of a request whose sender is not known yet
	phaseTrusted              // its sender is known: it is never closed for others
)

// A connTable is the connections of one listener, by whom they are counted against.
type connTable[K comparable] struct {
	total, each, reserve int
	claim                func(net.Conn) claim[K]
	trusts               func(K) bool   // whether one is trusted by now
	unheard              func(net.Conn) // told of a connection that ended before its first request; nil: nobody

	mu   sync.Mutex
	open map[K]*holder
}

// A holder is whoever holds connections.
type holder struct {
	many  bool // speaks for many
	conns map[*tracked]bool
}

// A tracked is one connection in a table.
type tracked struct {
	net.Conn
	leave func()

	mu       sync.Mutex
	phase    phase
	since    time.Time // of phase
	requests int
}

// Listen returns a listener whose connections the table counts, beside those of its other ones.
func (t *connTable[K]) Listen(l net.Listener) net.Listener {
	t.mu.Lock()
	defer t.mu.Unlock()

	if t.open == nil {
		t.open = map[K]*holder{}
	}
	return &countedListener[K]{l, t}
}

type countedListener[K comparable] struct {
	net.Listener
	table *connTable[K]
}

// Accept returns the next connection that there is room for.
func (l *countedListener[K]) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if one := l.table.enter(c); one != nil {
			return one, nil
		}
		c.Close()
	}
}

// enter counts a connection; nil says that there is no room for it.
func (t *connTable[K]) enter(c net.Conn) *tracked {
	who := t.claim(c)

	t.mu.Lock()
	victim, ok := t.makeRoom(who)
	if !ok {
		t.mu.Unlock()
		return nil
	}

	one := &tracked{Conn: c, since: time.Now()}
	one.leave = sync.OnceFunc(func() { t.left(who.of, one) })
	if t.open[who.of] == nil {
		t.open[who.of] = &holder{who.many, map[*tracked]bool{}}
	}
	t.open[who.of].conns[one] = true
	t.mu.Unlock()

	if victim != nil {
		victim.Close()
	}
	return one
}

func (t *connTable[K]) left(of K, one *tracked) {
	t.mu.Lock()
	t.remove(of, one)
	t.mu.Unlock()

	if t.unheard != nil && one.heard() == 0 {
		t.unheard(one.Conn)
	}
}

// remove is called under mu.
func (t *connTable[K]) remove(of K, one *tracked) {
	h := t.open[of]
	if h == nil {
		return
	}
	delete(h.conns, one)
	if len(h.conns) == 0 {
		delete(t.open, of)
	}
}

// makeRoom says whether one more may enter, and which connection is to be closed for it. It is
// called under mu.
func (t *connTable[K]) makeRoom(who claim[K]) (victim *tracked, ok bool) {
	limited := !who.trusted && !who.many
	if h := t.open[who.of]; limited && h != nil && len(h.conns) >= t.each {
		victim = h.oldest()
		if victim != nil {
			t.remove(who.of, victim)
		}
		return victim, victim != nil
	}

	all, strangers := t.count()
	reserved := !who.trusted && !who.many && strangers >= t.total-t.reserve
	if all < t.total && !reserved {
		return nil, true
	}
	return t.evict(who)
}

// count counts the connections, and those of them whose owner is not trusted.
func (t *connTable[K]) count() (all, strangers int) {
	for k, h := range t.open {
		all += len(h.conns)
		if !h.many && !t.trusts(k) {
			strangers += len(h.conns)
		}
	}
	return all, strangers
}

// evict finds the connection that is to be closed: of whoever is not trusted and has the most
// connections, else, for one who is trusted, of whoever has the most.
func (t *connTable[K]) evict(who claim[K]) (victim *tracked, ok bool) {
	of, victim := t.fullest(false)
	if victim == nil && (who.trusted || who.many) {
		of, victim = t.fullest(true)
	}
	if victim != nil {
		t.remove(of, victim)
	}
	return victim, victim != nil
}

// fullest is the oldest connection that may be closed of whoever has the most.
func (t *connTable[K]) fullest(trusted bool) (of K, victim *tracked) {
	most := 0
	for k, h := range t.open {
		isTrusted := h.many || t.trusts(k)
		if len(h.conns) <= most || isTrusted != trusted {
			continue
		}
		if v := h.oldest(); v != nil {
			of, victim, most = k, v, len(h.conns)
		}
	}
	return of, victim
}

// oldest is the connection that was idle for longest, else the one whose request is being read
// for longest; nil when all are trusted.
func (h *holder) oldest() (victim *tracked) {
	var worst phase
	var since time.Time
	for one := range h.conns {
		p, at := one.at()
		switch {
		case p == phaseTrusted:
		case victim == nil, p < worst, p == worst && at.Before(since):
			victim, worst, since = one, p, at
		}
	}
	return victim
}

func (c *tracked) at() (phase, time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.phase, c.since
}

func (c *tracked) heard() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.requests
}

func (c *tracked) enterPhase(p phase) {
	c.mu.Lock()
	defer c.mu.Unlock()

	if p == phaseReading {
		c.requests++
	}
	if c.phase != p {
		c.phase, c.since = p, time.Now()
	}
}

// Close closes the connection and gives its place back.
func (c *tracked) Close() error {
	defer c.leave()
	return c.Conn.Close()
}

// trackPhases lets a server tell the connections of its listener what they are at.
func trackPhases(h *http.Server) {
	next := h.Handler
	h.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		inPhase(r, phaseReading)
		defer inPhase(r, phaseIdle)
		next.ServeHTTP(w, r)
	})
	before := h.ConnContext
	h.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		if before != nil {
			ctx = before(ctx, c)
		}
		return context.WithValue(ctx, connKey{}, c)
	}
}

type connKey struct{}

// inPhase says what the request's connection is at. A request without one, as a test makes, has
// no phase.
func inPhase(r *http.Request, p phase) {
	if one, ok := r.Context().Value(connKey{}).(*tracked); ok {
		one.enterPhase(p)
	}
}
