package link

import "testing"

// SetBuiltHelpers is what the Makefile writes into the program, for one test.
func SetBuiltHelpers(t *testing.T, list string) {
	was := builtHelpers
	builtHelpers = list
	t.Cleanup(func() { builtHelpers = was })
}

// OnBeat has f wait for each tick in the clock's place.
func (p *Pool) OnBeat(f func()) { p.coalescer.wait = f }

// AtWork is how many sessions the pool takes for being at work.
func (p *Pool) AtWork() int { return int(p.coalescer.sessions.Load()) }

// Held is what a host's connection is held by, 0 when there is none.
func (p *Pool) Held(name string) int32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.entries[name]; e != nil && e.conn != nil {
		return e.conn.held.Load()
	}
	return 0
}
