package lab

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
)

// A gate stops bytes while it is shut.
type gate struct {
	mu   sync.Mutex
	wait chan struct{} // nil: open; closed when it opens
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.wait == nil {
		g.wait = make(chan struct{})
	}
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.wait != nil {
		close(g.wait)
		g.wait = nil
	}
}

// pass waits while the gate is shut.
func (g *gate) pass(ctx context.Context) error {
	for {
		g.mu.Lock()
		wait := g.wait
		g.mu.Unlock()
		if wait == nil {
			return nil
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// gatedConn counts what passes, and lets nothing pass while the host's gate is shut.
type gatedConn struct {
	net.Conn
	h   *Host
	ctx context.Context
}

func (c *gatedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.h.n.in.Add(int64(n))
	if err := c.h.gate.pass(c.ctx); err != nil {
		return 0, err
	}
	return n, err
}

func (c *gatedConn) Write(p []byte) (int, error) {
	if err := c.h.gate.pass(c.ctx); err != nil {
		return 0, err
	}
	n, err := c.Conn.Write(p)
	c.h.n.out.Add(int64(n))
	return n, err
}

// turns counts how often the talk on a channel turns: the other side spoke after it heard us.
type turns struct {
	io.ReadWriter
	n     *atomic.Int64
	mu    sync.Mutex
	spoke bool // we spoke last
}

func (t *turns) Read(p []byte) (int, error) {
	n, err := t.ReadWriter.Read(p)
	if n > 0 {
		t.mu.Lock()
		if t.spoke {
			t.n.Add(1)
		}
		t.spoke = false
		t.mu.Unlock()
	}
	return n, err
}

func (t *turns) Write(p []byte) (int, error) {
	t.mu.Lock()
	t.spoke = true
	t.mu.Unlock()
	return t.ReadWriter.Write(p)
}
