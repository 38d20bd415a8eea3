package deploy

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/history"
	"bellhop/internal/push"
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
	// One that was away is likely to be so still: it waits for its deadline behind those that work.
	slices.SortStableFunc(hosts, func(a, b *HostPlan) int { return cmp.Compare(wasAway(a), wasAway(b)) })
	n := p.Fleet.Rollout.Parallel
	if n <= 0 {
		n = defaultParallel
	}
	d.pushAll(ctx, r, p, hosts, n)
	d.pushAll(ctx, r, p, own, 1)
	d.keepLines(p)
	return nil
}

func wasAway(hp *HostPlan) int {
	if hp.last.State == history.Pending {
		return 1
	}
	return 0
}

// store puts the plan into history before the first push. A poll that finds nothing stores
// nothing.
func (d *Deployer) store(r *run, p *Plan) error {
	if err := r.parent.Err(); err != nil {
		return err
	}
	if r.req.Trigger == TriggerClock && !d.planner.isNew(p, d.History) {
		return nil
	}
	if err := d.History.Network(context.Background(), p.Fleet.Network, d.Branch); err != nil {
		return err
	}
	hosts := make([]history.Planned, 0, len(p.Hosts))
	for _, hp := range p.Hosts {
		h := history.Planned{Name: hp.Name, State: hp.State, Follows: hp.Follows, Error: hp.Error, Keys: hp.last.KeysExpected, Reach: reach(hp.host), Listed: hp.Push}
		if hp.bundle != nil {
			h.Wanted = hp.bundle.Digest
			if !hp.last.Had || hp.last.Digest == "" || hp.Follows { // else those of what stands, until that changes
				h.Keys = len(hp.bundle.Keys)
			}
		}
		if !hp.Push && (hp.Error != "" || hp.State == history.Deploying) && (p.selected == nil || p.selected[hp.Name]) {
			h.Listed, h.Outcome = true, hp.State
			r.event(hp.untouched())
		}
		hosts = append(hosts, h)
	}
	if err := d.History.Plan(context.Background(), r.head, p.Snapshot.Commit, hosts, p.Gone); err != nil {
		return err
	}
	for _, hp := range p.Hosts {
		if hp.elsewhere {
			d.hosts.dropFailures(hp.Name)
		}
	}
	r.stored = true
	d.planner.stored()
	return nil
}

// healed says that a host turned out to hold what is wanted, though it is not remembered as current:
// one whose pinned key is back, say.
func (hp *HostPlan) healed() bool {
	return hp.State == history.Current && hp.Follows && hp.last.State != history.Current
}

// untouched tells why a host is not pushed.
func (hp *HostPlan) untouched() Event {
	if hp.State == history.Deploying {
		return Event{Host: hp.Name, Step: history.Deploying, Text: "an earlier run is still at work there"}
	}
	return Event{Host: hp.Name, Step: "end", Outcome: hp.State, Text: hp.Error}
}

// peers are the hosts of a run that are pushed together. They know how each got on, to tell a slow
// one.
type peers struct {
	mu      sync.Mutex
	left    []*HostPlan // not begun yet
	ended   bool
	longest time.Duration
	at      map[*onePush]bool // who the run waits for
	waited  sync.WaitGroup    // until none is left of those who push
	work    func()            // has one more push, for one that was detached
}

// onePush is one host that is being pushed.
type onePush struct {
	hp     *HostPlan
	began  time.Time
	ctx    context.Context // of this push alone; cancel ends it
	cancel context.CancelFunc
}

// next begins the next host, which the run waits for from then on. It is nil when none is left, or
// ctx has ended.
func (p *peers) next(ctx context.Context, begin func(*HostPlan) *onePush) *onePush {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.left) == 0 || ctx.Err() != nil {
		return nil
	}
	one := begin(p.left[0])
	p.left = p.left[1:]
	p.at[one] = true
	return one
}

// take ends the wait for one that ended, or is let go; false when it was over before. Who took it
// has its place.
func (p *peers) take(one *onePush, ended bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	waits := p.at[one]
	delete(p.at, one)
	if waits && ended {
		p.ended = true
		p.longest = max(p.longest, time.Since(one.began))
	}
	return waits
}

func (p *peers) all() []*onePush {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Keys(p.at))
}

// patience is how long a host may take, and whether anybody is held up by one that takes longer:
// a host with no peer that was faster, or that waits for its turn, is not slow.
func (p *peers) patience(limit time.Duration) (may time.Duration, heldUp bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.longest + limit, p.ended || len(p.left) > 0
}

// pushAll pushes hosts, n at once, and returns when each has ended or was detached. When ctx
// ends no other host is begun.
func (d *Deployer) pushAll(ctx context.Context, r *run, p *Plan, hosts []*HostPlan, n int) {
	all := &peers{left: hosts, at: map[*onePush]bool{}}
	all.work = func() { d.work.Go(func() { d.pushEach(ctx, r, p, all) }) }
	over := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() { d.watchPeers(ctx, r, all, over) })
	for range min(n, len(hosts)) {
		all.waited.Add(1)
		all.work()
	}
	all.waited.Wait()
	close(over)
	watch.Wait()
	for _, hp := range all.left {
		d.end(r, hp, history.End{Outcome: history.RunCancelled, State: hp.State, Error: "not begun: " + context.Cause(ctx).Error()})
	}
}

