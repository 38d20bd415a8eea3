package push

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"sync"

	"bellhop/internal/bundle"
	"bellhop/internal/link"
)

// Most hosts stand where the deployer remembers them. To such a host the offer goes out with the
// command that starts its helper, and with the small files that the plan says it lacks, so that
// a push costs one round trip after the channel's own. A host that stands elsewhere refuses, by
// the generation that every offer names, and is offered again after its hello.

// errStale says that a host refused an optimistic offer: its hello must be heard first.
var errStale = errors.New("the host stands elsewhere than remembered")

// maxUnasked is how many bytes of files are sent unasked, all in all. A host that went back to
// an older commit has them; what is large is asked for.
const maxUnasked = 32 << 10

// An optimistic is an offer that goes out before its host was heard.
type optimistic struct {
	o     *bundle.HostOffer
	files []string // digests of what goes with it
	keys  *opening // begun when the host was reached
	sent  bool
	err   error // of the line that it was sent on
}

// optimistic makes the offer for a host that stands as j.Last says; nil when that is not known,
// when this push has rights that only count after a look, or when the host did not hear one
// before.
func (p *Pusher) optimistic(j *Job) *optimistic {
	last := j.Last
	hasManifest := last.Manifest != nil && last.Had
	isKnown := hasManifest && last.Digest != "" && last.Generation != 0
	if !isKnown || j.TakeOver || p.Memory.isPlainOnly(j.Host) {
		return nil
	}

	e := &optimistic{o: &bundle.HostOffer{Offer: bundle.Offer{Run: j.Run, Mode: bundle.ModeDeploy, Nonce: nonce(j.Bundle), Deployer: p.Deployer,
		Digest: j.Bundle.Digest, Base: last.Generation, Manifest: j.Bundle.Manifest.WithoutKeyDigests(), AllowPrune: j.AllowPrune,
		Confirm: j.Confirm.Milliseconds(), Origins: j.Origins, Held: j.Held, Isolates: j.Isolates, After: j.After, NoBefore: j.GoesBack,
		Go: len(j.Bundle.Keys) == 0}}}
	if !j.GoesBack {
		e.files = j.Shared.lacking(last.From, last.Manifest, j.Bundle)
	}
	e.o.Ahead = len(e.files)
	return e
}

// lacking are the digests of files that are in is and not in was, as many as may go unasked.
func lacking(was, is *bundle.Manifest) []string {
	had := make(map[string]bool, len(was.Files))
	for _, f := range was.Files {
		had[f.Digest] = true
	}

	var digests []string
	left := int64(maxUnasked)
	for _, f := range is.Files {
		if !had[f.Digest] && f.Size <= left {
			had[f.Digest] = true
			digests = append(digests, f.Digest)
			left -= f.Size
		}
	}

	return digests
}

// send says that the host was begun, and writes the offer and its files. It may be called again,
// when the helper had to be put there first. A line that breaks is for whoever reads from it.
func (e *optimistic) send(j *Job, w io.Writer) error {
	frame, err := j.Shared.delta(j.Last.From, j.Last.Manifest, j.Bundle)
	if err != nil {
		return err
	}
	if e.keys == nil {
		e.keys = openAhead(j.Bundle)
	}
	if !e.sent {
		if err := j.OnBegin(); err != nil {
			return err
		}
		e.sent = true
	}

	out, putBack := buffered(w)
	defer putBack()
	e.err = writeOffer(out, e.o, frame)
	for _, digest := range e.files {
		if e.err != nil {
			return nil
		}
		e.err = j.Shared.writeFile(out, j.Bundle, digest)
		if FateOf(e.err) == Refused { // it can't be read here
			return e.err
		}
	}
	if e.err == nil {
		e.err = out.Flush()
	}

	return nil
}

// mayBeAtWork says that the host may be at work though its helper said nothing that could be
// read. A helper says hello before it does anything.
func (e *optimistic) mayBeAtWork(err error) bool {
	goesOnAlone := e.sent && e.o.Go
	if errors.Is(err, link.ErrNotBegun) || link.HardStop(err) {
		return false
	}

	return goesOnAlone && FateOf(err) == Waiting
}

