package push

import (
	"bytes"
	"crypto/hmac"
	"errors"
	"fmt"
	"io"

	"bellhop/internal/bundle"
	"bellhop/internal/bundle/wire"
	"bellhop/internal/fleet"
	"bellhop/internal/plain"
)

// What is shown of a host's events, bytes: of one, and of all in one session. So one host can't
// drown the lines of others.
const (
	maxEvent    = 1 << 10
	maxProgress = 32 << 10
)

// span begins a span of the trace, on the track of the host.
func (s *Session) span(name string) (end func()) { return s.p.Trace.Span(s.host, name, "") }

// send sends what the host lacks, each thing once, and nothing that it did not ask for.
func (s *Session) send(out io.Writer, o *bundle.HostOffer, b source, shared *Shared, want *bundle.HostWant, values map[string][]byte) error {
	defer s.span("blobs")()
	sent := map[string]bool{}
	for _, f := range o.Manifest.Files {
		if !want.Files.Has(f.Digest) || sent[f.Digest] {
			continue
		}
		sent[f.Digest] = true
		if err := shared.writeFile(out, b, f.Digest); err != nil {
			return err
		}
	}
	if len(sent) < want.Files.Len() {
		return &fated{Failed, fmt.Errorf("%w: it asked for a file that is not in its bundle", wire.ErrProtocol)}
	}

	if err := s.sendPackages(out, o, b, want); err != nil {
		return err
	}

	for _, key := range o.Manifest.Keys {
		v, opened := values[key.Name]
		if !opened && (want.Keys.Has(key.Name) || o.Mode == bundle.ModeKeys) {
			continue // the host has a copy of a key that nobody can open any more, or goes on without it
		}
		if !opened {
			return refused(fmt.Errorf("key %s is not on the host, and %w", key.Name, fleet.ErrKeptKey))
		}
		if mac, there := want.Keys.Of(key.Name); there && hmac.Equal(mac, bundle.KeyMAC(o.Nonce, v)) {
			continue
		}
		blob := bundle.Blob{Kind: bundle.BlobKey, Name: key.Name, Size: int64(len(v))}
		if err := wire.WriteBlob(out, blob, bytes.NewReader(v)); err != nil {
			return err
		}
	}
	return nil
}

func (s *Session) sendPackages(out io.Writer, o *bundle.HostOffer, b source, want *bundle.HostWant) error {
	sent := map[string]bool{}
	for _, pkg := range o.Manifest.Packages {
		if !want.Packages.Has(pkg.Digest) || sent[pkg.Digest] {
			continue
		}
		sent[pkg.Digest] = true
		if err := s.sendPackage(out, b, pkg); err != nil {
			return &PackageError{Package: pkg, err: err}
		}
	}
	if len(sent) < want.Packages.Len() {
		return &fated{Failed, fmt.Errorf("%w: it asked for a package that is not in its bundle", wire.ErrProtocol)}
	}
	return nil
}

// A source has the bytes of a bundle.
type source interface {
	File(digest string) ([]byte, error)
	Package(digest string) (io.ReadCloser, int64, error)
}

func (s *Session) sendPackage(out io.Writer, b source, pkg bundle.Package) error {
	open := b.Package
	if pkg.URL != "" {
		open = func(string) (io.ReadCloser, int64, error) { return s.p.fetchPackage(s.ctx, pkg) }
	}
	f, size, err := open(pkg.Digest)
	if err != nil {
		return err
	}
	defer f.Close()
	return wire.WriteBlob(out, bundle.Blob{Kind: bundle.BlobPackage, Name: pkg.Digest, Size: size}, f)
}

// follow reads events up to the result. m, unless it is nil, was read already.
func (s *Session) follow(m any, filter *Filter, progress func(step, text string)) (*bundle.Result, error) {
	defer s.span("wait")()
	defer s.p.Trace.HostEnd(s.host)
	for {
		if m == nil {
			var err error
			if m, err = s.r.Next(); err != nil {
				return nil, fmt.Errorf("hear the result: %w", err)
			}
		}

		switch said := m.(type) {
		case *bundle.HostEvent:
			s.clock.step(helperStep(said))
			if said.Step.Is(stepConfirm) {
				s.confirm()
			}
			s.show(said, filter, progress)
		case *bundle.HostResult:
			s.over = true
			if said.Record != nil { // newer than the hello, which may have come while the run was at work
				s.Hello.Record = said.Record
			}
			return wire.FilterResult(said, filter.Text), nil
		case *bundle.HostReply:
			return nil, errorOf(said)
		default:
			return nil, wire.Misplaced(m)
		}
		m = nil
	}
}

// show passes an event on to those who watch, and to the trace.
func (s *Session) show(e *bundle.HostEvent, filter *Filter, progress func(step, text string)) {
	isWatched := progress != nil || s.p.Trace != nil
	if !isWatched || s.shown >= maxProgress {
		return
	}

	step, text := stepOf(e, filter), filter.line(e.Text, maxEvent)
	if progress != nil {
		progress(step, text)
	}
	s.p.Trace.HostStep(s.host, step, text, e.At)
	s.shown += len(text) + frameCost
}

// errorOf is a host's reply, as an error.
func errorOf(r *bundle.HostReply) error {
	if r.Error.IsEmpty() {
		return errors.New("the host ended without a result")
	}
	return &plain.Quote{What: "the host says", Said: r.Error}
}

// stepConfirm is the step of a host that waits to be confirmed.
const stepConfirm = "confirm"

const frameCost = 64 // of an event, beside its text

// ownSteps are steps of which a deployer speaks itself: a host can't say that a run ended.
var ownSteps = []string{"sync", "load", "plan", "connect", "note", "detached", "deploying", "end"}

// helperSteps are those of a helper. Each event names one, so they are spared the filter, for
// which keys would be opened in every push that somebody watches.
var helperSteps = []string{"preflight", "before", "begin", "stop", "keep", "accounts", "files", "tmpfiles", "keys", "reload", "start", "health",
	"applied", "confirm", "done", "undo", "wait", "restart"}

// helperStep is the step that an event names, if it is one of a helper; "" otherwise.
func helperStep(e *bundle.HostEvent) string {
	for _, step := range helperSteps {
		if e.Step.Is(step) {
			return step
		}
	}
	return ""
}

// stepOf is the step that an event names, if it is one that a helper may have.
func stepOf(e *bundle.HostEvent, filter *Filter) string {
	const most = 20
	if e.Step.Len() > most {
		return "host"
	}
	if step := helperStep(e); step != "" {
		return step
	}
	for _, own := range ownSteps {
		if e.Step.Is(own) {
			return "host"
		}
	}

	step := filter.line(e.Step, most)
	for _, c := range step {
		if (c < 'a' || c > 'z') && c != '-' {
			return "host"
		}
	}
	return step
}
