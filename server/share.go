package server

import (
	"context"
	"sync"
	"time"
)

// A share divides a number of places among those who want one: so many for each of them, and
// some that only the trusted may take, so that a stranger who takes all he can get leaves room
// for those who authenticated.
type share[K comparable] struct {
	total   int // places
	each    int // for one K; 0: no limit
	reserve int // of total, for the trusted

	mu        sync.Mutex
	taken     map[K]int
	used      int
	untrusted int           // of used, by those who are not trusted
	freed     chan struct{} // closed, and made anew, when a place is given back
}

func newShare[K comparable](total, each, reserve int) *share[K] {
	return &share[K]{total: total, each: each, reserve: reserve, taken: map[K]int{}, freed: make(chan struct{})}
}

// A claim is who wants a place.
type claim[K comparable] struct {
	of      K
	trusted bool // may take of the reserve
	many    bool // speaks for many: the limit for each does not hold
}

// take takes a place, and waits for one so long. give gives it back, and must be called when ok.
func (s *share[K]) take(ctx context.Context, c claim[K], wait time.Duration) (give func(), ok bool) {
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
func (s *share[K]) try(c claim[K]) (give func(), freed <-chan struct{}, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()

	full := s.used >= s.total
	hasItsShare := s.each > 0 && !c.many && s.taken[c.of] >= s.each
	reserved := !c.trusted && s.untrusted >= s.total-s.reserve
	if full || hasItsShare || reserved {
		return nil, s.freed, false
	}

	s.used++
	s.taken[c.of]++
	if !c.trusted {
		s.untrusted++
	}
	return sync.OnceFunc(func() { s.give(c) }), nil, true
}

func (s *share[K]) give(c claim[K]) {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.used--
	if s.taken[c.of]--; s.taken[c.of] == 0 {
		delete(s.taken, c.of)
	}
	if !c.trusted {
		s.untrusted--
	}
	close(s.freed)
	s.freed = make(chan struct{})
}
