package simulator

import (
	"slices"
	"strings"
	"time"

	"bellhop/deploy/follow"
	"bellhop/internal/bundle"
	"bellhop/internal/history"
)

// What must hold of each run while it goes on:
//
//   - no wave begins once more hosts failed as a whole than max_failures allows;
//   - no more hosts are pushed at once than parallel allows;
//   - a host with an after: is pushed when that one is done, or is detached;
//   - a service that failed on a host is not started on one of a later wave;
//   - a host that a run stopped before is not begun for that commit until a person asks to try again.

// A progress is what is known of one run.
type progress struct {
	began    map[*host]time.Time
	atWork   map[*host]bool
	detached map[*host]bool       // that the run does not wait for any more, maybe before they are dialled
	wave     time.Time            // when the newest wave began; zero before the first, and where there is one wave only
	failed   map[*host]time.Time  // hosts that failed as a whole
	services map[string]time.Time // services that failed on a host, as "name digest"
}

// A stop is a run that stopped before a host.
type stop struct {
	commit int // of the commits
	at     time.Time
}

// follow hears of one thing that happened in a run of l.
func (w *world) follow(l *life, e follow.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()

	p := l.runs[e.Run]
	if p == nil {
		p = &progress{began: map[*host]time.Time{}, atWork: map[*host]bool{}, detached: map[*host]bool{}, failed: map[*host]time.Time{}, services: map[string]time.Time{}}
		l.runs[e.Run] = p
	}
	commit, isLoaded := l.loaded[e.Run]
	if !isLoaded || commit < 0 || l.isDead() {
		return
	}
	c := w.repo.commits[commit].config
	if e.Host == "" {
		if e.Step == "wave" {
			w.waveBegins(p, e, c)
		}
		return
	}

	h := w.named(e.Host)
	switch e.Step {
	case "connect":
		w.connects(p, e, c, h)
	case "detached":
		delete(p.atWork, h)
		p.detached[h] = true
	case "end":
		w.ends(l, p, e, commit)
	}
}

func (w *world) waveBegins(p *progress, e follow.Event, c config) {
	p.wave = time.Now()
	failed := 0
	for _, at := range p.failed {
		if at.Before(time.Now()) { // one at this very instant may have come after the run looked
			failed++
		}
	}
	if failed > c.failures {
		w.blame("run %s begins %s, though %d hosts failed", e.Run, e.Text, failed)
	}
}

// connects hears that a host is dialled, once more or for the first time.
func (w *world) connects(p *progress, e follow.Event, c config, h *host) {
	if !p.began[h].IsZero() || p.detached[h] {
		return
	}
	p.began[h], p.atWork[h] = time.Now(), true
	h.failing = nil
	if c.parallel > 0 && len(p.atWork) > c.parallel {
		w.blame("run %s pushes %d hosts at once, and may %d", e.Run, len(p.atWork), c.parallel)
	}
	if c.after == "" {
		return
	}
	first, second := w.hosts[2], w.hosts[1]
	isLate := h == first && !p.began[second].IsZero()
	isEarly := h == second && p.atWork[first]
	if isLate || isEarly {
		w.blame("run %s pushes %s before %s is done", e.Run, second.name, first.name)
	}
}

// ends hears how a run ended on a host, or why it leaves the host alone.
func (w *world) ends(l *life, p *progress, e follow.Event, commit int) {
	h := w.named(e.Host)
	wasPushed := !p.began[h].IsZero()
	delete(p.atWork, h)
	if e.Outcome == history.Behind.Outcome() && strings.HasPrefix(e.Text, "stopped: ") {
		h.stopped = &stop{commit, time.Now()}
	}
	if !wasPushed {
		return
	}

	now, _ := l.db.Host(e.Host)
	if now.State == history.RolledBack || now.State == history.Failed {
		p.failed[h] = time.Now()
	}
	// A host that refuses a bundle as a whole says nothing of the others.
	heard := []history.Outcome{history.OutcomeRolledBack, history.OutcomeFailed, history.OutcomeHeldBack}
	if !slices.Contains(heard, e.Outcome) {
		return
	}
	for _, s := range h.failing {
		if p.services[s].IsZero() {
			p.services[s] = time.Now()
		}
	}
}

// failsOf are services of an offer that fail, as progress knows them.
func failsOf(o *bundle.Offer, names []string) (services []string) {
	for _, s := range names {
		services = append(services, s+" "+bundle.ServiceDigest(&o.Manifest, s))
	}
	return services
}

// checkBegin looks at an offer that a host is to begin. It is called under mu.
func (w *world) checkBegin(h *host, o *bundle.Offer) {
	l := w.life
	for run, p := range l.runs {
		if !p.atWork[h] || w.rollbacks[run] != nil {
			continue
		}
		commit := l.loaded[run]
		if h.stopped != nil && h.stopped.commit == commit {
			w.blame("%s is offered %.8s in run %s, though a run of that commit stopped before it", h.name, o.Digest, run)
		}
		w.checkServices(h, o, p, commit)
	}
}

// checkServices looks for services that failed on another host of the run before this one was begun. Where history does
// not know what the host holds, they can't be left out.
func (w *world) checkServices(h *host, o *bundle.Offer, p *progress, commit int) {
	name := o.Manifest.Host
	last, _ := w.life.db.Host(name)
	holds := ""
	if h.record != nil {
		holds = h.record.Digest
	}
	isKnown := last.Digest == holds && last.Had == (holds != "")
	if !isKnown || !w.repo.commits[commit].config.isolate || w.life.db.Holds().Of(name) != nil {
		return
	}

	for _, s := range failsOf(o, newServices(&h.manifest, &o.Manifest)) {
		if at := p.services[s]; !at.IsZero() && at.Before(p.wave) {
			service, _, _ := strings.Cut(s, " ")
			w.blame("%s is offered service %s, which failed on another host of the run %v before", h.name, service, p.wave.Sub(at))
		}
	}
}

// retried notes that a person asked to try again what failed, and what a run stopped before. It is called under mu.
func (w *world) retried() {
	for _, h := range w.hosts {
		h.stopped = nil
	}
}
