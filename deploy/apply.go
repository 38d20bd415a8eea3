package deploy

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/history"
)

const defaultParallel = 10

// apply stores the plan and makes hosts match it: many at once, the host that bellhop itself
// runs on last and alone. What comes of one host never stops another.
func (d *Deployer) apply(ctx context.Context, r *run, p *Plan) error {
	if err := d.store(r, p); err != nil {
		return err
	}
	r.release()
	var hosts, own []*HostPlan
	for _, hp := range p.Changing() {
		if d.isOwn(hp) {
			own = append(own, hp)
		} else {
			hosts = append(hosts, hp)
		}
	}
	n := p.Fleet.Rollout.Parallel
	if n <= 0 {
		n = defaultParallel
	}
	d.pushAll(ctx, r, p, hosts, n)
	d.pushAll(ctx, r, p, own, 1)
	d.keepLines(p)
	return nil
}

// store puts the plan into history before the first push. A poll that finds nothing stores
// nothing.
func (d *Deployer) store(r *run, p *Plan) error {
	if err := r.parent.Err(); err != nil {
		return err
	}
	if strings.HasPrefix(r.req.Cause, "poll") && len(p.Changing()) == 0 && len(p.Gone) == 0 && len(d.look.hosts) == 0 && d.History.Top() == p.Snapshot.Commit {
		return nil
	}
	if err := d.History.Network(context.Background(), p.Fleet.Network, d.Branch); err != nil {
		return err
	}
	hosts := make([]history.Planned, 0, len(p.Hosts))
	for _, hp := range p.Hosts {
		h := history.Planned{Name: hp.Name, State: hp.State, Follows: hp.Follows, Error: hp.Error, Keys: len(manifestOf(hp.bundle).Keys), Reach: reach(hp.host), Listed: hp.Push}
		if hp.bundle != nil {
			h.Wanted = hp.bundle.Digest
		}
		if !hp.Push && hp.Error != "" && (p.selected == nil || p.selected[hp.Name]) {
			h.Listed, h.Outcome = true, hp.State
			r.ended(hp.Name, history.End{Outcome: hp.State})
			r.event(Event{Host: hp.Name, Step: "end", Outcome: hp.State, Text: hp.Error})
		}
		hosts = append(hosts, h)
	}
	if err := d.History.Plan(context.Background(), r.head, p.Snapshot.Commit, hosts, p.Gone); err != nil {
		return err
	}
	r.stored = true
	d.look = looked{hosts: map[string]bool{}}
	return nil
}

// peers knows how long the hosts of a run took, to tell a slow one.
type peers struct {
	mu      sync.Mutex
	longest time.Duration
}

func (p *peers) ended(took time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.longest = max(p.longest, took)
}

func (p *peers) patience(limit time.Duration) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.longest + limit
}

// pushAll pushes hosts, n at once, and returns when each has ended or was detached. When ctx
// ends no other host is begun.
func (d *Deployer) pushAll(ctx context.Context, r *run, p *Plan, hosts []*HostPlan, n int) {
	var all peers
	var wg sync.WaitGroup
	slots := make(chan struct{}, n)
	for _, hp := range hosts {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			d.end(r, hp, history.End{Outcome: history.RunCancelled, State: hp.State, Error: "not begun: " + context.Cause(ctx).Error(), Present: -1})
			continue
		}
		wg.Go(func() {
			defer func() { <-slots }()
			d.pushPatiently(ctx, r, p, hp, &all)
		})
	}
	wg.Wait()
}

// pushPatiently pushes one host, and stops waiting for it when it is much slower than its
// peers: it goes on by itself, and the run may end without it.
func (d *Deployer) pushPatiently(ctx context.Context, r *run, p *Plan, hp *HostPlan, all *peers) {
	began := time.Now()
	hctx, cancel := context.WithTimeoutCause(r.parent, d.limits().Host, errHostDeadline)
	done := make(chan struct{})
	d.setPushing(hp.Name, true)
	d.work.Add(1)
	go func() {
		defer d.work.Done()
		defer close(done)
		defer cancel()
		e, open := d.push(hctx, r, p, hp)
		d.setPushing(hp.Name, false)
		if open {
			r.ended(hp.Name, history.End{Outcome: history.RunCancelled})
			return
		}
		e.Took = time.Since(began)
		d.end(r, hp, e)
	}()
	for {
		select {
		case <-done:
			all.ended(time.Since(began))
			return
		case <-ctx.Done():
			if !d.Detach {
				cancel()
				<-done
				return
			}
		case <-time.After(max(all.patience(d.limits().Patience)-time.Since(began), 10*time.Millisecond)):
			if !d.Detach || time.Since(began) < all.patience(d.limits().Patience) {
				continue
			}
		}
		r.ended(hp.Name, history.End{Outcome: history.Deploying})
		r.event(Event{Host: hp.Name, Step: "detached", Text: "slower than its peers; it goes on by itself"})
		d.log().Warn("host is slow and was detached", "host", hp.Name, "run", r.head.ID, "took", time.Since(began))
		return
	}
}

