package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
)

// A conn is one logged-in connection. ssh.Client is not used: it keeps three goroutines
// more for each connection, for forwarding that nobody asks for.
type conn struct {
	pool    *Pool
	target  Target
	ssh     ssh.Conn
	chans   <-chan ssh.NewChannel
	reqs    <-chan *ssh.Request
	wire    *countedConn
	onClose func()
	slots   chan struct{} // a place for each session

	keys       atomic.Bool   // silence is noticed sooner
	probe      atomic.Bool   // the kernel asks the host's kernel
	opening    atomic.Int32  // sessions that the host was asked for
	running    atomic.Int32  // sessions that have not ended; below 0 for a moment, where one ends as it begins
	hadSession atomic.Bool   // one was opened
	ends       chan struct{} // hears of sessions that end

	held  atomic.Int32 // sessions and tunnels on it
	old   atomic.Bool  // it closes as soon as nothing runs over it
	used  atomic.Int64 // when last taken, Unix nanoseconds
	asked atomic.Int64 // when the unanswered keepalive was sent, or 0

	once  sync.Once
	down  chan struct{} // closed when close begins or the peer hung up
	ended chan struct{} // closed when nothing of it is left
	why   error         // set before down is closed
}

func newConn(p *Pool, t Target, sc ssh.Conn, chans <-chan ssh.NewChannel, reqs <-chan *ssh.Request, wire *countedConn) *conn {
	c := &conn{pool: p, target: t, ssh: sc, chans: chans, reqs: reqs, wire: wire,
		slots: make(chan struct{}, MaxSessions), ends: make(chan struct{}, MaxSessions), down: make(chan struct{}), ended: make(chan struct{})}
	c.used.Store(time.Now().UnixNano())
	return c
}

// start serves what the host asks of us, which is nothing, until the connection ends.
func (c *conn) start() {
	go func() {
		defer close(c.ended)
		for c.chans != nil || c.reqs != nil {
			select {
			case nc, ok := <-c.chans:
				if !ok {
					c.chans = nil
					continue
				}
				nc.Reject(ssh.Prohibited, "nothing is offered here")
			case r, ok := <-c.reqs:
				if !ok {
					c.reqs = nil
					continue
				}
				if r.WantReply { // sshd's ClientAliveInterval
					r.Reply(false, nil)
				}
			}
		}
		c.close(errors.New("the host hung up"))
		c.pool.forget(c)
		if c.onClose != nil {
			c.onClose()
		}
	}()
}

// close ends the connection at once. It does not wait for the peer, which may be silent.
func (c *conn) close(why error) {
	c.once.Do(func() {
		c.why = why
		close(c.down)
		c.wire.Conn.Close() // not ssh.Close: nothing that could block on a stalled peer comes first
	})
}

func (c *conn) isClosed() bool {
	select {
	case <-c.down:
		return true
	default:
		return false
	}
}

func (c *conn) hold() {
	c.held.Add(1)
	c.used.Store(time.Now().UnixNano())
}

func (c *conn) release() {
	c.used.Store(time.Now().UnixNano())
	if c.held.Add(-1) == 0 && c.old.Load() {
		c.retire()
	}
}

// retire closes the connection, once nothing runs over it.
func (c *conn) retire() {
	c.old.Store(true)
	if c.held.Load() == 0 {
		go c.close(errors.New("it is not used any more"))
	}
}

// setKeys says whether the host has keys. Over TCP the kernel does the frequent asking then,
// at no cost of ours: it notices a cut and a host that went away. A peer that stalls while
// its kernel still answers is left to our own, rarer question.
func (c *conn) setKeys(keys bool) {
	if c.keys.Swap(keys) == keys {
		return
	}

	if tcp, ok := c.wire.Conn.(*net.TCPConn); ok {
		err := tcp.SetKeepAliveConfig(net.KeepAliveConfig{Enable: keys, Idle: 4 * time.Second, Interval: 2 * time.Second, Count: 3})
		c.probe.Store(keys && err == nil)
	}
}

