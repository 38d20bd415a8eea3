package deploy

import (
	"context"
	"log/slog"
	"sync"

	"bellhop/deploy/routes"
	"bellhop/internal/history"
	"bellhop/internal/link"
)

// A server keeps one long-lived connection, a line, to each host that has keys, since a reboot
// empties the host's RAM, and to each host that could not be reached, to hear when it is back.
//
// Which lines are open is a level, not the result of a run: history says how each host was
// reached last, so lines are open before the first look at the repo, and while the repo is away,
// its head is refused, or runs are paused. A plan corrects them.

// A lineSet is the lines that are open, by host. The zero value keeps none until start.
type lineSet struct {
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

// start lets lines be opened, until ctx ends.
func (l *lineSet) start(ctx context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()

	l.life = ctx
	if l.open == nil {
		l.open = map[string]*line{}
	}
}

// lifetime is the context that all lines end with; nil when none are kept.
func (l *lineSet) lifetime() context.Context {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.life
}

// kept says that lines are kept now.
func (l *lineSet) kept() bool {
	life := l.lifetime()
	return life != nil && life.Err() == nil
}

// has says that the host's line is open.
func (l *lineSet) has(host string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open[host] != nil
}

// setUp notes whether a connection is open now, and returns whether one was.
func (l *lineSet) setUp(host string, now bool) (was bool) {
	l.mu.Lock()
	defer l.mu.Unlock()

	one := l.open[host]
	if one == nil {
		return false
	}
	was, one.isUp = one.isUp, now
	return was
}

// up lists the hosts to which a connection is open.
func (l *lineSet) up() map[string]bool {
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
func (l *lineSet) keep(t link.Target, watch func(ctx context.Context, t link.Target)) {
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
func (l *lineSet) drop(host string) {
	l.mu.Lock()
	defer l.mu.Unlock()

	if one := l.open[host]; one != nil {
		one.cancel()
		delete(l.open, host)
	}
}

// ended forgets the line whose context is ctx. Another may have taken its place meanwhile.
func (l *lineSet) ended(host string, ctx context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()

	if one := l.open[host]; one != nil && one.ctx == ctx {
		one.cancel()
		delete(l.open, host)
	}
}

// stop closes every line, when the server ends.
func (l *lineSet) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()

	for _, one := range l.open {
		one.cancel()
	}
	clear(l.open)
}

// Watch keeps lines to hosts from now on, until ctx ends: those that history asks for are opened
// at once, and hosts are looked at as often as the config wants. It returns at once.
func (d *Deployer) Watch(ctx context.Context) {
	d.lines.start(ctx)
	d.keeper().openKnown()
	d.Looker().Serve(ctx)
}

// Reachable says which hosts answer at this moment: those to which a long-lived connection is open.
func (d *Deployer) Reachable() map[string]bool { return d.lines.up() }

// A lineKeeper decides which lines are open, and does what is to be done when one comes up or goes down.
type lineKeeper struct {
	set     *lineSet
	links   routes.Links
	history *history.DB
	bell    *bellRef
	log     *slog.Logger

	// heal reads the host's own record, and after a reboot puts its keys back.
	heal func(ctx context.Context, host string, t link.Target) error
}

func (d *Deployer) keeper() lineKeeper {
	return lineKeeper{set: &d.lines, links: d.Links, history: d.History, bell: &d.bell, log: d.log(),
		heal: func(ctx context.Context, host string, t link.Target) error {
			_, err := d.Keys().Heal(ctx, host, t, false)
			return err
		},
	}
}

// openKnown opens those lines that history asks for and that are not open: by the route by
// which each host was reached last. A host that an earlier process was at work on is left alone until
// its run is settled.
func (k lineKeeper) openKnown() {
	if !k.set.kept() {
		return
	}

	hosts := k.history.Hosts()
	for name, h := range hosts {
		if k.set.has(name) || h.State == history.Released || h.State == history.Deploying {
			continue
		}
		if wantsLine(h, h.HasKeys()) {
			k.set.keep(routes.Remembered(name, hosts), k.watch)
		}
	}
}

// followPlan opens and drops lines as a plan that was just applied asks.
func (k lineKeeper) followPlan(p *Plan) {
	if !k.set.kept() {
		return
	}

	for _, hp := range p.Hosts {
		h, ok := k.history.Host(hp.Name)
		if !ok || hp.Bundle == nil {
			continue // a refused host keeps the line that it has
		}
		keys := len(hp.Bundle.Keys) > 0 || h.HasKeys()
		if wantsLine(h, keys) {
			k.set.keep(routes.To(p.Fleet, hp.Host, h.Arch, keys), k.watch)
		} else {
			k.set.drop(hp.Name)
		}
	}

	for _, name := range p.Gone {
		k.set.drop(name)
	}
	k.openKnown()
}

// wantsLine says whether a line is kept to a host. keys says that it has keys, or will.
func wantsLine(h history.Host, keys bool) bool {
	holdsKeys := keys && h.Had
	return holdsKeys || h.IsUnheard()
}
