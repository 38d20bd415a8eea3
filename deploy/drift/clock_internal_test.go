package drift

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A clocked is a fleet that a clock looks at.
type clocked struct {
	mu       sync.Mutex
	every    time.Duration
	contacts map[string]time.Time
	looks    map[string][]time.Time
	fails    bool // looks don't reach their hosts
	asked    int  // how often the clock asked for the interval
}

func (c *clocked) clock() *clock {
	k := newClock()
	k.every = func() time.Duration { c.mu.Lock(); defer c.mu.Unlock(); c.asked++; return c.every }
	k.contacts = func() map[string]time.Time { c.mu.Lock(); defer c.mu.Unlock(); return maps.Clone(c.contacts) }
	k.look = func(_ context.Context, host string) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.looks[host] = append(c.looks[host], time.Now())
		if !c.fails {
			c.contacts[host] = time.Now()
		}
	}
	return k
}

func (c *clocked) met(host string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.contacts[host] = time.Now()
}

func (c *clocked) count(host string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.looks[host])
}

// looked are the times of all looks, by host.
func (c *clocked) looked() map[string][]time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := map[string][]time.Time{}
	for host, looks := range c.looks {
		all[host] = slices.Clone(looks)
	}
	return all
}

// inClock runs a story of hosts that an earlier process heard of long ago.
func inClock(t *testing.T, every time.Duration, hosts int, story func(c *clocked, k *clock)) {
	synctest.Test(t, func(t *testing.T) {
		c := &clocked{every: every, contacts: map[string]time.Time{}, looks: map[string][]time.Time{}}
		for i := range hosts {
			c.contacts[fmt.Sprintf("h%03d", i)] = time.Now().Add(-24 * time.Hour)
		}
		ctx, cancel := context.WithCancel(t.Context())
		k := c.clock()
		var served sync.WaitGroup
		served.Go(func() { k.serve(ctx) })
		story(c, k)
		cancel()
		served.Wait()
	})
}

// Each host is looked at once in an interval, the first time a whole one after the start, and not all at
// once.
func TestLookClockIntervals(t *testing.T) {
	inClock(t, 10*time.Minute, 200, func(c *clocked, _ *clock) {
		began := time.Now()
		time.Sleep(9*time.Minute - time.Second)
		for host := range c.looked() {
			if c.count(host) > 0 {
				t.Fatalf("%s was looked at before an interval was over", host)
			}
		}

		time.Sleep(2*time.Hour - time.Since(began))
		looked := c.looked()
		moments := map[time.Time]bool{}
		for host, looks := range looked {
			if n := len(looks); n < 10 || n > 13 {
				t.Errorf("%s: %d looks in 2 h, want about 12", host, n)
			}
			for i, at := range looks[1:] {
				if gap := at.Sub(looks[i]); gap < 9*time.Minute || gap > 11*time.Minute+20*time.Second {
					t.Errorf("%s: %v between two looks", host, gap)
				}
			}
			moments[looks[0]] = true
		}
		if len(looked) != 200 || len(moments) < 6 {
			t.Errorf("%d hosts were looked at, the first time at %d moments; want 200, at several", len(looked), len(moments))
		}
	})
}

// Any contact puts off the next look by a whole interval.
func TestLookClockContact(t *testing.T) {
	inClock(t, 10*time.Minute, 2, func(c *clocked, _ *clock) {
		for range 24 {
			time.Sleep(5 * time.Minute)
			c.met("h000")
		}
		if c.count("h000") != 0 || c.count("h001") < 10 {
			t.Errorf("looks: %d at a host that is pushed every 5 min, %d at one that is not; want 0, and about 12", c.count("h000"), c.count("h001"))
		}
	})
}

// A host that can't be reached is tried once in an interval too.
func TestLookClockFailures(t *testing.T) {
	inClock(t, 10*time.Minute, 1, func(c *clocked, _ *clock) {
		c.mu.Lock()
		c.fails = true
		c.mu.Unlock()
		time.Sleep(2 * time.Hour)
		if n := c.count("h000"); n < 10 || n > 13 {
			t.Errorf("%d looks in 2 h, want about 12", n)
		}
	})
}

// 0s turns it off, and a commit that changes the interval, or brings a host, counts at once.
func TestLookClockChanges(t *testing.T) {
	inClock(t, 0, 1, func(c *clocked, k *clock) {
		set := func(every time.Duration) {
			c.mu.Lock()
			c.every = every
			c.mu.Unlock()
			k.changed()
		}
		time.Sleep(time.Hour)
		if n := c.count("h000"); n != 0 {
			t.Fatalf("%d looks with look: 0s", n)
		}

		set(10 * time.Minute)
		c.met("h000")
		time.Sleep(time.Minute)
		set(time.Minute)
		c.met("new")
		time.Sleep(10 * time.Minute)
		if c.count("h000") < 8 || c.count("new") < 8 {
			t.Errorf("%d and %d looks in ten minutes of look: 1m, want about 10", c.count("h000"), c.count("new"))
		}

		set(0)
		time.Sleep(time.Second)
		was := c.count("h000")
		time.Sleep(time.Hour)
		if n := c.count("h000"); n != was {
			t.Errorf("%d looks after they were turned off", n-was)
		}
	})
}

// A clock wakes a few times in an interval, whatever the number of hosts.
func TestLookClockWakesSeldom(t *testing.T) {
	inClock(t, 10*time.Minute, 2000, func(c *clocked, k *clock) {
		time.Sleep(10 * time.Hour)
		c.mu.Lock()
		defer c.mu.Unlock()
		wakes := c.asked
		if most := 60 * (lookSteps + 2); wakes > most {
			t.Errorf("woke %d times in 60 intervals, want %d at most", wakes, most)
		}
	})
}

// A failure is logged when it is new, not every ten minutes.
func TestLookFailuresAreToldOnce(t *testing.T) {
	var s State
	for i, c := range []struct {
		failure string
		isNews  bool
	}{{"", false}, {"no", true}, {"no", false}, {"another", true}, {"", false}, {"another", true}} {
		if got := s.isNews("h", c.failure); got != c.isNews {
			t.Errorf("%d: isNews(%q) = %v, want %v", i, c.failure, got, c.isNews)
		}
	}
}
