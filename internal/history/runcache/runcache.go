// Package runcache keeps in memory what was read of runs, until a transaction changes the results of one.
//
// The page of a fleet shows the newest runs of all hosts again and again, and of those hardly one changes between two
// looks. Only the process that writes the file can keep them: it knows of each change.
//
// Its promise: what a Reading gets is what the file held when the Reading began, or later.
package runcache

import "sync"

// most is how many runs are kept.
const most = 64

// A Cache keeps a T of each run. A nil Cache keeps nothing. Whoever gets a T must not change it.
type Cache[T any] struct {
	mu      sync.Mutex
	version int64 // how many transactions changed a run
	kept    map[string]T
	touched map[string]bool // by the transaction under way
}

// New makes an empty cache.
func New[T any]() *Cache[T] { return &Cache[T]{kept: map[string]T{}, touched: map[string]bool{}} }

// Touch says that the transaction under way changes the results of a run.
func (c *Cache[T]) Touch(run string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.touched[run] = true
}

// Committed says that the transaction is in the file. After one that failed it need not be called: its runs are then forgotten
// with the next one, without need.
func (c *Cache[T]) Committed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.touched) == 0 {
		return
	}
	for run := range c.touched {
		delete(c.kept, run)
	}
	clear(c.touched)
	c.version++
}

// A Reading is a look at the file.
type Reading[T any] struct {
	cache *Cache[T]
	began int64
}

// Begin begins a reading, before the transaction that reads the file begins.
func (c *Cache[T]) Begin() Reading[T] {
	if c == nil {
		return Reading[T]{}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return Reading[T]{c, c.version}
}

// Get is what is kept of a run.
func (r Reading[T]) Get(run string) (v T, ok bool) {
	if r.cache == nil {
		return v, false
	}
	r.cache.mu.Lock()
	defer r.cache.mu.Unlock()
	v, ok = r.cache.kept[run]
	return v, ok
}

// Put keeps what the file holds of a run, unless a transaction changed some run since the reading began: the reading may have
// seen the file as it was before.
func (r Reading[T]) Put(run string, v T) {
	if r.cache == nil {
		return
	}

	r.cache.mu.Lock()
	defer r.cache.mu.Unlock()
	if r.cache.version != r.began {
		return
	}
	if len(r.cache.kept) >= most {
		clear(r.cache.kept)
	}

	r.cache.kept[run] = v
}
