package fleet

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/confine"
	"bellhop/internal/fleet/problem"
	"bellhop/internal/fleet/render"
	"bellhop/internal/fleet/service"
	"bellhop/internal/fleet/wire"
)

// A session is one process that loads, and the deployer's side of the wire to it.
type session struct {
	wire.Conn
	proc *confine.Process
	idle *time.Timer
	last *Fleet // the newest that it gave
	old  bool   // it took so much processor time that the next load gets a new one
}

// DefaultTimeout bounds one load.
const DefaultTimeout = 30 * time.Second

const freshIdle = 10 * time.Second

// A process that took this much processor time is replaced before the next load: the kernel's limit
// counts all of its life. It works on two processors at most, so one load takes less than this.
func (l *Loader) retireAfter() time.Duration { return time.Minute + 4*l.timeout() }

func (l *Loader) timeout() time.Duration {
	if l.Timeout > 0 {
		return l.Timeout
	}
	return DefaultTimeout
}

// DefaultMemory is how many bytes a process that loads may have.
const DefaultMemory = 512 << 20

// A DiedError says that the process that loads did not live to answer, and on what it worked.
type DiedError struct {
	File   string // of the repo; "" when it had not begun
	Reason string
}

func (e *DiedError) Error() string {
	if e.File == "" {
		return "cannot be loaded: " + e.Reason
	}
	return e.File + ": cannot be loaded: " + e.Reason
}

func (e *DiedError) problem() *problem.Problem {
	return &problem.Problem{File: e.File, Message: "cannot be loaded: " + e.Reason}
}

// Close ends the process that loads, if there is one. It is started again when it is needed.
func (l *Loader) Close() error {
	if p := l.proc.Load(); p != nil {
		p.Kill("bellhop ends") // so that nobody holds the lock for long
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.drop()
	return nil
}

func (l *Loader) drop() {
	if s := l.far; s != nil {
		l.far = nil
		l.proc.Store(nil)
		s.stopIdle()
		s.proc.Close()
	}
}

func (s *session) stopIdle() {
	if s.idle != nil {
		s.idle.Stop()
	}
}

// open is the session, begun if there is none.
func (l *Loader) open() (*session, error) {
	if l.far != nil {
		return l.far, nil
	}

	cfg := *l.Confined
	if cfg.Memory <= 0 {
		cfg.Memory = DefaultMemory
	}
	if cfg.CPU <= 0 {
		cfg.CPU = l.retireAfter() + 4*l.timeout()
	}

	p, err := confine.Start(cfg)
	if err != nil {
		return nil, err
	}

	l.far = &session{Conn: wire.Conn{R: p.Out, W: p.In}, proc: p}
	l.proc.Store(p)
	return l.far, nil
}

// call asks the process, and answers what it asks back from tree. It ends with ctx, or when the
// loader's timeout is over; then the process is gone, and the error a *DiedError.
func (l *Loader) call(ctx context.Context, tree fs.FS, m *wire.Message) (*wire.Message, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}

	s, err := l.open()
	if err != nil {
		return nil, err
	}
	s.stopIdle()
	m.Offline = l.Open == nil

	why := fmt.Sprintf("it takes longer than %v, the limit of --load-timeout", l.timeout())
	deadline := time.AfterFunc(l.timeout(), func() { s.proc.Kill(why) })
	defer deadline.Stop()
	stop := context.AfterFunc(ctx, func() { s.proc.Kill("it was ended: " + context.Cause(ctx).Error()) })
	defer stop()

	a, err := l.converse(s, tree, m)
	if err != nil {
		again := ctx.Err() == nil && s.proc.Step() == "" && !errors.Is(err, wire.ErrBroken)
		err = l.died(ctx, s, err)
		if again && s.proc.Again() {
			return l.call(ctx, tree, m)
		}
		return nil, err
	}

	if l.Idle > 0 {
		s.idle = time.AfterFunc(l.Idle, func() { l.reap(s) })
	}

	s.old = time.Duration(a.CPU)*time.Millisecond > l.retireAfter()
	return a, a.Err()
}

func (l *Loader) converse(s *session, tree fs.FS, m *wire.Message) (*wire.Message, error) {
	if err := s.Send(m); err != nil {
		return nil, err
	}

	for {
		got, err := s.Receive()
		if err != nil {
			return nil, err
		}
		if got.Op == wire.OpAnswer {
			return got, nil
		}
		a := l.serve(tree, got)
		a.Op = wire.OpAnswer
		err = s.Send(a)
		if got.Op == wire.OpOpen || got.Op == wire.OpSeal {
			clear(a.Data)
			clear(got.Data)
		}

		if err != nil {
			return nil, err
		}
	}
}

// died ends a session whose process did not answer, and says why.
func (l *Loader) died(ctx context.Context, s *session, err error) error {
	if errors.Is(err, wire.ErrBroken) {
		s.proc.Kill(err.Error())
	}

	select {
	case <-s.proc.Done(): // by itself: what it said last has the reason
	case <-time.After(10 * time.Second): // a busy machine takes its time over a process that dies
		s.proc.Kill("it closed its pipe")
	}

	e := &DiedError{File: s.proc.Step(), Reason: s.proc.Reason()}
	l.drop()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}

	return e
}

func (l *Loader) reap(s *session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.far == s {
		l.drop()
	}
}

// serve answers what the process asks.
func (l *Loader) serve(tree fs.FS, m *wire.Message) *wire.Message {
	a := &wire.Message{}
	var err error
	switch m.Op {
	default:
		return wire.ServeTree(tree, m)
	case wire.OpOpen:
		if l.Open == nil {
			err = render.ErrOffline
		} else {
			a.Data, err = l.Open(tree, m.PathName())
		}

	case wire.OpDigest:
		a.Digest, err = l.secretDigest(tree, m.PathName())
	case wire.OpSeal:
		if l.KeyDigest != nil && l.Open != nil {
			a.Digest = l.KeyDigest(m.Data)
		}
	}

	if err != nil {
		a.Fail(err)
	}

	return a
}

// secretDigest is the keyed digest of a secret, whose plaintext stays here.
func (l *Loader) secretDigest(tree fs.FS, path string) (string, error) {
	if l.Open == nil || l.KeyDigest == nil {
		return "", nil
	}
	v, err := l.opener().Value(tree, nil, &service.Key{Key: bundle.Key{Source: path}})
	if err != nil {
		return "", err
	}
	defer clear(v)
	return l.KeyDigest(v), nil
}
