package admission

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"time"
)

// A Limiter counts what ended without a right signature, per address and in all, per minute.
//
// Nobody is refused by a count alone: over the limit, only bodies that cost less to check than
// to refuse are read. So one who knows the secret is heard whatever others do from the same
// address.
//
// Its store is two rows of counters, found by hashing the address with a seed of this process;
// an address is over the limit when both of its counters are full. The store never grows and
// nothing is ever evicted from it, so that an attacker cannot push his own counter out by
// failing from elsewhere. What an attacker with many addresses can do is fill the rows; so an
// address that authenticated within a day is let through whatever the counters say.
type Limiter struct {
	perAddr, total int32
	now            func() time.Time

	mu     sync.Mutex
	minute int64
	all    int32
	rows   [2][4096]int32
	seeds  [2]maphash.Seed
	known  map[netip.Addr]time.Time // until when
}

// How many failures are counted before only what is cheap is read: of one address, and of all.
const (
	FailuresPerMinute    = 30
	AllFailuresPerMinute = 3000
	knownFor             = 24 * time.Hour
	mostKnown            = 1024
)

// NewLimiter returns a Limiter that knows nobody.
func NewLimiter() *Limiter {
	return &Limiter{
		perAddr: FailuresPerMinute, total: AllFailuresPerMinute, now: time.Now,
		seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()},
		known: map[netip.Addr]time.Time{},
	}
}

// Over says that a sender failed so often, or all did, that only what is cheap is read.
func (l *Limiter) Over(who Sender) bool {
	l.mu.Lock()
	defer l.mu.Unlock()

	l.turn()
	if l.isKnown(who) {
		return false
	}
	x, y := l.counters(who.Addr)
	failedOften := min(*x, *y) >= l.perAddr
	return l.all >= l.total || failedOften && !who.Shared
}

// Fail counts one against a sender.
func (l *Limiter) Fail(who Sender) {
	l.mu.Lock()
	defer l.mu.Unlock()

	l.turn()
	x, y := l.counters(who.Addr)
	*x++
	*y++
	l.all++
	if min(*x, *y) >= l.perAddr {
		delete(l.known, who.Addr) // behind one address both may sit: the count wins
	}
}

// Good remembers an address that knows the secret. One that many share is not remembered: others
// would be taken for it.
func (l *Limiter) Good(who Sender) {
	if who.Shared {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()

	now := l.now()
	if _, ok := l.known[who.Addr]; !ok && len(l.known) >= mostKnown {
		l.forget(now)
	}
	l.known[who.Addr] = now.Add(knownFor)
}

// forget makes room for one more known address.
func (l *Limiter) forget(now time.Time) {
	for a, until := range l.known {
		if now.After(until) || len(l.known) >= mostKnown {
			delete(l.known, a)
		}
	}
}

// Knows says that an address authenticated within a day.
func (l *Limiter) Knows(who Sender) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.isKnown(who)
}

func (l *Limiter) isKnown(who Sender) bool {
	until, ok := l.known[who.Addr]
	return ok && !who.Shared && l.now().Before(until)
}

// turn empties the counters when a new minute begins.
func (l *Limiter) turn() {
	if m := l.now().Unix() / 60; m != l.minute {
		l.minute, l.all = m, 0
		l.rows = [2][4096]int32{}
	}
}

func (l *Limiter) counters(a netip.Addr) (x, y *int32) {
	b := a.As16()
	return &l.rows[0][maphash.Bytes(l.seeds[0], b[:])%4096], &l.rows[1][maphash.Bytes(l.seeds[1], b[:])%4096]
}
