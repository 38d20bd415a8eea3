package page

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// A viewer is a browser that waits for changes at /v1/events (server-sent events). It is told that something changed, and
// no more: then it asks for its page again. So a viewer that was away misses nothing, and nothing is queued for a slow one:
// all changes since it was told last are one event.
//
// Events have numbers that begin with a name of this process. A page has the number that it was made at, so that a change
// between the page and its first event is told at once.

// Limits of viewers.
const (
	mostViewers = 32               // at once; the listener has more connections than that
	betweenTold = time.Second      // between two events of one viewer
	heartbeat   = 15 * time.Second // so that both sides notice a dead connection
	writeTime   = 10 * time.Second // in which a viewer must take an event, or is dropped
)

// changes counts changes for viewers.
type changes struct {
	name string // of this process

	mu      sync.Mutex
	count   uint64
	more    chan struct{} // closed and made anew with each change
	viewers int
	ended   chan struct{} // closed when the server stops
	isEnded bool
}

func newChanges() *changes {
	return &changes{name: rand.Text()[:8], more: make(chan struct{}), ended: make(chan struct{})}
}

// add tells that something changed.
func (c *changes) add() {
	c.mu.Lock()
	defer c.mu.Unlock()

	c.count++
	close(c.more)
	c.more = make(chan struct{})
}

// end lets all viewers go, and takes no more.
func (c *changes) end() {
	c.mu.Lock()
	defer c.mu.Unlock()

	if !c.isEnded {
		c.isEnded = true
		close(c.ended)
	}
}

// now is the number of the newest change, and what is closed at the next one.
func (c *changes) now() (id string, more <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.name + "-" + strconv.FormatUint(c.count, 10), c.more
}

// enter takes a place for a viewer; false: there is none.
func (c *changes) enter() bool {
	c.mu.Lock()
	defer c.mu.Unlock()

	if c.isEnded || c.viewers >= mostViewers {
		return false
	}
	c.viewers++
	return true
}

func (c *changes) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.viewers--
}

// Changed tells viewers that something changed. It never waits for one.
func (p *Page) Changed() { p.changes.add() }

// Serve tells viewers of each change until ctx ends; then it lets them go, so that the server can stop.
func (p *Page) Serve(ctx context.Context, changed <-chan struct{}) error {
	defer p.changes.end()
	for {
		select {
		case <-changed:
			p.Changed()
		case <-ctx.Done():
			return nil
		}
	}
}

// events answers a viewer until either side goes.
func (p *Page) events(w http.ResponseWriter, r *http.Request) {
	if !p.changes.enter() {
		w.Header().Set("Retry-After", "30")
		http.Error(w, "too many pages are open; this one is shown as it was", http.StatusServiceUnavailable)
		return
	}
	defer p.changes.leave()

	v := viewer{w: w, conn: http.NewResponseController(w), seen: r.URL.Query().Get("seen")}
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		v.seen = id
	}
	_ = v.conn.SetReadDeadline(time.Time{}) // the request is read; who listens says nothing for long

	w.Header().Set("Content-Type", "text/event-stream")
	if v.write(": bellhop\nretry: 2000\n\n") {
		v.follow(r.Context(), p.changes)
	}
}

// A viewer is one connection.
type viewer struct {
	w    io.Writer
	conn *http.ResponseController
	seen string // the newest change that it knows of
}

func (v *viewer) follow(ctx context.Context, c *changes) {
	for {
		id, more := c.now()
		isNews := id != v.seen
		atMost := heartbeat
		if isNews {
			if !v.write(fmt.Sprintf("id: %s\nevent: changed\ndata:\n\n", id)) {
				return
			}
			v.seen, more, atMost = id, nil, betweenTold // all changes until then are one event
		}

		switch wait(ctx, c.ended, more, atMost) {
		case viewerGone:
			return
		case timeIsOver:
			if !isNews && !v.write(": here\n\n") {
				return
			}
		}
	}
}

// What ended a wait.
type woken int

const (
	timeIsOver woken = iota
	isChanged
	viewerGone
)

// wait waits for a change, at most for a time.
func wait(ctx context.Context, ended, more <-chan struct{}, atMost time.Duration) woken {
	t := time.NewTimer(atMost)
	defer t.Stop()

	select {
	case <-more:
		return isChanged
	case <-t.C:
		return timeIsOver
	case <-ctx.Done():
	case <-ended:
	}
	return viewerGone
}

// write sends text at once; false: the viewer did not take it in time.
func (v *viewer) write(text string) bool {
	_ = v.conn.SetWriteDeadline(time.Now().Add(writeTime))
	if _, err := io.WriteString(v.w, text); err != nil {
		return false
	}
	return v.conn.Flush() == nil
}
