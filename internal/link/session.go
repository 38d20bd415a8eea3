package link

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
)

const (
	openTimeout  = 15 * time.Second // for the host to answer that a command began, PAM and all
	staleTimeout = 5 * time.Second  // the same on a connection that was idle, before it is made anew
	closeGrace   = 2 * time.Second  // for the host to agree that a session ends
	stderrCap    = 4 << 10          // bytes of a helper's stderr that errors can quote
	maxStderr    = 1 << 20          // bytes of it that are read: a host that says more is cut off

	// packet is how much goes out at once. A connection keeps a buffer of its largest packet
	// for as long as it is open, so small ones are what make a thousand connections cheap.
	packet = 8 << 10
)

// A Session is one command that runs on a host. Reads and writes are its stdout and stdin.
// The end of its context closes it, and the connection with it when the host does not agree.
type Session struct {
	ctx    context.Context
	conn   *conn
	ch     ssh.Channel
	begun  atomic.Bool // its command was sent
	ahead  []byte      // read already, and first in line
	errs   io.Writer   // where stderr goes
	tail   *capped     // the first of stderr, when nobody else wants it
	drain  chan struct{}
	done   chan struct{}
	stop   func() bool
	left   atomic.Pointer[time.Timer] // for how long the command may go on
	code   int
	signal string
	exited bool
}

// A command is what a session runs.
type command struct {
	line  string      // for the login shell; "" is the shell itself
	pty   *ptyRequest // nil: none
	trust bool        // that it begins: the host's word for it is not waited for
}

// begin runs cmd on t's login shell. A pooled connection that turns out to be dead is
// made anew without a word, as long as the command can't have begun.
func (p *Pool) begin(ctx context.Context, t Target, cmd command, stderr io.Writer) (*Session, error) {
	for {
		c, pooled, err := p.getWithin(ctx, t, limits{p.cfg.DialTimeout, p.cfg.HandshakeTimeout})
		if err != nil {
			return nil, err
		}
		s, begun, err := c.session(ctx, cmd, stderr, pooled)
		if err == nil {
			return s, nil
		}
		if errors.Is(err, errNoCommands) {
			return nil, &Error{t.Name, ErrHelper, err}
		}
		if begun {
			return nil, &Error{t.Name, ErrLost, err}
		}
		if !pooled || ctx.Err() != nil || !c.isClosed() {
			return nil, &Error{t.Name, ErrUnreachable, err}
		}
		p.cfg.Log.Debug("connection was dead", "host", t.Name, "err", err)
	}
}

// session opens a channel on c and starts cmd there. begun says that its line was sent. The
// caller's hold on c passes to the session, which ends it when the channel does.
func (c *conn) session(ctx context.Context, cmd command, stderr io.Writer, pooled bool) (_ *Session, begun bool, err error) {
	select {
	case c.slots <- struct{}{}:
	case <-c.down:
		c.release()
		return nil, false, c.why
	case <-ctx.Done():
		c.release()
		return nil, false, context.Cause(ctx)
	}

	wait := openTimeout
	if pooled {
		wait = staleTimeout
	}

	s := &Session{ctx: ctx, conn: c, errs: stderr, drain: make(chan struct{}), done: make(chan struct{})}
	if stderr == nil {
		s.tail = &capped{max: stderrCap}
		s.errs = &limited{w: s.tail, left: maxStderr}
	}

	s.ch, err = c.openSession(ctx, wait, s.collect)
	if err != nil {
		<-c.slots
		c.release()
		return nil, false, err
	}

	go s.drainStderr()
	c.wire.n.sessions.Add(1)
	// The exec's answer is not waited for by itself: it comes with the first bytes.
	s.stop = context.AfterFunc(ctx, s.ctxEnded)
	late := time.AfterFunc(wait, func() { c.close(noAnswer(wait)) })
	err = cmd.start(s.ch)
	late.Stop()
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		s.Close()
		return nil, true, fmt.Errorf("start the command: %w", err)
	}

	s.begun.Store(true)
	return s, true, nil
}

// ctxEnded ends the session, and the connection when not even its command could be sent.
func (s *Session) ctxEnded() {
	if s.begun.Load() {
		s.abort()
	} else {
		s.conn.close(context.Cause(s.ctx))
	}
}

type ptyRequest struct {
	term          string
	width, height int
}

func (c command) start(ch ssh.Channel) error {
	if pty := c.pty; pty != nil {
		ok, err := ch.SendRequest("pty-req", true, ssh.Marshal(struct {
			Term                string
			Columns, Rows, W, H uint32
			Modes               string
		}{pty.term, uint32(pty.width), uint32(pty.height), 0, 0, "\x00"}))
		if err != nil || !ok {
			return fmt.Errorf("terminal refused: %w", orEOF(peerError(err)))
		}
	}

	kind, payload := "shell", []byte(nil)
	if c.line != "" {
		// RFC 4254, 6.5: a string, by hand since each host of a fleet is told one
		kind, payload = "exec", binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(c.line)), uint32(len(c.line)))
		payload = append(payload, c.line...)
	}

	ok, err := ch.SendRequest(kind, !c.trust, payload)
	if err != nil || !ok && !c.trust {
		return orEOF(peerError(err))
	}

	return nil
}

// errNoCommands is an SSH server that serves something else: files, or forwarding.
var errNoCommands = errors.New("its SSH server refuses to run a command")

func orEOF(err error) error {
	if err == nil {
		return errNoCommands
	}

	return err
}

