// Package hosts keeps what this process knows of each host beside history: who is at work on it,
// whether it answers, which machine it is, and what failed on it.
//
// All of it can be lost: a deployer that starts knows none of it, and reads from history what failed.
// A host that leaves the repo is forgotten as soon as nobody works on it.
package hosts

import (
	"context"
	"slices"
	"sync"
	"time"

	"bellhop/internal/history"
	"bellhop/internal/history/services"
	"bellhop/internal/plain"
)

// A Table is the state of hosts, by name. The zero value knows of none.
type Table struct {
	mu     sync.Mutex
	states map[string]*state
	read   bool // failures were read from history, and are kept in step since
}

// A state is what is known of one host.
type state struct {
	work    chan struct{} // holds a token while somebody is at work on the host
	users   int           // those who are at work on it, or wait for that
	pushing bool          // a run is at work on it
	giveWay func()        // ends what is done there and can wait; nil: nothing is
	left    bool          // it left the repo: the last user drops the state

	tries   int            // pushes in a row that could not reach it
	away    bool           // it did not answer at all when it was tried last
	machine plain.Foreign  // digest of its machine id, as the host said
	ahead   *time.Duration // how far its clock was ahead of ours at its last hello; nil: it did not say

	rings time.Time // when a run is asked for because of it; zero when none is

	failures map[string]history.Failure // by bundle digest
	services []services.Failure         // that failed while the rest of the host was fine
}

// of returns the state of a host, a new one when there is none. It is called under mu.
func (t *Table) of(host string) *state {
	if t.states == nil {
		t.states = map[string]*state{}
	}
	s := t.states[host]
	if s == nil {
		s = &state{work: make(chan struct{}, 1)}
		t.states[host] = s
	}
	return s
}

// KeepOnly forgets every host that is not listed, but for one that somebody works on: that is
// forgotten when the last of them is done. Failures are read from history again, which may have
// moved or dropped those of hosts that came or left.
func (t *Table) KeepOnly(listed func(host string) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()

	t.read = false
	for host, s := range t.states {
		s.failures, s.services = nil, nil
		s.left = !listed(host)
		t.dropIfDone(host, s)
	}
}

// dropIfDone drops the state of a host that left and that nobody works on. It is called under mu.
func (t *Table) dropIfDone(host string, s *state) {
	if s.left && s.users == 0 && !s.pushing {
		delete(t.states, host)
	}
}

// Hold waits until nobody else is at work on the host.
func (t *Table) Hold(ctx context.Context, host string) (release func(), err error) {
	s := t.enter(host)
	select {
	case s.work <- struct{}{}:
		return func() {
			<-s.work
			t.leave(host, s)
		}, nil
	case <-ctx.Done():
		t.leave(host, s)
		return nil, context.Cause(ctx)
	}
}

func (t *Table) enter(host string) *state {
	t.mu.Lock()
	defer t.mu.Unlock()

	s := t.of(host)
	s.users++
	if s.giveWay != nil {
		s.giveWay()
	}
	return s
}

// HoldIdle is hold for what can wait: it returns false when somebody is at work on the host, or waits for
// that. From the moment that somebody else wants to be, giveWay has been called, and release is to follow
// at once.
func (t *Table) HoldIdle(host string, giveWay func()) (release func(), ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()

	s := t.of(host)
	if s.users > 0 || s.pushing {
		return nil, false
	}
	s.users++
	s.giveWay = giveWay
	s.work <- struct{}{} // nobody has it: who does is counted in users

	return func() {
		t.mu.Lock()
		s.giveWay = nil
		t.mu.Unlock()
		<-s.work
		t.leave(host, s)
	}, true
}

func (t *Table) leave(host string, s *state) {
	t.mu.Lock()
	defer t.mu.Unlock()

	s.users--
	t.dropIfDone(host, s)
}

// SetPushing notes whether a run is at work on the host.
func (t *Table) SetPushing(host string, on bool) {
	t.mu.Lock()
	defer t.mu.Unlock()

	s := t.of(host)
	s.pushing = on
	t.dropIfDone(host, s)
}

func (t *Table) Pushing(host string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.states[host]
	return s != nil && s.pushing
}

// SetAway notes whether the host did not answer at all.
func (t *Table) SetAway(host string, away bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.of(host).away = away
}

func (t *Table) Away(host string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.states[host]
	return s != nil && s.away
}

// Unreached counts one more push that could not reach the host, and returns how many there were
// before it in a row.
func (t *Table) Unreached(host string) (before int) {
	t.mu.Lock()
	defer t.mu.Unlock()

	s := t.of(host)
	s.tries++
	return s.tries - 1
}

