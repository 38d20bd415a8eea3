package push

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"bellhop/internal/bundle"
	"bellhop/internal/bundle/wire"
	"bellhop/internal/fleet"
	"bellhop/internal/plain"
)

// offer is one session with a host: what stands, the offer, what is lacking, the result. It
// returns the boot id that the host named, filtered.
func (p *Pusher) offer(ctx context.Context, j *Job, filter *Filter) (*bundle.Result, string, error) {
	connected := p.Trace.Span(j.Host, "connect", "")
	s, err := p.open(ctx, j.Target, j.things(), nil)
	connected()
	if err != nil {
		return nil, "", err
	}
	defer s.Close()

	s.clock = j.Clock
	s.Confirm(j.confirmation)
	if s.knows(j.Run) { // an earlier line was lost
		res, err := s.Find(j.Run, filter)
		return res, filter.Word(s.Hello.BootID), err
	}
	if !s.Hello.Open.IsEmpty() {
		earlier := p.confirmEarlier(j, &s.Hello)
		defer earlier.End(false, filter)
		return nil, "", s.waitForOther(ctx, earlier, filter)
	}

	keys := openAhead(j.Bundle)
	defer keys.drop()

	o, err := p.newOffer(j, &s.Hello) // before its record is believed: it may be another host
	if err != nil {
		return nil, "", err
	}
	if err := j.OnHello(&s.Hello); err != nil {
		return nil, "", err
	}
	if res := s.ofLost(j, filter); res != nil {
		return res, filter.Word(s.Hello.BootID), j.OnBegin()
	}
	if lines := j.Bundle.TooNew(s.Hello.Systemd); len(lines) > 0 {
		return nil, "", refused(&serviceError{lines})
	}

	values, err := keys.wait()
	if err != nil {
		return nil, "", refused(err)
	}
	if err := j.OnBegin(); err != nil {
		return nil, "", err
	}
	if j.Progress != nil {
		j.Progress("begin", "")
	}

	filter.know(all(values, j.Bundle))
	defer filter.know(nil)
	res, err := s.exchange(o, j.Bundle, j.Shared, values, filter, j.Progress)
	return res, filter.Word(s.Hello.BootID), err
}

// knows says whether the host has heard of a run.
func (s *Session) knows(run string) bool {
	return s.Hello.Open.Is(run) || s.Hello.Last != nil && s.Hello.Last.Run.Is(run)
}

// ofLost is the result of the push of the same bundle whose end was never heard, where the host tells it now
// and the bundle did not stay: another try would do nothing else. Nil where there is none.
func (s *Session) ofLost(j *Job, filter *Filter) *bundle.Result {
	last := s.Hello.Last
	isIts := j.Lost != "" && last != nil && last.Run.Is(j.Lost)
	if !isIts {
		return nil
	}
	for _, outcome := range []string{bundle.OutcomeRolledBack, bundle.OutcomeUnconfirmed, bundle.OutcomeFailed} {
		if last.Outcome.Is(outcome) {
			return wire.FilterResult(s.sinceThen(last), filter.Text)
		}
	}
	return nil
}

// waitForOther waits for the end of the run that is at work there. Then the next hello says what stands, and
// what came of that run. A *NotUndoneError says that it has no end yet.
func (s *Session) waitForOther(ctx context.Context, c *Confirmation, filter *Filter) error {
	s.Confirm(c)
	res, err := s.attach(s.Hello.Open, filter)
	if err != nil && ctx.Err() != nil {
		return s.why(err)
	}
	if err == nil && res.Outcome == bundle.OutcomeFailed {
		return &NotUndoneError{Run: res.Run, Why: res.Error}
	}

	return errBusy
}

// confirmEarlier is the confirmation of the run that is at work on the host, where that is one of this
// deployer; nil where it is another's.
func (p *Pusher) confirmEarlier(j *Job, h *Hello) *Confirmation {
	i := slices.IndexFunc(j.Earlier, h.Open.Is)
	if i < 0 {
		return nil
	}
	c := p.NewConfirmation(j.Target, j.Earlier[i], j.Confirm, nil)
	c.Reattached()
	return c
}

// things is how many things the host may have to speak of.
func (j *Job) things() int {
	n := j.Bundle.Manifest.Len()
	if j.Last.Manifest != nil {
		n += j.Last.Manifest.Len()
	}

	return n
}

// nonce is what a host's answers about its keys are made with; nil where there are none.
func nonce(b *fleet.Bundle) []byte {
	if len(b.Keys) == 0 {
		return nil
	}
	n := make([]byte, 32)
	rand.Read(n)
	return n
}

