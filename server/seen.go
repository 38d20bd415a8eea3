package server

import (
	"container/list"
	"slices"
	"sync"

	"bellhop/internal/history/deliveries"
)

// seen remembers the ids of the newest deliveries, to tell a repeated one.
type seen struct {
	mu    sync.Mutex
	ids   map[string]bool
	order *list.List
}

const mostSeen = 10_000

func newSeen(known []deliveries.Delivery) *seen {
	s := &seen{ids: map[string]bool{}, order: list.New()}
	for _, d := range slices.Backward(known) {
		s.add(d.ID)
	}
	return s
}

// add says whether id was there, and remembers it.
func (s *seen) add(id string) bool {
	if id == "" {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()

	if s.ids[id] {
		return true
	}
	s.ids[id] = true
	s.order.PushBack(id)
	if s.order.Len() > mostSeen {
		delete(s.ids, s.order.Remove(s.order.Front()).(string))
	}
	return false
}
