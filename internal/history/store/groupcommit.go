package store

import (
	"sync"
	"sync/atomic"
	"time"
)

// Group commit: writers that come at about the same time share one transaction. Each waits
// until its part is in the file, but a thousand hosts that end together cost a few commits.
// BenchmarkRatioFleet in package deploy measures it; its price is this file. A transaction that
// fails is tried again with one job at a time, so that a job fails for no other writer.

// A job is one writer's part of a transaction. It may be run twice.
type job struct {
	f    func(tx *Tx) error
	done chan error // nil: it was written
}

const (
	// crowd is how many hosts must be at work before a writer waits for others.
	crowd = 8
	// waitPerHost is how long it then waits, for each host at work; longestWait caps it.
	waitPerHost = time.Millisecond
	longestWait = 60 * time.Millisecond
	// tick is the period of the clock at which the leader looks for more jobs. The connections
	// to a crowd of hosts are read at the same ticks (internal/link), so that the process wakes
	// rarely and does all there is to do.
	tick = 20 * time.Millisecond
	// linger is how long the leader waits for more jobs before it ends: a new goroutine grows a
	// new stack, and SQLite needs a deep one.
	linger = time.Second
)

// A groupCommit collects jobs. The first writer that finds no leader starts one: a goroutine
// that writes for all writers until no job is left.
type groupCommit struct {
	write  func(jobs []*job) // writes jobs and answers each
	atWork *atomic.Int64     // hosts that are being deployed to: how many jobs may come soon

	arrived chan struct{} // has room for one: a job came, or the group was closed
	leaders sync.WaitGroup

	mu      sync.Mutex // guards what follows
	jobs    []*job
	leading bool
	closed  bool // the leader does not linger any more
}

func newGroupCommit(write func(jobs []*job), atWork *atomic.Int64) *groupCommit {
	return &groupCommit{write: write, atWork: atWork, arrived: make(chan struct{}, 1)}
}

// do has a job written, and returns once it is in the file or has failed.
func (g *groupCommit) do(f func(tx *Tx) error) error {
	j := &job{f: f, done: make(chan error, 1)}

	g.mu.Lock()
	g.jobs = append(g.jobs, j)
	first := !g.leading
	g.leading = true
	if first {
		g.leaders.Go(g.lead)
	}
	g.mu.Unlock()

	if !first {
		g.wake()
	}
	return <-j.done
}

// close ends the leader once it has written what was asked for.
func (g *groupCommit) close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()

	g.wake()
	g.leaders.Wait()
}

// wake tells the leader to look.
func (g *groupCommit) wake() {
	select {
	case g.arrived <- struct{}{}:
	default:
	}
}

// lead writes for all writers until no job waits.
func (g *groupCommit) lead() {
	for g.awaitJob() {
		if n := int(g.atWork.Load()); n >= crowd {
			g.gather(n)
		}

		g.mu.Lock()
		jobs := g.jobs
		g.jobs = nil
		g.mu.Unlock()

		g.write(jobs)
	}
}

// awaitJob says whether a job waits. When it says no, its caller leads no longer.
func (g *groupCommit) awaitJob() bool {
	t := time.NewTimer(linger)
	defer t.Stop()

	for late := false; ; {
		g.mu.Lock()
		waiting, over := len(g.jobs) > 0, late || g.closed
		g.leading = waiting || !over
		g.mu.Unlock()

		if waiting || over {
			return waiting
		}
		select {
		case <-g.arrived:
		case <-t.C:
			late = true
		}
	}
}

// gather waits for the jobs of n hosts at work: until most are there, or until a tick at which
// no new job came.
func (g *groupCommit) gather(n int) {
	left := min(time.Duration(n)*waitPerHost, longestWait)
	if left < tick {
		time.Sleep(left)
		return
	}

	for before := 0; left >= tick; left -= tick {
		time.Sleep(tick - time.Duration(time.Now().UnixNano())%tick)

		g.mu.Lock()
		now := len(g.jobs)
		g.mu.Unlock()

		most := now >= n*3/4
		if now == before || most {
			return
		}
		before = now
	}
}