// patience is how long this host may be silent, and how long an answer may take.
func (c *conn) patience() (silence, answer time.Duration) {
	unanswered := c.wire.said.Load() > c.wire.heard.Load() // then the kernel asks nothing
	switch often := c.keys.Load() && (!c.probe.Load() || unanswered); {
	case often, c.held.Load() > 0:
		return min(KeepaliveKeys, c.pool.cfg.Keepalive), KeepaliveKeys
	default:
		return c.pool.cfg.Keepalive, KeepaliveAnswer
	}
}

// tend is one look at the connection: when it was silent for too long, the host is asked;
// when it does not answer and no byte moves either way, it is closed. It returns when to
// look again, and whether it asked.
func (c *conn) tend(now time.Time, mayAsk bool) (next time.Duration, asked bool) {
	if c.isClosed() {
		return time.Hour, false
	}

	silence, answer := c.patience()
	quiet := now.Sub(time.Unix(0, c.wire.heard.Load()))
	if at := c.asked.Load(); at != 0 {
		// A slow upload in front of the question is life too.
		moved := max(at, c.wire.heard.Load(), c.wire.said.Load())
		left := answer - now.Sub(time.Unix(0, moved))
		if left > 0 {
			return left, false
		}
		c.close(fmt.Errorf("no answer for %v", answer))
		return time.Hour, false
	}

	if quiet < silence-500*time.Millisecond { // within the same whole second is soon enough
		return silence - quiet, false
	}

	if !mayAsk {
		return time.Second, false
	}

	c.asked.Store(now.UnixNano())
	go func() { // it blocks until the answer, or until close
		c.ssh.SendRequest("keepalive@openssh.com", true, nil)
		c.asked.Store(0)
	}()
	return answer, true
}

// openChannel is OpenChannel that ends with ctx, or when there is no answer within wait, unless that
// is 0. A peer that does not even answer that is not worth keeping, so the connection goes after it.
// What the peer asks on the channel goes to serve, in a goroutine of its own.
func (c *conn) openChannel(ctx context.Context, wait time.Duration, kind string, extra []byte, serve func(<-chan *ssh.Request)) (ssh.Channel, error) {
	type opened struct {
		ch  ssh.Channel
		err error
	}

	got, gone := make(chan opened), make(chan struct{})
	var last *time.Timer // of the peer, once nobody waits any more
	go func() {
		ch, reqs, err := c.ssh.OpenChannel(kind, extra)
		select {
		case got <- opened{ch, err}:
		case <-gone:
			last.Stop()
			serve = ssh.DiscardRequests
			if err == nil {
				go ch.Close()
			}
		}
		if err == nil {
			serve(reqs)
		}
	}()
	var late <-chan time.Time
	if wait > 0 {
		limit := time.NewTimer(wait)
		defer limit.Stop()
		late = limit.C
	}

	var why error
	select {
	case o := <-got:
		if o.err != nil && strings.HasSuffix(o.err.Error(), "<nil>") { // the package's word for it
			o.err = errors.New("the line broke")
		}
		return o.ch, peerError(o.err)
	case <-late:
		why = noAnswer(wait)
	case <-ctx.Done():
		why = context.Cause(ctx)
	}

	last = time.AfterFunc(closeGrace, func() { c.close(why) })
	close(gone)
	return nil, why
}

func noAnswer(wait time.Duration) error { return fmt.Errorf("no answer in %v", wait) }

// countedConn counts bytes and remembers when the last ones moved.
type countedConn struct {
	net.Conn
	n           *counters
	heard, said atomic.Int64 // Unix nanoseconds

	coalescer  *coalescer
	sessions   atomic.Int32 // at work on it
	more       bool         // the last read filled its buffer; of the one who reads, as the next
	coalescing bool
}

func (c *countedConn) Read(p []byte) (n int, err error) {
	if n, err = c.readCoalesced(p); n == 0 && err == nil {
		n, err = c.Conn.Read(p)
	}

	c.more = n == len(p)
	if n > 0 {
		c.n.in.Add(int64(n))
		c.heard.Store(time.Now().UnixNano())
	}

	return n, err
}

func (c *countedConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if n > 0 {
		c.n.out.Add(int64(n))
		c.said.Store(time.Now().UnixNano())
	}

	return n, err
}