// pushEach pushes one host after another, until none is left or the one at hand is detached: then
// whoever detached it has its place. A goroutine for each would grow a stack for each.
func (d *Deployer) pushEach(ctx context.Context, r *run, p *Plan, all *peers) {
	for {
		one := all.next(ctx, func(hp *HostPlan) *onePush { return d.newPush(r, hp) })
		if one == nil {
			all.waited.Done()
			return
		}
		d.pushOne(r, p, one)
		if !all.take(one, true) {
			return
		}
	}
}

func (d *Deployer) newPush(r *run, hp *HostPlan) *onePush {
	one := &onePush{hp: hp, began: time.Now()}
	one.ctx, one.cancel = context.WithTimeoutCause(r.parent, d.limits().Host, push.ErrDeadline)
	return one
}

func (d *Deployer) pushOne(r *run, p *Plan, one *onePush) {
	defer one.cancel()
	d.hosts.setPushing(one.hp.Name, true)
	e, open := d.push(one.ctx, r, p, one.hp)
	d.hosts.setPushing(one.hp.Name, false)
	if open {
		r.cut.Store(true)
		return
	}
	e.Took = time.Since(one.began)
	d.end(r, one.hp, e)
}

// watchPeers stops waiting for those that are slow while somebody waits: they go on by
// themselves, and the run may end without them. It does so for all when ctx ends.
func (d *Deployer) watchPeers(ctx context.Context, r *run, all *peers, over <-chan struct{}) {
	tick := time.NewTicker(patienceStep)
	defer tick.Stop()
	for {
		select {
		case <-over:
			return
		case <-ctx.Done():
			d.letGo(r, all)
			return
		case <-tick.C:
		}
		for _, one := range all.all() {
			if why, slow := d.slow(time.Since(one.began), all); slow {
				d.detach(r, all, one, why)
			}
		}
	}
}

// letGo ends the wait for every host, when the run's time is over or bellhop ends. Where hosts
// are not detached they end too.
func (d *Deployer) letGo(r *run, all *peers) {
	why := "the run's time is over"
	if r.parent.Err() != nil {
		why = "bellhop ends"
	}
	for _, one := range all.all() {
		if !d.Detach {
			one.cancel()
			continue
		}
		if r.parent.Err() != nil {
			r.cut.Store(true)
		}
		d.detach(r, all, one, why)
	}
}

func (d *Deployer) detach(r *run, all *peers, one *onePush, why string) {
	if !all.take(one, false) {
		return
	}
	defer all.work()
	r.event(Event{Host: one.hp.Name, Step: "detached", Text: why + "; it goes on by itself"})
	d.log().Warn("host was detached", "host", one.hp.Name, "run", r.head.ID, "cause", why, "took", time.Since(one.began))
}

// patienceStep is how often it is asked whether somebody waits for a host that is over its time.
const patienceStep = 100 * time.Millisecond

// slow says whether a host that took so long is to be detached, and why.
func (d *Deployer) slow(took time.Duration, all *peers) (why string, slow bool) {
	may, heldUp := all.patience(d.limits().Patience)
	switch {
	case !d.Detach || took < may:
		return "", false
	case heldUp:
		return "slower than its peers", true
	}
	return "another push waits", d.bell.pushWaits()
}

// end stores what came of a host, and looks after what follows from it.
func (d *Deployer) end(r *run, hp *HostPlan, e history.End) {
	e.Commit = r.head.Commit
	if e.Digest == "" && hp.bundle != nil {
		e.Digest = hp.bundle.Digest
	}
	if err := d.History.Ended(context.Background(), r.head.ID, hp.Name, e); err != nil {
		d.log().Error("store the result", "host", hp.Name, "err", err)
	}
	d.hosts.ended(hp.Name, r.head.ID, e)
	if res, ok := e.Details.(*bundle.Result); ok {
		for _, note := range history.Notes(res) {
			r.event(Event{Host: hp.Name, Step: "note", Text: note})
		}
	}
	r.event(Event{Host: hp.Name, Step: "end", Outcome: e.Outcome, Text: e.Error})
	d.log().Info("host ended", "host", hp.Name, "run", r.head.ID, "commit", r.head.Commit, "outcome", e.Outcome, "took", e.Took.Round(time.Millisecond), "err", e.Error)
	d.follow(hp.Name, e)
}

// follow rings again where a host ended at something else than what is wanted by now, and
// keeps trying what can't be reached. What failed and is still wanted is not tried again, unless
// it was only cut off.
func (d *Deployer) follow(host string, e history.End) {
	if e.Outcome == history.Pending || e.Outcome == history.Unknown {
		d.unreached(host)
		return
	}
	if e.Stood() {
		d.hosts.reached(host)
	}
	h, ok := d.History.Host(host)
	switch {
	case !ok || h.State == history.Released || e.Outcome == history.RunCancelled || h.Wanted == "":
	case h.Wanted != e.Digest:
		d.bell.ring("more for " + host)
	case e.Outcome == bundle.OutcomeRolledBack && e.State == history.Behind:
		d.bell.ring(host + " was cut off")
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
