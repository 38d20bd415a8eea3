package admission

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
	PhaseReading              // of a request whose sender is not known yet
	PhaseTrusted              // its sender is known: it is never closed for others
)

// A ConnTable is the connections of one listener, by whom they are counted against.
type ConnTable[K comparable] struct {
	Total, Each, Reserve int
	Claim                func(net.Conn) Claim[K]
	Trusts               func(K) bool   // whether one is trusted by now
	Unheard              func(net.Conn) // told of a connection that ended before its first request; nil: nobody

	mu   sync.Mutex
	open map[K]*holder
}

// A holder is whoever holds connections.
type holder struct {
	many  bool // speaks for many
	conns map[*Tracked]bool
}

// A Tracked is one connection in a table.
type Tracked struct {
	net.Conn
	leave func()

	mu       sync.Mutex
	phase    phase
	since    time.Time // of phase
	requests int
}

// Listen returns a listener whose connections the table counts, beside those of its other ones.
func (t *ConnTable[K]) Listen(l net.Listener) net.Listener {
	t.mu.Lock()
	defer t.mu.Unlock()

	if t.open == nil {
		t.open = map[K]*holder{}
	}
	return &countedListener[K]{l, t}
}

type countedListener[K comparable] struct {
	net.Listener
	table *ConnTable[K]
}

// Accept returns the next connection that there is room for.
func (l *countedListener[K]) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if one := l.table.Enter(c); one != nil {
			return one, nil
		}
		c.Close()
	}
}

// Enter counts a connection; nil says that there is no room for it.
func (t *ConnTable[K]) Enter(c net.Conn) *Tracked {
	who := t.Claim(c)

	t.mu.Lock()
	victim, ok := t.makeRoom(who)
	if !ok {
		t.mu.Unlock()
		return nil
	}

	one := &Tracked{Conn: c, since: time.Now()}
	one.leave = sync.OnceFunc(func() { t.left(who.Of, one) })
	if t.open[who.Of] == nil {
		t.open[who.Of] = &holder{who.Many, map[*Tracked]bool{}}
	}
	t.open[who.Of].conns[one] = true
	t.mu.Unlock()

	if victim != nil {
		victim.Close()
	}
	return one
}

func (t *ConnTable[K]) left(of K, one *Tracked) {
	t.mu.Lock()
	t.remove(of, one)
	t.mu.Unlock()

	if t.Unheard != nil && one.heard() == 0 {
		t.Unheard(one.Conn)
	}
}

// remove is called under mu.
func (t *ConnTable[K]) remove(of K, one *Tracked) {
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
func (t *ConnTable[K]) makeRoom(who Claim[K]) (victim *Tracked, ok bool) {
	limited := !who.Trusted && !who.Many
	if h := t.open[who.Of]; limited && h != nil && len(h.conns) >= t.Each {
		victim = h.oldest()
		if victim != nil {
			t.remove(who.Of, victim)
		}
		return victim, victim != nil
	}

	all, strangers := t.Count()
	reserved := !who.Trusted && !who.Many && strangers >= t.Total-t.Reserve
	if all < t.Total && !reserved {
		return nil, true
	}
	return t.evict(who)
}

// Holders is how many hold connections.
func (t *ConnTable[K]) Holders() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.open)
}

// Count counts the connections, and those of them whose owner is not trusted.
func (t *ConnTable[K]) Count() (all, strangers int) {
	for k, h := range t.open {
		all += len(h.conns)
		if !h.many && !t.Trusts(k) {
			strangers += len(h.conns)
		}
	}
	return all, strangers
}

// evict finds the connection that is to be closed: of whoever is not trusted and has the most
// connections, else, for one who is trusted, of whoever has the most.
func (t *ConnTable[K]) evict(who Claim[K]) (victim *Tracked, ok bool) {
	of, victim := t.fullest(false)
	if victim == nil && (who.Trusted || who.Many) {
		of, victim = t.fullest(true)
	}
	if victim != nil {
		t.remove(of, victim)
	}
	return victim, victim != nil
}

// fullest is the oldest connection that may be closed of whoever has the most.
func (t *ConnTable[K]) fullest(trusted bool) (of K, victim *Tracked) {
	most := 0
	for k, h := range t.open {
		isTrusted := h.many || t.Trusts(k)
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
func (h *holder) oldest() (victim *Tracked) {
	var worst phase
	var since time.Time
	for one := range h.conns {
		p, at := one.at()
		switch {
		case p == PhaseTrusted:
		case victim == nil, p < worst, p == worst && at.Before(since):
			victim, worst, since = one, p, at
		}
	}
	return victim
}

func (c *Tracked) at() (phase, time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.phase, c.since
}

func (c *Tracked) heard() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.requests
}

func (c *Tracked) EnterPhase(p phase) {
	c.mu.Lock()
	defer c.mu.Unlock()

	if p == PhaseReading {
		c.requests++
	}
	if c.phase != p {
		c.phase, c.since = p, time.Now()
	}
}

// Close closes the connection and gives its place back.
func (c *Tracked) Close() error {
	defer c.leave()
	return c.Conn.Close()
}

// TrackPhases lets a server tell the connections of its listener what they are at.
func TrackPhases(h *http.Server) {
	next := h.Handler
	h.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		InPhase(r, PhaseReading)
		defer InPhase(r, phaseIdle)
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

// InPhase says what the request's connection is at. A request without one, as a test makes, has
// no phase.
func InPhase(r *http.Request, p phase) {
	if one, ok := r.Context().Value(connKey{}).(*Tracked); ok {
		one.EnterPhase(p)
	}
}