// offerOptimistic is offer without the look before. errStale: it was refused, and the look is
// due.
func (p *Pusher) offerOptimistic(ctx context.Context, j *Job, filter *Filter, e *optimistic) (*bundle.Result, string, error) {
	defer func() { e.keys.drop() }()

	connected := p.Trace.Span(j.Host, "connect", "with the offer")
	s, err := p.open(ctx, j.Target, j.things(), func(w io.Writer) error { return e.send(j, w) })
	connected()
	if err != nil {
		if e.err != nil {
			err = fmt.Errorf("%w (sending the offer: %w)", err, e.err)
		}
		if e.sent {
			p.Memory.heardOptimistic(j.Host, false)
		}
		if e.mayBeAtWork(err) {
			err = lost(err)
		}
		return nil, "", err
	}
	defer s.Close()

	s.clock = j.Clock
	s.Confirm(j.confirmation)
	p.Memory.heardOptimistic(j.Host, true)
	if !p.stillHolds(j, e, s) {
		if err := p.believe(j, s); err != nil {
			return nil, "", err
		}
		return s.hearRefusal(filter)
	}
	if err := j.OnHello(&s.Hello); err != nil {
		if e.o.Go { // it goes on
			err = lost(err)
		}
		return nil, "", err
	}
	values, err := e.keys.wait()
	if err != nil {
		return nil, "", refused(err)
	}
	if j.Progress != nil {
		j.Progress("begin", "")
	}

	filter.know(all(values, j.Bundle))
	defer filter.know(nil)
	res, err := s.answer(e.o, j.Bundle, j.Shared, values, filter, j.Progress)
	if err == nil && isRefused(res, bundle.RefusedBase) {
		err = errStale
	}

	return res, filter.Word(s.Hello.BootID), err
}

// believe has the deployer take over the record of a host that stands elsewhere than remembered: the line may
// break before the host has refused.
func (p *Pusher) believe(j *Job, s *Session) error {
	if _, err := p.newOffer(j, &s.Hello); err != nil || !s.Hello.Open.IsEmpty() {
		return nil
	}
	return j.OnHello(&s.Hello)
}

// stillHolds says that the offer which was sent is the one that would be made now that the host
// said hello.
func (p *Pusher) stillHolds(j *Job, e *optimistic, s *Session) bool {
	o, err := p.newOffer(j, &s.Hello)
	if err != nil || o.Base != e.o.Base {
		return false
	}
	if o.TakeOver || o.Last != nil {
		return false
	}

	return o.Formerly.IsEmpty() && s.Hello.Open.IsEmpty()
}

// hearRefusal hears how a host that stands elsewhere refuses, or that it can't settle a run
// before.
func (s *Session) hearRefusal(filter *Filter) (*bundle.Result, string, error) {
	defer s.within(s.p.Limits.Preflight, "preflight")()

	res, err := s.follow(nil, filter, nil)
	if err != nil {
		return nil, "", lost(s.why(err))
	}
	if res.Outcome == bundle.OutcomeRefused || res.Outcome == bundle.OutcomeFailed {
		return nil, "", errStale
	}

	return res, filter.Word(s.Hello.BootID), nil
}

// Memory is what Pushers learn between pushes, for as long as the process lives. The zero Memory
// is ready; it is not copied.
type Memory struct {
	packages packages

	mu sync.Mutex
	// plainOnly counts, by host, the optimistic offers in a row that it did not hear. A host
	// whose login shell reads what is meant for the helper never does, and to wait for each
	// answer would cost half a minute; a line may break once.
	plainOnly map[string]int
}

// KeepOnly forgets every host that is not listed, since it left the repo.
func (m *Memory) KeepOnly(listed func(host string) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.DeleteFunc(m.plainOnly, func(host string, _ int) bool { return !listed(host) })
}

func (m *Memory) heardOptimistic(host string, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.plainOnly == nil {
		m.plainOnly = map[string]int{}
	}
	if m.plainOnly[host]++; ok {
		delete(m.plainOnly, host)
	}
}

func (m *Memory) isPlainOnly(host string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.plainOnly[host] >= 2
}
