package lines

import (
	"time"

	"bellhop/deploy/hosts"
	"bellhop/deploy/plan"
	"bellhop/internal/history"
)

// A server asks for a run by itself when a host is to be tried again. A command does not: its process
// ends with its run.

// Retries ask for runs as long as lines are kept.
type Retries struct {
	Lines   *Set
	Hosts   *hosts.Table
	History *history.DB
	Ring    func(cause string)
	Wait    time.Duration // unit of the waits for a host that can't be pushed
}

// When a host that answers but can't be pushed is tried again, in units of Retries.Wait. A host that
// does not answer needs no timer: its line rings when it is back.
const (
	retryFirst = 30
	retryLast  = 600
)

// LaterOf asks for a run when the hosts of p that were not confirmed may be tried again.
func (r Retries) LaterOf(p *plan.Plan) {
	for _, hp := range p.Hosts {
		if !hp.TryAgainAt.IsZero() {
			r.RingAt(hp.Name, hp.TryAgainAt)
		}
	}
}

// RingAt asks for a run at that time, where a server runs, unless one is asked for already.
func (r Retries) RingAt(host string, at time.Time) {
	life := r.Lines.lifetime()
	if life == nil || !r.Hosts.SetRing(host, at) {
		return
	}

	time.AfterFunc(time.Until(at), func() {
		if life.Err() == nil {
			r.Ring(host + " was not confirmed")
		}
	})
}

// Unreached schedules another try of a host.
func (r Retries) Unreached(host string) {
	life := r.Lines.lifetime()
	if life == nil {
		return
	}

	n := r.Hosts.Unreached(host)
	wait := r.Wait * time.Duration(min(retryFirst<<min(n, 8), retryLast))
	time.AfterFunc(wait, func() {
		if r.Hosts.Away(host) && r.Lines.Awaits(host) { // its line rings when it is back
			return
		}
		h, known := r.History.Host(host)
		isWaiting := h.IsUnheard() || h.State == history.Failed // what stays open of a run before may be undone by now
		if life.Err() == nil && known && isWaiting {
			r.Ring("retry of " + host)
		}
	})
}