// collect learns how the command ended, and gives the place back when it has.
func (s *Session) collect(reqs <-chan *ssh.Request) {
	for r := range reqs {
		switch r.Type {
		case "exit-status":
			if len(r.Payload) == 4 { // by hand, since each host of a fleet says it
				s.code, s.exited = int(binary.BigEndian.Uint32(r.Payload)), true
			}
		case "exit-signal":
			var m struct {
				Signal string
				Core   bool
				Text   string
				Lang   string
			}
			if ssh.Unmarshal(r.Payload, &m) == nil {
				s.signal, s.exited = m.Signal, true
				s.code = 128 + signalNumber(m.Signal)
			}
		}
		if r.WantReply {
			r.Reply(false, nil)
		}
	}

	s.conn.sessionEnded()
	<-s.conn.slots
	s.conn.release()
	close(s.done)
	if t := s.left.Load(); t != nil {
		t.Stop()
	}
}

func (s *Session) drainStderr() {
	defer close(s.drain)
	var none [1]byte // most say nothing, and a buffer for each of a thousand would be megabytes
	n, err := s.ch.Stderr().Read(none[:])
	if n > 0 {
		s.errs.Write(none[:n])
	}
	if err != nil {
		return
	}

	_, err = io.CopyBuffer(s.errs, s.ch.Stderr(), make([]byte, 4<<10))
	if errors.Is(err, errTooMuch) {
		s.conn.close(errTooMuch)
	}
}

// Read reads the command's stdout. When the line breaks the error is ErrLost, and never io.EOF.
func (s *Session) Read(p []byte) (int, error) {
	if len(s.ahead) > 0 {
		n := copy(p, s.ahead)
		s.ahead = s.ahead[n:]
		return n, nil
	}

	n, err := s.ch.Read(p)
	if err == nil {
		return n, nil
	}

	if s.ctx.Err() != nil {
		return n, context.Cause(s.ctx)
	}
	if errors.Is(err, io.EOF) {
		return n, s.eof()
	}

	return n, &Error{s.conn.target.Name, ErrLost, peerError(err)}
}

// eof tells an end from a loss: before the end of a channel comes how the command ended.
func (s *Session) eof() error {
	t := time.NewTimer(closeGrace)
	defer t.Stop()
	select {
	case <-s.done:
		if !s.exited {
			return s.lost()
		}
	case <-t.C: // stdout is closed and the command goes on
	}

	return io.EOF
}

func (s *Session) lost() error {
	why := errors.New("the session ended without saying how")
	if s.conn.isClosed() && s.conn.why != nil {
		why = s.conn.why
	}

	return &Error{s.conn.target.Name, ErrLost, why}
}

// Write writes to the command's stdin.
func (s *Session) Write(p []byte) (n int, err error) {
	for err == nil && n < len(p) {
		var k int
		k, err = s.ch.Write(p[n:min(n+packet, len(p))])
		n += k
	}
	if err == nil {
		return n, nil
	}

	if s.ctx.Err() != nil {
		return n, context.Cause(s.ctx)
	}

	if s.conn.isClosed() {
		return n, s.lost()
	}

	return n, fmt.Errorf("the command reads no more: %w", io.ErrClosedPipe)
}

// CloseWrite ends the command's stdin.
func (s *Session) CloseWrite() error { return s.ch.CloseWrite() }

// Wait waits for the command to end and returns its exit code, 128 and more when a signal
// ended it. Stdout must be read by then. A line that broke is ErrLost.
func (s *Session) Wait() (int, error) {
	<-s.done
	<-s.drain
	switch {
	case s.exited:
		return s.code, nil
	case s.ctx.Err() != nil:
		return 0, context.Cause(s.ctx)
	default:
		return 0, s.lost()
	}
}

// Stderr is the first of what a helper said on stderr; whole once Wait has returned.
func (s *Session) Stderr() string {
	if s.tail == nil {
		return ""
	}

	return s.tail.String()
}

// Arch is the host's architecture as Go names it, "" while nobody has asked.
func (s *Session) Arch() string { return s.conn.pool.Arch(s.conn.target.Name) }

// Close ends the session, whatever the command does. It does not wait for the host.
func (s *Session) Close() error {
	if s.stop != nil {
		s.stop()
	}

	select {
	case <-s.done:
	default:
		go s.abort()
	}

	return nil
}

// Leave is Close for a command that is about to end by itself, which spares the host a word.
func (s *Session) Leave() {
	if s.stop != nil {
		s.stop()
	}

	select {
	case <-s.done:
	default:
		s.left.Store(time.AfterFunc(closeGrace, s.abort))
	}
}

// abort asks the host to end the session; a host that does not loses the connection.
func (s *Session) abort() {
	go s.ch.Close()
	t := time.NewTimer(closeGrace)
	defer t.Stop()
	select {
	case <-s.done:
	case <-s.conn.down:
	case <-t.C:
		s.conn.close(errors.New("the host does not let a session end"))
	}
}

// capped keeps the first max bytes written to it, and takes the rest without a word.
type capped struct {
	mu  sync.Mutex
	max int
	buf bytes.Buffer
}

func (c *capped) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.buf.Write(p[:min(len(p), c.max-c.buf.Len())])
	return len(p), nil
}

func (c *capped) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.buf.String()
}

var errTooMuch = errors.New("the host says too much")

// limited fails a writer that says too much.
type limited struct {
	w    io.Writer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	if len(p) > l.left {
		return 0, errTooMuch
	}

	l.left -= len(p)
	return l.w.Write(p)
}

// signalNumber knows the signals that RFC 4254 names.
func signalNumber(name string) int {
	for n, s := range map[int]string{1: "HUP", 2: "INT", 3: "QUIT", 4: "ILL", 6: "ABRT", 8: "FPE", 9: "KILL", 10: "USR1", 11: "SEGV", 12: "USR2", 13: "PIPE", 14: "ALRM", 15: "TERM"} {
		if s == name {
			return n
		}
	}

	return 0
}
