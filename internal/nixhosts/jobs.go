package nixhosts

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"bellhop/internal/nixos"
)

// Systems may take hours to build, and nobody else should wait for them: not a host that runs no NixOS, nor a push that
// comes meanwhile. So they are made by a job that outlives the run which asked first. One job is at work; the newest
// ask waits behind it, in place of older ones that nobody needs any more.

// errLater is what a host without a system says meanwhile.
var errLater = errors.New("its NixOS system is still being made: the host gets it once it is there")

// A made is what the systems of one source came to.
type made struct {
	systems  map[string]nixos.System
	failures map[string]*nixos.Failure
}

// A job makes the systems of one source.
type job struct {
	key    string
	began  time.Time
	ctx    context.Context
	cancel context.CancelFunc
	work   func(context.Context) (made, error)

	done chan struct{} // closed when made and err are there
	made made
	err  error
}

// jobs are those of one Hosts.
type jobs struct {
	mu     sync.Mutex
	atWork *job
	next   *job
	last   *job // that has ended after somebody was told Later, until somebody asks for it
	owed   bool // somebody was told Later
}

// make is what the systems of a source come to. It waits as long as Patience and ctx allow.
func (h *Hosts) make(ctx context.Context, source *nixos.Source, asks []nixos.Ask) (made, error) {
	j := h.join(fmt.Sprintf("%s %q", source.Key, asks), func(ctx context.Context) (made, error) { return h.build(ctx, source, asks) })
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

// join finds the job of that key, or begins one.
func (h *Hosts) join(key string, work func(context.Context) (made, error)) *job {
	h.jobs.mu.Lock()
	defer h.jobs.mu.Unlock()
	if last := h.jobs.last; last != nil && last.key == key {
		h.jobs.last = nil
		return last
	}
	for _, j := range []*job{h.jobs.atWork, h.jobs.next} {
		if j != nil && j.key == key {
			return j
		}
	}

	j := &job{key: key, began: time.Now(), work: work, done: make(chan struct{})}
	j.ctx, j.cancel = context.WithCancel(context.Background())
	if h.jobs.atWork == nil {
		h.jobs.atWork = j
		go h.do(j)
		return j
	}
	if old := h.jobs.next; old != nil {
		old.err = errLater
		close(old.done)
		h.jobs.owed = true
	}
	h.jobs.next = j
	return j
}

// leave says that j goes on, and that somebody wants to hear of its end; false where it has ended.
func (h *Hosts) leave(j *job) bool {
	h.jobs.mu.Lock()
	defer h.jobs.mu.Unlock()
	select {
	case <-j.done:
		return false
	default:
		h.jobs.owed = true
		return true
	}
}

// do does j, and those that wait behind it.
func (h *Hosts) do(j *job) {
	for j != nil {
		j.made, j.err = j.work(j.ctx)
		j.cancel()

		h.jobs.mu.Lock()
		tell := h.jobs.owed
		h.jobs.owed, h.jobs.last = false, nil
		if tell {
			h.jobs.last = j
		}
		close(j.done)
		j, h.jobs.next = h.jobs.next, nil
		h.jobs.atWork = j
		h.jobs.mu.Unlock()

		if tell && h.Ended != nil {
			h.Ended()
		}
	}
}

// Close ends what is at work. The error is always nil.
func (h *Hosts) Close() error {
	h.jobs.mu.Lock()
	j := h.jobs.atWork
	if next := h.jobs.next; next != nil {
		next.cancel()
	}
	h.jobs.mu.Unlock()
	if j != nil {
		j.cancel()
		<-j.done
	}
	return nil
}

// build evaluates and builds.
func (h *Hosts) build(ctx context.Context, source *nixos.Source, asks []nixos.Ask) (made, error) {
	e, err := h.Nix.Systems(ctx, source, asks)
	if err != nil {
		return made{}, err
	}

	good := goodOf(e.Systems)
	failures, err := h.Nix.Build(ctx, good)
	if err != nil {
		return made{}, err
	}
	_ = h.Nix.Keep(outsOf(good), keptFor) // a root too many costs disk alone
	return made{e.Systems, failures}, nil
}