// Reached ends the row of pushes that could not reach the host.
func (t *Table) Reached(host string) {
	t.mu.Lock()
	defer t.mu.Unlock()

	if s := t.states[host]; s != nil {
		s.tries, s.away = 0, false
	}
}

// SetMachine keeps the digest of the machine id that the host's hello said.
func (t *Table) SetMachine(host string, digest plain.Foreign) {
	const longest = 64 // no helper says more
	if digest.Len() > longest {
		return
	}

	t.mu.Lock()
	defer t.mu.Unlock()
	t.of(host).machine = digest
}

// SetClock keeps what the host's clock said in a hello that comes in now, Unix milliseconds; 0: it does not say.
func (t *Table) SetClock(host string, at int64) {
	if at == 0 {
		return
	}
	ahead := time.Until(time.UnixMilli(at))

	t.mu.Lock()
	defer t.mu.Unlock()
	t.of(host).ahead = &ahead
}

// Ahead is how far the clocks of hosts were ahead of ours when each said hello last, since this process began.
func (t *Table) Ahead() map[string]time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := map[string]time.Duration{}
	for host, s := range t.states {
		if s.ahead != nil {
			all[host] = *s.ahead
		}
	}
	return all
}

// Machine is what the host said of its machine id since this process began; empty when nothing.
func (t *Table) Machine(host string) plain.Foreign {
	t.mu.Lock()
	defer t.mu.Unlock()

	if s := t.states[host]; s != nil {
		return s.machine
	}
	return plain.Foreign{}
}

// SetRing notes that a run is to be asked for at that time because of the host, and returns whether that
// is new.
func (t *Table) SetRing(host string, at time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()

	s := t.of(host)
	if s.rings.Equal(at) {
		return false
	}
	s.rings = at
	return true
}

// ReadFailures has the failures that history remembers, unless they were read before.
func (t *Table) ReadFailures(db *history.DB) error {
	t.mu.Lock()
	defer t.mu.Unlock()

	if t.read {
		return nil
	}
	all, err := db.Failures()
	if err != nil {
		return err
	}
	services, err := db.FailedServices(context.Background())
	if err != nil {
		return err
	}
	for host, failures := range all {
		t.of(host).failures = failures
	}
	for host, failed := range services {
		t.of(host).services = failed
	}
	t.read = true
	return nil
}

// Renamed says that history has the failures of a host under another name now: they are read again.
func (t *Table) Renamed() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.read = false
}

// HasFailed says that a service of the host failed there, or one of these bundles.
func (t *Table) HasFailed(db *history.DB, host string, digests ...string) (bool, error) {
	if err := t.ReadFailures(db); err != nil {
		return false, err
	}
	isKnown := func(digest string) bool { _, failed := t.Failure(host, digest); return failed }
	return len(t.FailedServices(host)) > 0 || slices.ContainsFunc(digests, isKnown), nil
}

// Failure is how a bundle failed on the host, by the bundle's digest.
func (t *Table) Failure(host, digest string) (f history.Failure, failed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()

	if s := t.states[host]; s != nil {
		f, failed = s.failures[digest]
	}
	return f, failed
}

// Ended keeps the failures in step with history, which has stored what came of a push.
func (t *Table) Ended(host, run string, e history.End) {
	t.mu.Lock()
	defer t.mu.Unlock()

	if !t.read {
		return // history has it by the time that they are read
	}
	s := t.of(host)
	s.noteServices(e)
	switch {
	case e.Remember:
		if s.failures == nil {
			s.failures = map[string]history.Failure{}
		}
		for _, digest := range e.Failed() {
			s.failures[digest] = history.Failure{Digest: digest, Run: run, State: e.State, Error: e.Error, Reason: e.Reason, At: time.Now()}
		}
	case e.Stood():
		delete(s.failures, e.Digest)
	}
}

// DropFailures forgets what failed on a host whose name now means another machine.
func (t *Table) DropFailures(host string) {
	t.mu.Lock()
	defer t.mu.Unlock()

	if s := t.states[host]; s != nil {
		s.failures, s.services = nil, nil
	}
}

// FailedServices are the services that failed on the host while the rest of it was fine.
func (t *Table) FailedServices(host string) []services.Failure {
	t.mu.Lock()
	defer t.mu.Unlock()

	if s := t.states[host]; s != nil {
		return slices.Clone(s.services)
	}
	return nil
}

// noteServices keeps what is known of failed services in step with history.
func (s *state) noteServices(e history.End) {
	for _, f := range slices.Concat(e.Mended, e.FailedServices) {
		s.services = slices.DeleteFunc(s.services, func(o services.Failure) bool { return o.Service == f.Service && o.Digest == f.Digest })
	}
	s.services = append(s.services, e.FailedServices...)
}
