package deploy

import (
	"time"

	"bellhop/deploy/hosts"
	"bellhop/internal/history"
)

// A server asks for a run by itself when a host is to be tried again. A command does not: its process
// ends with its run.

// retries ask for runs as long as lines are kept.
type retries struct {
	lines   *lineSet
	hosts   *hosts.Table
	history *history.DB
	bell    *bellRef
	wait    time.Duration // unit of the waits for a host that can't be pushed
}

func (d *Deployer) retries() retries {
	return retries{lines: &d.lines, hosts: &d.hosts, history: d.History, bell: &d.bell, wait: d.limits().Retry}
}

// When a host that answers but can't be pushed is tried again, in units of retries.wait. A host that
// does not answer needs no timer: its line rings when it is back.
const (
	retryFirst = 30
	retryLast  = 600
)

// laterOf asks for a run when the hosts of p that were not confirmed may be tried again.
func (r retries) laterOf(p *Plan) {
	for _, hp := range p.Hosts {
		if !hp.Later.IsZero() {
			r.ringAt(hp.Name, hp.Later)
		}
	}
}

// ringAt asks for a run at that time, where a server runs, unless one is asked for already.
func (r retries) ringAt(host string, at time.Time) {
	life := r.lines.lifetime()
	if life == nil || !r.hosts.SetRing(host, at) {
		return
	}

	time.AfterFunc(time.Until(at), func() {
		if life.Err() == nil {
			r.bell.ring(host + " was not confirmed")
		}
	})
}

// unreached schedules another try of a host.
func (r retries) unreached(host string) {
	life := r.lines.lifetime()
	if life == nil {
		return
	}

	n := r.hosts.Unreached(host)
	wait := r.wait * time.Duration(min(retryFirst<<min(n, 8), retryLast))
	time.AfterFunc(wait, func() {
		if r.hosts.Away(host) && r.lines.has(host) { // its line rings when it is back
			return
		}
		h, known := r.history.Host(host)
		if life.Err() == nil && known && h.IsUnheard() {
			r.bell.ring("retry of " + host)
		}
	})
}