// newOffer is the offer for a host that stands as hello says. It names the generation that it
// builds on, so that the host refuses when another was faster.
func (p *Pusher) newOffer(j *Job, hello *Hello) (*bundle.HostOffer, error) {
	o := &bundle.HostOffer{Offer: bundle.Offer{Run: j.Run, Mode: bundle.ModeDeploy, Deployer: p.Deployer, Digest: j.Bundle.Digest,
		Manifest: j.Bundle.Manifest.WithoutKeyDigests(), AllowPrune: j.AllowPrune, Confirm: j.Confirm.Milliseconds(),
		Origins: j.Origins, Held: j.Held, Isolates: j.Isolates, After: j.After, NoBefore: j.GoesBack}}

	rec := hello.Record
	if rec == nil {
		if j.Last.Manifest != nil {
			last := j.Last.Manifest.WithoutKeyDigests()
			o.Last = &last
		}
		return o, nil
	}

	o.Base = rec.Generation
	if !rec.Network.Is(j.Network) {
		return nil, refused(&plain.Quote{What: "by its own record it belongs to another network", Said: rec.Network})
	}
	if !rec.Host.Is(j.Host) {
		if j.Other != nil {
			if other := j.Other(hello); other != "" {
				return nil, refused(fmt.Errorf("it is the host %q, by its own record: two names for one machine", other))
			}
		}
		o.Formerly = rec.Host
	}
	if !rec.Deployer.Is(p.Deployer) {
		if !j.TakeOver && !j.Last.Had {
			return nil, refused(&plain.Quote{What: "its record names another deployer (--take-over takes it)", Said: rec.Deployer})
		}
		o.TakeOver = true
	}

	return o, nil
}

// exchange makes the offer o of what b holds, sends what is wanted, and follows the run on the
// host to its result. values are those of its keys.
func (s *Session) exchange(o *bundle.HostOffer, b *fleet.Bundle, shared *Shared, values map[string][]byte, filter *Filter, progress func(step, text string)) (*bundle.Result, error) {
	o.Nonce = nonce(b)
	out, putBack := buffered(s.stream)
	defer putBack()

	frame, err := shared.manifest(b)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(writeOffer(out, o, frame), out.Flush()); err != nil {
		return nil, s.why(fmt.Errorf("send the offer: %w", err))
	}

	return s.answer(o, b, shared, values, filter, progress)
}

// answer hears what the host says to the offer o, and goes on from there.
func (s *Session) answer(o *bundle.HostOffer, b *fleet.Bundle, shared *Shared, values map[string][]byte, filter *Filter, progress func(step, text string)) (*bundle.Result, error) {
	done := s.within(s.p.Limits.Preflight, "preflight")
	heard := s.span("offer")
	m, err := s.r.Next()
	heard()
	if err != nil {
		err = s.why(fmt.Errorf("hear what is lacking: %w", err))
		if o.Go {
			err = lost(err)
		}
		return nil, err
	}
	done()

	want, ok := m.(*bundle.HostWant)
	if _, isEvent := m.(*bundle.HostEvent); isEvent && !o.Go {
		return nil, wire.Misplaced(m)
	}
	if !ok {
		res, err := s.follow(m, filter, progress)
		if err != nil && o.Go {
			err = lost(s.why(err))
		}
		return res, err
	}

	out, putBack := buffered(s.stream)
	defer putBack()
	if err := s.send(out, o, b, shared, want, values); err != nil {
		return nil, s.why(err)
	}

	// From here on the host can be at work, whatever becomes of the line.
	if err := errors.Join(wire.WriteFrame(out, bundle.FrameEnd, struct{}{}), out.Flush()); err != nil {
		return nil, lost(s.why(err))
	}
	res, err := s.follow(nil, filter, progress)
	if err != nil {
		return nil, lost(s.why(err))
	}

	return res, nil
}

// outs are buffers of what goes to hosts: frames that follow each other travel in few packets.
var outs = sync.Pool{New: func() any { return bufio.NewWriterSize(nil, 8<<10) }}

// buffered returns a buffer before w. putBack clears it: keys pass through it.
func buffered(w io.Writer) (out *bufio.Writer, putBack func()) {
	out = outs.Get().(*bufio.Writer)
	out.Reset(w)
	return out, func() {
		out.Reset(nil)
		all := out.AvailableBuffer()
		clear(all[:cap(all)])
		outs.Put(out)
	}
}

// writeOffer writes o, with its manifest before it as it was encoded for all bundles of its kind.
func writeOffer(out *bufio.Writer, o *bundle.HostOffer, frame []byte) error {
	if _, err := out.Write(frame); err != nil {
		return err
	}
	rest := *o
	rest.Manifest = bundle.Manifest{Network: o.Manifest.Network, Host: o.Manifest.Host}
	return wire.WriteFrame(out, bundle.FrameOffer, &rest)
}
