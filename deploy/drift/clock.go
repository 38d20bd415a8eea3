package drift

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// A clock says when each host is looked at: a whole interval after its last contact, whatever that
// was, up to a tenth of it sooner or later so that the hosts of a large fleet don't come all at once. What
// an earlier process heard of a host does not count: a server that starts looks at nobody at once.
type clock struct {
	every    func() time.Duration                   // 0: nobody is looked at
	contacts func() map[string]time.Time            // of hosts that can be looked at: when each was heard last
	look     func(ctx context.Context, host string) // looks at one
	jitter   func(most time.Duration) time.Duration // a time from 0 to most

	again chan struct{} // has a token when the interval, or the list of hosts, may be another
	began time.Time
	next  map[string]nextLook
}

// A nextLook is when a host is looked at, and what that follows from.
type nextLook struct {
	contact time.Time
	every   time.Duration
	at      time.Time
}

// lookParallel is how many hosts are looked at at once. They take no place from runs.
const lookParallel = 8

// lookSteps is how many times in an interval the clock wakes at most.
const lookSteps = 60

func newClock() *clock {
	return &clock{again: make(chan struct{}, 1), next: map[string]nextLook{}, jitter: func(most time.Duration) time.Duration { return rand.N(most + 1) }}
}

// changed has the clock look at its interval and its hosts again.
func (c *clock) changed() {
	select {
	case c.again <- struct{}{}:
	default:
	}
}

// serve looks at hosts until ctx ends, and waits for the looks that are under way.
func (c *clock) serve(ctx context.Context) {
	c.began = time.Now()
	var looks sync.WaitGroup
	defer looks.Wait()
	places := make(chan struct{}, lookParallel)

	for {
		due, wait := c.due(time.Now())
		for _, host := range due {
			select {
			case places <- struct{}{}:
			case <-ctx.Done():
				return
			}
			looks.Go(func() {
				defer func() { <-places }()
				c.look(ctx, host)
			})
		}
		if !c.wait(ctx, wait) {
			return
		}
	}
}

// wait waits that long, 0 for good, or until something changes. It returns false when ctx ends.
func (c *clock) wait(ctx context.Context, d time.Duration) bool {
	var over <-chan time.Time
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		over = t.C
	}

	select {
	case <-ctx.Done():
		return false
	case <-over:
	case <-c.again:
	}

	return true
}

// due lists the hosts that are to be looked at now, the longest due first, and says how long to wait then;
// 0: until something changes. Each of them is due again a whole interval later, whatever comes of the look.
func (c *clock) due(now time.Time) (hosts []string, wait time.Duration) {
	every := c.every()
	if every <= 0 {
		clear(c.next)
		return nil, 0
	}

	contacts := c.contacts()
	for host := range c.next {
		if _, ok := contacts[host]; !ok {
			delete(c.next, host)
		}
	}

	// A host that comes later is not due sooner than this.
	wake := now.Add(every - every/10)
	was := map[string]time.Time{}
	for _, host := range slices.Sorted(maps.Keys(contacts)) {
		n := c.of(host, contacts[host], every)
		if !n.at.After(now) {
			hosts, was[host] = append(hosts, host), n.at
			n.at = now.Add(c.jittered(every))
		}
		c.next[host] = n
		if n.at.Before(wake) {
			wake = n.at
		}
	}

	slices.SortFunc(hosts, func(a, b string) int { return was[a].Compare(was[b]) })
	return hosts, max(wake.Sub(now), every/lookSteps)
}

// of is when a host is looked at: as it was found before, unless the host was heard since then.
func (c *clock) of(host string, contact time.Time, every time.Duration) nextLook {
	if contact.Before(c.began) {
		contact = c.began
	}
	if n, ok := c.next[host]; ok && n.contact.Equal(contact) && n.every == every {
		return n
	}
	return nextLook{contact: contact, every: every, at: contact.Add(c.jittered(every))}
}

// jittered is d, up to a tenth shorter or longer.
func (c *clock) jittered(d time.Duration) time.Duration { return d - d/10 + c.jitter(d/5) }