var errHostDeadline = errors.New("the host's deadline passed")

// end stores what came of a host, and looks after what follows from it.
func (d *Deployer) end(r *run, hp *HostPlan, e history.End) {
	e.Commit = r.head.Commit
	if e.Digest == "" && hp.bundle != nil {
		e.Digest = hp.bundle.Digest
	}
	if err := d.History.Ended(context.Background(), r.head.ID, hp.Name, e); err != nil {
		d.log().Error("store the result", "host", hp.Name, "err", err)
	}
	d.remember(hp.Name, r.head.ID, e)
	r.ended(hp.Name, e)
	if res, ok := e.Details.(*bundle.Result); ok {
		for _, note := range history.Notes(res) {
			r.event(Event{Host: hp.Name, Step: "note", Text: note})
		}
	}
	r.event(Event{Host: hp.Name, Step: "end", Outcome: e.Outcome, Text: e.Error})
	d.log().Info("host ended", "host", hp.Name, "run", r.head.ID, "commit", r.head.Commit, "outcome", e.Outcome, "took", e.Took.Round(time.Millisecond), "err", e.Error)
	d.follow(hp.Name, e)
}

// remember keeps the failures in memory in step with history.
func (d *Deployer) remember(host, run string, e history.End) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.bad == nil {
		return // read when they are needed
	}
	switch {
	case e.Remember:
		if d.bad[host] == nil {
			d.bad[host] = map[string]history.Failure{}
		}
		d.bad[host][e.Digest] = history.Failure{Digest: e.Digest, Run: run, Outcome: e.State, Error: e.Error, At: time.Now()}
	case e.Stood():
		delete(d.bad[host], e.Digest)
	}
}

// follow rings again where a host ended at something else than what is wanted by now, and
// keeps trying what can't be reached. What failed and is still wanted is not tried again.
func (d *Deployer) follow(host string, e history.End) {
	if e.Outcome == history.Pending || e.Outcome == history.Unknown {
		d.unreached(host)
		return
	}
	if e.Stood() {
		d.reached(host)
	}
	if h, ok := d.History.Host(host); ok && h.State != history.Released && e.Outcome != history.RunCancelled && h.Wanted != "" && h.Wanted != e.Digest {
		d.ring("more for " + host)
	}
}

// present counts the keys that are there.
func present(keys []bundle.KeyState) int {
	n := 0
	for _, k := range keys {
		if k.Present {
			n++
		}
	}
	return n
}

// A hostLock lets one thing at a time be at work on a host.
type hostLock struct {
	held    chan struct{}
	pushing bool
}

func (d *Deployer) lockOf(host string) *hostLock {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.hosts == nil {
		d.hosts = map[string]*hostLock{}
	}
	l := d.hosts[host]
	if l == nil {
		l = &hostLock{held: make(chan struct{}, 1)}
		d.hosts[host] = l
	}
	return l
}

// hold waits until nothing else is at work on the host.
func (d *Deployer) hold(ctx context.Context, host string) (release func(), err error) {
	l := d.lockOf(host)
	select {
	case l.held <- struct{}{}:
		return func() { <-l.held }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (d *Deployer) setPushing(host string, on bool) {
	l := d.lockOf(host)
	d.mu.Lock()
	defer d.mu.Unlock()
	l.pushing = on
}

func (d *Deployer) pushing(host string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.hosts[host]
	return l != nil && l.pushing
}

func (d *Deployer) ring(cause string) {
	d.mu.Lock()
	again := d.again
	d.mu.Unlock()
	if again != nil {
		again(cause)
	}
}

// Wait returns when no host is being pushed any more, or ctx ends.
func (d *Deployer) Wait(ctx context.Context) error {
	done := make(chan struct{})
	go func() { d.work.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
