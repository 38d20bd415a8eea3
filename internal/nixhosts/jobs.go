package nixhosts

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"bellhop/internal/nixos"
	"bellhop/internal/nixos/nixtree"
)

// Systems may take hours to build, and nobody else should wait for them: not a host that runs no NixOS or whose system is
// there, nor a push that comes meanwhile. So they are made by a job that outlives the run which asked first. One job of
// runs is at work, and one of plans; the newest ask waits behind it, in place of older ones that nobody needs any more.

// errLater is what a host without a system says meanwhile.
var errLater = errors.New("its NixOS system is still being made: the host gets it once it is there")

// A made is what the systems of one source came to.
type made struct {
	systems  map[string]nixos.System
	failures map[string]*nixos.Failure
	away     map[string]error // hosts that were to evaluate, and could not be asked
}

// A job makes the systems of one source.
type job struct {
	key    string
	line   *line
	began  time.Time
	ctx    context.Context
	cancel context.CancelFunc
	work   func(context.Context, *job) (made, error)

	newer chan struct{} // closed when another job waits behind this one
	crowd sync.Once     // closes newer
	done  chan struct{} // closed when made and err are there
	made  made
	err   error
}

// jobs are those of one Hosts.
type jobs struct {
	mu    sync.Mutex
	runs  line
	plans line
}

// A line is of jobs that wait for each other.
type line struct {
	atWork *job
	next   *job
	last   *job // that has ended after somebody was told Later, until somebody asks for it
	owed   bool // somebody was told Later
}

// make is what the systems of a source come to. It waits as long as Patience and ctx allow; with errLater it returns those
// that are there by then.
func (h *Hosts) make(ctx context.Context, l *line, source *nixtree.Source, asks []nixos.Ask) (made, error) {
	key := fmt.Sprintf("%s %+q", source.Key, fmt.Sprint(asks))
	if known := h.known(source, asks); len(known.systems) == len(asks) {
		h.heard(key)
		return known, nil
	}

	m, err := h.wait(ctx, h.join(l, key, func(ctx context.Context, j *job) (made, error) { return h.build(ctx, j, source, asks) }))
	if errors.Is(err, errLater) {
		return h.known(source, asks), err
	}

	return m, err
}

func (h *Hosts) known(source *nixtree.Source, asks []nixos.Ask) made {
	systems, failures := h.Nix.Known(source, asks)
	return made{systems: systems, failures: failures}
}

// wait waits for the end of j, as long as Patience and ctx allow.
func (h *Hosts) wait(ctx context.Context, j *job) (made, error) {
	var patience <-chan time.Time
	if h.Patience > 0 {
		t := time.NewTimer(time.Until(j.began.Add(h.Patience)))
		defer t.Stop()
		patience = t.C
	}

	select {
	case <-j.done:
		return j.made, j.err
	case <-patience:
	case <-ctx.Done():
		if h.Patience == 0 { // nobody asks again
			j.cancel()
			<-j.done
			return made{}, context.Cause(ctx)
		}
	}

	if h.leave(j) {
		return made{}, errLater
	}

	return j.made, j.err
}

// heard forgets what the job of that key came to: who asked knows it.
func (h *Hosts) heard(key string) {
	h.jobs.mu.Lock()
	defer h.jobs.mu.Unlock()

	for _, l := range []*line{&h.jobs.runs, &h.jobs.plans} {
		if l.last != nil && l.last.key == key {
			l.last = nil
		}
	}
}

// join finds the job of that key, or begins one in l.
func (h *Hosts) join(l *line, key string, work func(context.Context, *job) (made, error)) *job {
	h.jobs.mu.Lock()
	defer h.jobs.mu.Unlock()

	for _, l := range []*line{&h.jobs.runs, &h.jobs.plans} {
		if last := l.last; last != nil && last.key == key {
			l.last = nil
			return last
		}
	}

	for _, j := range []*job{l.atWork, l.next, h.jobs.runs.atWork, h.jobs.plans.atWork} {
		if j != nil && j.key == key {
			return j
		}
	}

	j := &job{key: key, line: l, began: time.Now(), work: work, newer: make(chan struct{}), done: make(chan struct{})}
	j.ctx, j.cancel = context.WithCancel(context.Background())
	if l.atWork == nil {
		l.atWork = j
		go h.do(j)
		return j
	}

	if old := l.next; old != nil {
		old.err = errLater
		close(old.done)
		l.owed = true
	}

	l.next = j
	l.atWork.crowd.Do(func() { close(l.atWork.newer) })
	return j
}

// tellSome says that some of the systems of j are there, where somebody does not wait for it any more.
func (h *Hosts) tellSome(j *job) {
	h.jobs.mu.Lock()
	tell := j.line.owed
	h.jobs.mu.Unlock()

	if tell && h.Ended != nil {
		h.Ended()
	}
}

