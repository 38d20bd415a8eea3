package push

import (
	"context"
	"errors"
	"io"

	"bellhop/internal/bundle"
	"bellhop/internal/bundle/wire"
	"bellhop/internal/link"
	"bellhop/internal/plain"
)

// ErrCannotLook says that the helper on a host is of a former release, which can't look.
var ErrCannotLook = errors.New("the helper on the host is of a release that can't look")

// Look asks t what differs there from what was put in place, and how its units and keys do: one session,
// which changes nothing on the host. The caller closes the session, of which nothing but the hello can be
// had any more. With ErrCannotLook there is a session too.
func (p *Pusher) Look(ctx context.Context, t link.Target, what bundle.Look) (*Session, *bundle.HostSeen, error) {
	ask := func(w io.Writer) error {
		return wire.WriteFrame(w, bundle.FrameAsk, bundle.Ask{Verb: bundle.AskLook, Look: &what})
	}
	first := ask // with the command that starts the helper, which saves a round trip
	if p.Memory.isPlainOnly(t.Name) {
		first = nil
	}

	s, err := p.open(ctx, t, 0, first)
	if err != nil {
		return nil, nil, err
	}
	if !s.Hello.Looks {
		return s, nil, ErrCannotLook
	}

	seen, err := s.look(what, first == nil, ask)
	if err != nil {
		err = s.why(err)
		s.Close()
		return nil, nil, err
	}
	return s, seen, nil
}

// look reads the answer, for which it asks where that was not done yet.
func (s *Session) look(what bundle.Look, isToAsk bool, ask func(io.Writer) error) (*bundle.HostSeen, error) {
	defer s.within(s.p.Limits.Patience, "look at "+s.host)()
	s.r.ExpectSeen(what)
	if isToAsk {
		if err := ask(s.stream); err != nil {
			return nil, err
		}
	}

	m, err := s.r.Next()
	if err != nil {
		return nil, err
	}
	s.over = true
	switch m := m.(type) {
	case *bundle.HostSeen:
		return m, nil
	case *bundle.HostReply:
		return nil, &plain.Quote{What: "look: the host says", Said: m.Error}
	}
	return nil, wire.Misplaced(m)
}
