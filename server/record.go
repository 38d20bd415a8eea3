package server

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"bellhop/internal/history/deliveries"
)

// A recorder writes deliveries behind the requests that brought them: many at once, in their
// order, so that no request waits for a disk.
type recorder struct {
	to  Recorder
	log *slog.Logger

	mu     sync.Mutex
	queue  []deliveries.Delivery
	lost   int
	closed bool
	wake   chan struct{}
}

const (
	mostQueued = 100_000
	mostBatch  = 1000
)

func newRecorder(to Recorder, log *slog.Logger) *recorder {
	return &recorder{to: to, log: log, wake: make(chan struct{}, 1)}
}

// add queues one. Only authenticated senders come here, and a disk that is full for long
// costs the oldest.
func (r *recorder) add(d deliveries.Delivery) {
	if r.to == nil {
		return
	}
	r.mu.Lock()
	if len(r.queue) >= mostQueued {
		r.queue = r.queue[1:]
		r.lost++
	}
	r.queue = append(r.queue, d)
	r.mu.Unlock()
	r.ring()
}

func (r *recorder) ring() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// close tells run to end once the queue is empty.
func (r *recorder) close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.ring()
}

// run writes until closed and empty. When closed, it gives up on what fails for ten seconds.
func (r *recorder) run() {
	var giveUp time.Time
	for {
		batch, closed := r.take()
		if len(batch) == 0 {
			if closed {
				return
			}
			<-r.wake
			continue
		}

		if closed && giveUp.IsZero() {
			giveUp = time.Now().Add(10 * time.Second)
		}

		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		err := r.to.AddDeliveries(ctx, batch)
		cancel()
		if err == nil {
			r.done(len(batch))
			continue
		}

		r.log.Error("record deliveries", "err", err, "waiting", len(batch))
		if closed && time.Now().After(giveUp) {
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// take shows the head of the queue; done removes it.
func (r *recorder) take() ([]deliveries.Delivery, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()

	r.lost = 0
	return append([]deliveries.Delivery(nil), r.queue[:min(len(r.queue), mostBatch)]...), r.closed
}

func (r *recorder) done(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()

	n = max(0, n-r.lost) // those that add pushed out meanwhile are gone already
	r.queue = r.queue[min(n, len(r.queue)):]
}
