package admission

import (
	"context"
	"sync"
	"time"
)

// A Share divides a number of places among those who want one: so many for each of them, and
// some that only the trusted may take, so that a stranger who takes all he can get leaves room
// for those who authenticated.
type Share[K comparable] struct {
	total   int // places
	each    int // for one K; 0: no limit
	reserve int // of total, for the trusted

	mu        sync.Mutex
	taken     map[K]int
	used      int
	untrusted int           // of used, by those who are not trusted
	freed     chan struct{} // closed, and made anew, when a place is given back
}

// NewShare returns a Share of so many places, with so many for each at most, and a reserve for the trusted.
func NewShare[K comparable](total, each, reserve int) *Share[K] {
	return &Share[K]{total: total, each: each, reserve: reserve, taken: map[K]int{}, freed: make(chan struct{})}
}

// A Claim is who wants a place.
type Claim[K comparable] struct {
	Of      K
	Trusted bool // may take of the reserve
	Many    bool // speaks for many: the limit for each does not hold
}

// Take takes a place, and waits for one so long. give gives it back, and must be called when ok.
func (s *Share[K]) Take(ctx context.Context, c Claim[K], wait time.Duration) (give func(), ok bool) {
	give, freed, ok := s.try(c)
	if ok || wait <= 0 {
		return give, ok
	}

	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case <-freed:
		case <-timer.C:
			return nil, false
		case <-ctx.Done():
			return nil, false
		}
		if give, freed, ok = s.try(c); ok {
			return give, true
		}
	}
}

// try takes a place that is free now; else freed is closed when it is worth to try again.
func (s *Share[K]) try(c Claim[K]) (give func(), freed <-chan struct{}, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()

	full := s.used >= s.total
	hasItsShare := s.each > 0 && !c.Many && s.taken[c.Of] >= s.each
	reserved := !c.Trusted && s.untrusted >= s.total-s.reserve
	if full || hasItsShare || reserved {
		return nil, s.freed, false
	}

	s.used++
	s.taken[c.Of]++
	if !c.Trusted {
		s.untrusted++
	}
	return sync.OnceFunc(func() { s.give(c) }), nil, true
}

func (s *Share[K]) give(c Claim[K]) {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.used--
	if s.taken[c.Of]--; s.taken[c.Of] == 0 {
		delete(s.taken, c.Of)
	}
	if !c.Trusted {
		s.untrusted--
	}
	close(s.freed)
	s.freed = make(chan struct{})
}

// InUse is how many places are taken.
func (s *Share[K]) InUse() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used
}