// leave says that j goes on, and that somebody wants to hear of its end; false where it has ended.
func (h *Hosts) leave(j *job) bool {
	h.jobs.mu.Lock()
	defer h.jobs.mu.Unlock()

	select {
	case <-j.done:
		return false
	default:
		j.line.owed = true
		return true
	}
}

// do does j, and those that wait behind it.
func (h *Hosts) do(j *job) {
	l := j.line
	for j != nil {
		j.made, j.err = j.work(j.ctx, j)
		j.cancel()

		h.jobs.mu.Lock()
		tell := l.owed
		l.owed, l.last = false, nil
		if tell {
			l.last = j
		}
		close(j.done)
		j, l.next = l.next, nil
		l.atWork = j
		h.jobs.mu.Unlock()

		if tell && h.Ended != nil {
			h.Ended()
		}
	}
}

// Close ends what is at work. The error is always nil.
func (h *Hosts) Close() error {
	var atWork []*job
	h.jobs.mu.Lock()

	for _, l := range []*line{&h.jobs.runs, &h.jobs.plans} {
		if l.next != nil {
			l.next.cancel()
		}
		if l.atWork != nil {
			atWork = append(atWork, l.atWork)
		}
	}

	h.jobs.mu.Unlock()

	for _, j := range atWork {
		j.cancel()
		<-j.done
	}

	return nil
}

// build evaluates, and builds what hosts don't build themselves.
func (h *Hosts) build(ctx context.Context, j *job, source *nixtree.Source, asks []nixos.Ask) (made, error) {
	var here, there []nixos.Ask
	for _, a := range asks {
		if a.EvaluatesOnHost() {
			there = append(there, a)
		} else {
			here = append(here, a)
		}
	}

	e, err := h.Nix.Systems(ctx, source, here)
	if err != nil {
		return made{}, err
	}

	good := goodOf(e.Systems)
	failures, err := h.Nix.Build(ctx, h.toBuild(good, here))
	if err != nil {
		return made{}, err
	}
	if err := h.keepDerivations(ctx, good, here); err != nil {
		return made{}, err
	}

	_ = h.Nix.Keep(outsOf(good), keptFor) // a root too many costs disk alone

	m := made{systems: e.Systems, failures: failures, away: map[string]error{}}
	h.evaluateOnHost(ctx, j, source, there, &m)
	return m, nil
}

// toBuild are the systems that their hosts don't build.
func (h *Hosts) toBuild(systems map[string]nixos.System, asks []nixos.Ask) map[string]nixos.System {
	all := maps.Clone(systems)
	for _, a := range asks {
		if a.OnHost {
			delete(all, a.Host)
		}
	}

	return all
}

// keepDerivations keeps from the collector what hosts build from.
func (h *Hosts) keepDerivations(ctx context.Context, systems map[string]nixos.System, asks []nixos.Ask) error {
	for _, a := range asks {
		s, isGood := systems[a.Host]
		if !a.OnHost || !isGood {
			continue
		}
		if err := h.Nix.KeepDerivation(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// mostThere is how many hosts evaluate at once: the tree is written and sent for each.
const mostThere = 8

// givesWay is how long hosts may evaluate while a newer source waits.
const givesWay = 5 * time.Minute

var errGaveWay = errors.New("its evaluation took longer than " + givesWay.String() + ", and a newer commit waits")

// givingWay is ctx for evaluations on hosts, which end for a newer source: one that hangs would hold up all hosts.
func (j *job) givingWay(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	began := time.Now()
	go func() {
		select {
		case <-j.newer:
		case <-ctx.Done():
			return
		}

		late := time.NewTimer(time.Until(began.Add(givesWay)))
		defer late.Stop()
		select {
		case <-late.C:
			cancel(errGaveWay)
		case <-ctx.Done():
		}
	}()

	return ctx, func() { cancel(nil) }
}

// evaluateOnHost has hosts evaluate their systems themselves. Whoever does not wait any more hears of each host that has its
// system before the slowest.
func (h *Hosts) evaluateOnHost(ctx context.Context, j *job, source *nixtree.Source, asks []nixos.Ask, m *made) {
	ctx, end := j.givingWay(ctx)
	defer end()

	var mu sync.Mutex
	var work sync.WaitGroup
	left := len(asks)
	slots := make(chan struct{}, mostThere)
	for _, a := range asks {
		work.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			s, err := nixos.System{}, nixos.ErrNoNix
			if h.On != nil {
				s, err = h.Nix.EvaluateOnHost(ctx, source, a, h.On(a.Host))
			}

			mu.Lock()
			defer mu.Unlock()
			left--
			if err != nil {
				m.away[a.Host] = err
				return
			}
			if m.systems[a.Host] = s; left > 0 {
				h.tellSome(j)
			}
		})
	}

	work.Wait()
}
