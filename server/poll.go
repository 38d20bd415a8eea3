package server

import (
	"context"
	"fmt"
	"time"
)

// Polling covers for a webhook that does not come. It is frequent until the webhook proved
// itself: until two pushes were announced by a delivery before a poll found them. A push that a
// poll finds and that no delivery announced makes it frequent again.

const (
	provenAfter = 2
	slowPoll    = 10 * time.Minute
	// lateBy is how much later than the poll that found a push its delivery may come and still
	// show that the webhook works.
	lateBy = time.Minute
)

// A pace is how often to poll, and why.
type pace struct {
	every  time.Duration // as configured; 0: never
	byHand bool          // every was chosen, and stays

	proofs int // pushes in a row that were announced
	missed miss
}

// A miss is a push that no delivery announced.
type miss struct {
	commit string // "": none
	proofs int    // there were before it
}

// prove counts one push that a delivery announced.
func (p *pace) prove() {
	p.proofs++
	p.missed = miss{}
}

// miss notes that a poll found a head that no delivery announced.
func (p *pace) miss(commit string) {
	p.missed = miss{commit, p.proofs}
	p.proofs = 0
}

// forgive takes the miss of a head back, when its delivery was only a little late.
func (p *pace) forgive(h head) {
	if time.Since(h.foundAt) <= lateBy {
		p.proofs, p.missed = p.missed.proofs, miss{}
	}
}

// interval is how often to poll, and why.
func (p *pace) interval() (every time.Duration, reason string) {
	switch {
	case p.every <= 0:
		return 0, "--poll 0: nothing is polled"
	case p.byHand:
		return p.every, "set by --poll"
	case p.proofs >= provenAfter:
		return max(p.every, slowPoll), "the webhook announces pushes"
	case p.missed.commit != "":
		return p.every, fmt.Sprintf("commit %.10s came without a delivery: does the webhook reach this server?", p.missed.commit)
	}
	return p.every, fmt.Sprintf("the webhook has announced %d of the %d pushes after which polls become rare", p.proofs, provenAfter)
}

// Interval is how often the remote is polled now, 0 for never, and why.
func (s *Server) Interval() (every time.Duration, reason string) {
	s.awaited.mu.Lock()
	defer s.awaited.mu.Unlock()
	return s.awaited.pace.interval()
}

// Looked tells the server what a look at the remote found the branch at: "" when the look failed.
// byClock says that nothing but the clock made it.
func (s *Server) Looked(ctx context.Context, commit string, byClock bool) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	s.awaited.looked(ctx, commit, byClock)
	s.paced.tell()
}

// Poll rings every so often, so that a webhook that never came costs time alone, until ctx ends.
// byHand says that every was chosen, and is not changed.
func (s *Server) Poll(ctx context.Context, every time.Duration, byHand bool) {
	s.awaited.mu.Lock()
	s.awaited.pace.every, s.awaited.pace.byHand = every, byHand
	s.awaited.mu.Unlock()

	for last := time.Now(); ; {
		var alarm <-chan time.Time
		if every, _ := s.Interval(); every > 0 {
			alarm = time.After(time.Until(last.Add(every + s.cfg.Jitter(every/10))))
		}
		select {
		case <-ctx.Done():
			return
		case <-s.paced:
		case <-alarm:
			last = time.Now()
			s.count.polls.Add(1)
			s.cfg.Bell.Poll("poll")
		}
	}
}
