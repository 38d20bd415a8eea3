// Package lines keeps long-lived connections to hosts while a server runs: lines.
//
// There is one to each host that has keys, since a reboot empties the host's RAM, and to each host that
// could not be reached, to hear when it is back. Which lines are open is a level, not the result of a
// run: history says how each host was reached last, so lines are open before the first look at the repo,
// and while the repo is away, its head is refused, or runs are paused. A plan corrects them.
//
// A host that answers and can't be pushed has no line that would tell of it: Retries ask for a run after a
// while.
package lines

import (
	"context"
	"sync"

	"bellhop/deploy/routes"
	"bellhop/internal/link"
)

// A Set is the lines that are open, by host. The zero value keeps none until Start.
type Set struct {
	mu   sync.Mutex
	life context.Context // they all end with it; nil: none are kept
	open map[string]*line
}

// A line is one long-lived connection to a host.
type line struct {
	target link.Target
	ctx    context.Context
	cancel context.CancelFunc
	isUp   bool // a connection is open
}

// Start lets lines be opened, until ctx ends.
func (l *Set) Start(ctx context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()

	l.life = ctx
	if l.open == nil {
		l.open = map[string]*line{}
	}
}

// lifetime is the context that all lines end with; nil when none are kept.
func (l *Set) lifetime() context.Context {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.life
}

// Kept says that lines are kept now.
func (l *Set) Kept() bool {
	life := l.lifetime()
	return life != nil && life.Err() == nil
}

// Has says that the host's line is open.
func (l *Set) Has(host string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open[host] != nil
}

// setUp notes whether a connection is open now, and returns whether one was.
func (l *Set) setUp(host string, now bool) (was bool) {
	l.mu.Lock()
	defer l.mu.Unlock()

	one := l.open[host]
	if one == nil {
		return false
	}
	was, one.isUp = one.isUp, now
	return was
}

// IsUp says that a connection to the host is open.
func (l *Set) IsUp(host string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	one := l.open[host]
	return one != nil && one.isUp
}

// Awaits says that the host has a line which is down, and tells when the host is back.
func (l *Set) Awaits(host string) bool { return l.Has(host) && !l.IsUp(host) }

// Up lists the hosts to which a connection is open.
func (l *Set) Up() map[string]bool {
	l.mu.Lock()
	defer l.mu.Unlock()

	hosts := map[string]bool{}
	for host, one := range l.open {
		if one.isUp {
			hosts[host] = true
		}
	}
	return hosts
}

// keep opens the line to t's host, unless one by the same route is open, and runs watch on it.
func (l *Set) keep(t link.Target, watch func(ctx context.Context, t link.Target)) {
	l.mu.Lock()
	defer l.mu.Unlock()

	if l.life == nil {
		return
	}
	if one := l.open[t.Name]; one != nil {
		if routes.Same(one.target, t) && one.target.Keys == t.Keys {
			return
		}
		one.cancel()
	}

	ctx, cancel := context.WithCancel(l.life)
	l.open[t.Name] = &line{target: t, ctx: ctx, cancel: cancel}
	go watch(ctx, t)
}

// drop closes the host's line.
func (l *Set) drop(host string) {
	l.mu.Lock()
	defer l.mu.Unlock()

	if one := l.open[host]; one != nil {
		one.cancel()
		delete(l.open, host)
	}
}

// ended forgets the line whose context is ctx. Another may have taken its place meanwhile.
func (l *Set) ended(host string, ctx context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()

	if one := l.open[host]; one != nil && one.ctx == ctx {
		one.cancel()
		delete(l.open, host)
	}
}

// Stop closes every line, when the server ends.
func (l *Set) Stop() {
	l.mu.Lock()
	defer l.mu.Unlock()

	for _, one := range l.open {
		one.cancel()
	}
	clear(l.open)
}
