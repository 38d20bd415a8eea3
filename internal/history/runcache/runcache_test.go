package runcache_test

import (
	"fmt"
	"testing"

	"bellhop/internal/history/runcache"
)

func TestKeepsUntilARunChanges(t *testing.T) {
	c := runcache.New[int]()
	r := c.Begin()
	r.Put("a", 1)
	r.Put("b", 2)
	c.Committed() // of a transaction that changed no run
	if v, ok := r.Get("a"); !ok || v != 1 {
		t.Errorf("Get(a) = %d, %v, want 1", v, ok)
	}

	c.Touch("a")
	if _, ok := r.Get("a"); !ok {
		t.Error("a is forgotten before the transaction is in the file: a reader would read, and keep, what it was")
	}
	c.Committed()
	if _, ok := r.Get("a"); ok {
		t.Error("a is what it was before the transaction")
	}
	if v, ok := r.Get("b"); !ok || v != 2 {
		t.Errorf("Get(b) = %d, %v, want 2: no transaction changed it", v, ok)
	}
}

// A reading that began before a transaction may have read the file as it was.
func TestAnOldReadingKeepsNothing(t *testing.T) {
	c := runcache.New[int]()
	old := c.Begin()
	c.Touch("a")
	c.Committed()
	old.Put("a", 1)
	if v, ok := c.Begin().Get("a"); ok {
		t.Errorf("Get(a) = %d, of before the transaction", v)
	}
}

func TestBoundAndNone(t *testing.T) {
	c := runcache.New[int]()
	for i := range 1000 {
		c.Begin().Put(fmt.Sprint(i), i)
	}
	n := 0
	for i := range 1000 {
		if _, ok := c.Begin().Get(fmt.Sprint(i)); ok {
			n++
		}
	}
	if _, last := c.Begin().Get("999"); n > 64 || !last {
		t.Errorf("%d runs are kept, the newest: %v", n, last)
	}

	var none *runcache.Cache[int]
	none.Begin().Put("a", 1)
	if _, ok := none.Begin().Get("a"); ok {
		t.Error("no cache keeps something")
	}
}
