package lab

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
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

// pipe is a connection within the process. Unlike net.Pipe it takes a write that nobody
// waits for, as a network does: both ends of SSH speak first.
func pipe() (a, b net.Conn) {
	ab, ba := newHalf(), newHalf()
	return &pipeEnd{in: ba, out: ab}, &pipeEnd{in: ab, out: ba}
}

// half is one direction of a pipe.
type half struct {
	mu     sync.Mutex
	moved  sync.Cond
	buf    []byte
	closed bool
}

const pipeBuffer = 64 << 10

func newHalf() *half {
	h := new(half)
	h.moved.L = &h.mu
	return h
}

func (h *half) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	h.moved.Broadcast()
}

type pipeEnd struct{ in, out *half }

func (p *pipeEnd) Read(b []byte) (int, error) {
	h := p.in
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(h.buf) == 0 {
		if h.closed {
			return 0, io.EOF
		}
		h.moved.Wait()
	}

	n := copy(b, h.buf)
	h.buf = h.buf[n:]
	h.moved.Broadcast()
	return n, nil
}

func (p *pipeEnd) Write(b []byte) (int, error) {
	h := p.out
	h.mu.Lock()
	defer h.mu.Unlock()
	for done := 0; ; {
		if h.closed {
			return done, io.ErrClosedPipe
		}

		n := min(len(b)-done, pipeBuffer-len(h.buf))
		h.buf = append(h.buf, b[done:done+n]...)
		h.moved.Broadcast()
		if done += n; done == len(b) {
			return done, nil
		}

		h.moved.Wait()
	}
}

func (p *pipeEnd) Close() error {
	p.in.close()
	p.out.close()
	return nil
}

func (p *pipeEnd) LocalAddr() net.Addr              { return pipeAddr{} }
func (p *pipeEnd) RemoteAddr() net.Addr             { return pipeAddr{} }
func (p *pipeEnd) SetDeadline(time.Time) error      { return errors.ErrUnsupported }
func (p *pipeEnd) SetReadDeadline(time.Time) error  { return errors.ErrUnsupported }
func (p *pipeEnd) SetWriteDeadline(time.Time) error { return errors.ErrUnsupported }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }
