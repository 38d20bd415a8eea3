package push

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/bundle/wire"
	"bellhop/internal/link"
	"bellhop/internal/plain"
)

// A Hello is what a helper said first. Its texts are the host's own: they are compared, and
// become text through a Filter.
type Hello struct {
	bundle.HostHello
	Arch  string // one that Go has a name for, or ""
	Brief bool   // it was spoken to first, and says nothing of keys
}

// KeysPresent is how many keys of the generation that stands are there; ok is false when the
// host did not say.
func (h *Hello) KeysPresent() (n int, ok bool) {
	for _, k := range h.Keys {
		if k.Present {
			n++
		}
	}

	return n, !h.Brief
}

// archs are the architectures that a helper can be built for.
var archs = []string{"amd64", "arm64", "arm", "386", "riscv64", "ppc64le", "s390x", "loong64"}

// archOf is the architecture that a host named, as one of ours.
func archOf(said plain.Foreign) string {
	for _, a := range archs {
		if said.Is(a) {
			return a
		}
	}

	return ""
}

// A Session is a helper that said hello. It is for one goroutine, and is closed by it.
type Session struct {
	Hello Hello

	p      *Pusher
	stream Stream
	r      *wire.HostReader
	ctx    context.Context
	cancel context.CancelCauseFunc
	unhook func() bool // from the end of ctx
	over   bool        // the helper has said its last word
	untie  func() bool // from the end of the context that it was opened with

	clock        *Clock        // of the push; nil: nobody counts
	confirmation *Confirmation // of the run that is followed; nil: nobody waits for one
	confirmed    func()        // ends the time that the host has for it; nil: it does not wait yet
	shown        int           // bytes of its events that were passed on
	host         string        // its name in the fleet
}

// Open starts the helper on t, and hears its hello. things is how many things the host may have
// to speak of; 0 when that is not known.
func (p *Pusher) Open(ctx context.Context, t link.Target, things int) (*Session, error) {
	return p.open(ctx, t, things, nil)
}

// open is Open with first, which, unless it is nil, writes what the helper hears first.
func (p *Pusher) open(ctx context.Context, t link.Target, things int, first func(io.Writer) error) (*Session, error) {
	return p.openBy(ctx, p.Links.Helper, t, things, first)
}

// A starter starts the helper on a host, as Links.Helper does.
type starter func(ctx context.Context, t link.Target, first func(io.Writer) error) (Stream, error)

// openBy is open over the connection that start chooses.
func (p *Pusher) openBy(parent context.Context, start starter, t link.Target, things int, first func(io.Writer) error) (*Session, error) {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(parent))
	s := &Session{p: p, host: t.Name, ctx: ctx, cancel: cancel}
	s.untie = context.AfterFunc(parent, func() { cancel(context.Cause(parent)) })
	defer s.within(p.Limits.Connect, "connect to "+t.Name)()

	stream, err := start(ctx, t, first)
	if err != nil {
		err = s.why(err)
		s.untie()
		cancel(nil)
		return nil, err
	}
	s.stream = stream
	s.unhook = context.AfterFunc(ctx, func() { stream.Close() })
	s.r = wire.NewHostReader(stream, things)

	if err := s.greet(first != nil); err != nil {
		err = s.why(err)
		s.Close()
		return nil, err
	}
	if p.Heard != nil {
		p.Heard(t.Name, &s.Hello)
	}

	return s, nil
}

// greet hears the hello.
func (s *Session) greet(brief bool) error {
	noise, err := s.r.SkipNoise()
	if err != nil && !noise.IsEmpty() {
		return &plain.Quote{What: "hear the helper: no bellhop helper answered, but", Said: noise, Cause: err}
	}
	if err != nil {
		return fmt.Errorf("hear the helper: %w", err)
	}

	hello, err := s.r.Hello()
	if err != nil {
		return fmt.Errorf("hear the helper: %w", err)
	}
	if hello.Protocol < bundle.OldestProtocol || hello.Protocol > bundle.Protocol {
		return &fated{Failed, fmt.Errorf("the helper speaks protocol %d, this bellhop %d", hello.Protocol, bundle.Protocol)}
	}
	s.p.Trace.HostClock(s.host, hello.At)
	s.Hello = Hello{HostHello: *hello, Arch: archOf(hello.Arch), Brief: brief}
	return nil
}

// within ends the session when the returned func is not called in time.
func (s *Session) within(limit time.Duration, what string) (done func()) {
	t := time.AfterFunc(limit, func() { s.cancel(fmt.Errorf("%s: not done in %v", what, limit)) })
	return func() { t.Stop() }
}

// Count has c count the time of the run that s follows.
func (s *Session) Count(c *Clock) { s.clock = c }

// Confirm has c confirm the run that s follows, as soon as the host waits for that.
func (s *Session) Confirm(c *Confirmation) { s.confirmation = c }

// confirm begins to confirm. From here on the end of the deployer does not end the session: the host
// needs no more than a word, and its result follows.
func (s *Session) confirm() {
	if s.confirmation == nil {
		return
	}
	s.untie()
	if s.confirmed == nil {
		s.confirmed = s.within(s.confirmation.window+confirmGrace, "confirm")
		s.confirmation.begin()
	}
}

// why is the cause that ended the session, rather than the error that this looks like.
func (s *Session) why(err error) error {
	if cause := context.Cause(s.ctx); cause != nil && s.ctx.Err() != nil {
		return cause
	}

	return err
}

var errDone = errors.New("done")

// Close ends the session. The stream is closed before its context ends: the other way round,
// each who waits for that end would close it too, with goroutines of its own.
func (s *Session) Close() {
	if s.stream != nil {
		s.unhook()
		if s.over {
			s.stream.Leave()
		} else {
			s.stream.Close()
		}
	}
	s.untie()
	s.cancel(errDone)
	if s.confirmed != nil {
		s.confirmed()
	}
	if s.r != nil {
		s.r.Done()
	}
}
