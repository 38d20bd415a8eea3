package server

import (
	"container/list"
	"hash/maphash"
	"net/netip"
	"sync"
	"time"
)

// A limiter counts failed signatures per address and in all, per minute.
//
// Its store is two rows of counters, found by hashing the address with a seed of this
// process; an address is held off when both of its counters are full. The store never grows
// and nothing is ever evicted from it, so that an attacker cannot push his own counter out by
// failing from elsewhere. What an attacker with many addresses can do is fill the rows; so
// whoever was authenticated lately is let through whatever the counters say. Only those who
// know the secret get into that set. A loopback address is a proxy or a tunnel on this very
// machine, which speaks for the whole world: it is held off by the count of all alone, or one
// stranger's failures would lose GitHub's deliveries.
type limiter struct {
	perIP, total int32
	now          func() time.Time

	mu     sync.Mutex
	minute int64
	all    int32
	rows   [2][4096]int32
	seeds  [2]maphash.Seed
	known  map[netip.Addr]time.Time
}

const (
	failuresPerMinute    = 30
	allFailuresPerMinute = 3000
	knownFor             = time.Hour
	mostKnown            = 1024
)

func newLimiter() *limiter {
	return &limiter{
		perIP: failuresPerMinute, total: allFailuresPerMinute, now: time.Now,
		seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()},
		known: map[netip.Addr]time.Time{},
	}
}

// address is what is counted: an IPv4 address, or the /64 of an IPv6 one, which is what one
// customer has.
func address(remote string) netip.Addr {
	ap, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Addr{}
	}
	a := ap.Addr().Unmap().WithZone("")
	if a.Is6() {
		p, _ := a.Prefix(64)
		a = p.Addr()
	}
	return a
}

// allow says whether a request of that address is looked at.
func (l *limiter) allow(remote string) bool {
	a := address(remote)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.turn()
	if until, ok := l.known[a]; ok && l.now().Before(until) {
		return true
	}
	if l.all >= l.total {
		return false
	}
	x, y := l.counters(a)
	return a.IsLoopback() || min(*x, *y) < l.perIP
}

// fail counts one against that address.
func (l *limiter) fail(remote string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.turn()
	a := address(remote)
	x, y := l.counters(a)
	*x++
	*y++
	l.all++
	if min(*x, *y) >= l.perIP && !a.IsLoopback() {
		delete(l.known, a) // behind one proxy both may sit: the count wins
	}
}

// good remembers an address that knows the secret.
func (l *limiter) good(remote string) {
	a := address(remote)
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	if _, ok := l.known[a]; !ok && len(l.known) >= mostKnown {
		for k, until := range l.known {
			if now.After(until) || len(l.known) >= mostKnown {
				delete(l.known, k)
			}
		}
	}
	l.known[a] = now.Add(knownFor)
}

// turn empties the counters when a new minute begins.
func (l *limiter) turn() {
	if m := l.now().Unix() / 60; m != l.minute {
		l.minute, l.all = m, 0
		l.rows = [2][4096]int32{}
	}
}

func (l *limiter) counters(a netip.Addr) (x, y *int32) {
	b := a.As16()
	return &l.rows[0][maphash.Bytes(l.seeds[0], b[:])%4096], &l.rows[1][maphash.Bytes(l.seeds[1], b[:])%4096]
}

// seen remembers the ids of the newest deliveries, to tell a repeated one.
type seen struct {
	mu    sync.Mutex
	ids   map[string]bool
	order *list.List
}

const mostSeen = 10_000

func newSeen(ids []string) *seen {
	s := &seen{ids: map[string]bool{}, order: list.New()}
	for _, id := range ids {
		s.add(id)
	}
	return s
}

// add says whether id was there, and remembers it.
func (s *seen) add(id string) bool {
	if id == "" {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ids[id] {
		return true
	}
	s.ids[id] = true
	s.order.PushBack(id)
	if s.order.Len() > mostSeen {
		delete(s.ids, s.order.Remove(s.order.Front()).(string))
	}
	return false
}
