package wire

import (
	"errors"
	"fmt"
	"io"

	"bellhop/internal/bundle"
	"bellhop/internal/plain"
)

// ErrProtocol says that a host did not keep to the protocol: it said too much, or something
// else than belongs there. No retry helps.
var ErrProtocol = errors.New("the host does not keep to the protocol")

// What a host may say is bounded by what it was asked about: base bytes, and perThing for each
// thing of its manifests. A host that nobody knows gets fewThings.
const (
	fewThings = 2048

	baseHello  = 256 << 10 // keys, and the last result
	baseWant   = 64 << 10
	baseResult = 256 << 10
	baseSeen   = 256 << 10
	perThing   = 256

	maxEvent      = 16 << 10     // one event
	allEvents     = 1 << 20      // of one session
	eventOfThing  = 64           // what a thing adds to that
	maxReply      = 64 << 10     // an error, in practice
	maxText       = 32 << 10     // one text of any message
	frameCost     = 64           // what reading a frame costs, beside its bytes
	maxSystemd    = 1 << 20      // version number
	maxGeneration = 1 << 53      // a double's, as JSON has them
	maxExit       = 1 << 16      // code or signal of a unit, status of an HTTP answer
	maxSeconds    = 253402300799 // the last second of the year 9999, which JSON's times end at
)

// A HostReader reads what a host says to its deployer. Nothing of it is trusted: each kind of
// message has a cap of its own, checked while it is inflated; its JSON is counted before it is
// decoded; and a session has a budget of bytes. What goes over is ErrProtocol. Texts are
// plain.Foreign. It is for one goroutine.
type HostReader struct {
	r      *Reader
	things int
	left   int64        // of the session's budget, bytes
	look   *bundle.Look // that the host was asked for; nil: none
}

// NewHostReader returns a HostReader of r. things is how many things the manifests have that
// the host is asked about.
func NewHostReader(r io.Reader, things int) *HostReader {
	h := &HostReader{r: NewReader(r), things: max(things, fewThings)}
	h.left = allEvents + int64(eventOfThing*h.things)
	for _, kind := range []byte{bundle.FrameHello, bundle.FrameWant, bundle.FrameResult, bundle.FrameReply} {
		h.left += h.limit(kind) + frameCost
	}

	return h
}

// Done gives the buffer back; the HostReader reads no more.
func (h *HostReader) Done() { h.r.Done() }

// SkipNoise reads up to and with Magic. It returns ErrNoMagic, with what was read first, when
// the stream ends or MaxNoise bytes pass without it.
func (h *HostReader) SkipNoise() (noise plain.Foreign, err error) {
	p, err := h.r.SkipNoise()
	return plain.NewForeign(string(p)), err
}

// ExpectSeen lets the host answer an AskLook, once.
func (h *HostReader) ExpectSeen(asked bundle.Look) {
	h.look = &asked
	h.left += h.limit(bundle.FrameSeen) + frameCost
}

// Hello reads the first message.
func (h *HostReader) Hello() (*bundle.HostHello, error) {
	m, err := h.Next()
	if err != nil {
		return nil, err
	}
	hello, ok := m.(*bundle.HostHello)
	if !ok {
		return nil, Misplaced(m)
	}

	return hello, nil
}

// Misplaced is the error that m came where another message belongs.
func Misplaced(m any) error {
	name := "reply"
	switch m.(type) {
	case *bundle.HostHello:
		name = "hello"
	case *bundle.HostWant:
		name = "want"
	case *bundle.HostEvent:
		name = "event"
	case *bundle.HostResult:
		name = "result"
	case *bundle.HostSeen:
		name = "seen"
	}

	return fmt.Errorf("%w: a message %q came where another belongs", ErrProtocol, name)
}

// Next reads one message: a *HostHello, *HostWant, *HostEvent, *HostResult, *HostReply or,
// where it was expected, *HostSeen.
func (h *HostReader) Next() (any, error) {
	kind, p, err := h.r.next(h.cap)
	if err != nil {
		return nil, err
	}

	h.left -= int64(len(p)) + frameCost
	if h.left < 0 {
		return nil, fmt.Errorf("%w: in one session it said more than it could have to say", ErrProtocol)
	}

	m := message(kind)
	if err := checkJSON(p, h.bounds(kind)); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrProtocol, kindName[kind], err)
	}
	if err := bundle.Unmarshal(p, m); err != nil { // its text quotes the host
		return nil, fmt.Errorf("%w: %s: it is not the JSON that belongs there", ErrProtocol, kindName[kind])
	}
	if err := h.check(m); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrProtocol, kindName[kind], err)
	}

	return m, nil
}

var kindName = map[byte]string{bundle.FrameHello: "hello", bundle.FrameWant: "want", bundle.FrameEvent: "event", bundle.FrameResult: "result", bundle.FrameReply: "reply", bundle.FrameSeen: "seen"}

// bounds are those of the JSON of a message.
func (h *HostReader) bounds(kind byte) bounds {
	b := bounds{values: 4096 + 24*h.things, text: maxText}
	if kind == bundle.FrameSeen {
		b.text = 2 * bundle.MaxLookFile // in base64
	}
	return b
}

// check refuses numbers that no host has, and an answer to what was not asked.
func (h *HostReader) check(m any) error {
	seen, ok := m.(*bundle.HostSeen)
	if !ok {
		return checkNumbers(m)
	}

	asked := *h.look
	h.look = nil
	return checkSeen(seen, &asked)
}

func message(kind byte) any {
	switch kind {
	case bundle.FrameHello:
		return new(bundle.HostHello)
	case bundle.FrameWant:
		return new(bundle.HostWant)
	case bundle.FrameEvent:
		return new(bundle.HostEvent)
	case bundle.FrameResult:
		return new(bundle.HostResult)
	case bundle.FrameSeen:
		return new(bundle.HostSeen)
	}
	return new(bundle.HostReply)
}

// limit is how many bytes a message of a kind may have, inflated.
func (h *HostReader) limit(kind byte) int64 {
	things := int64(perThing * h.things)
	switch kind {
	case bundle.FrameHello:
		return baseHello + things
	case bundle.FrameWant:
		return baseWant + things
	case bundle.FrameResult:
		return baseResult + things
	case bundle.FrameEvent:
		return maxEvent
	case bundle.FrameSeen:
		if len(h.look.Contents) > 0 {
			things += 2 * bundle.MaxLookBytes
		}
		return baseSeen + things
	}

	return maxReply
}

// cap refuses what no host has to say, before any of it is read.
func (h *HostReader) cap(kind byte) (int64, error) {
	if isUnasked := kind == bundle.FrameSeen && h.look == nil; isUnasked || kindName[kind] == "" {
		return 0, fmt.Errorf("%w: frame %q came", ErrProtocol, kind)
	}
	return h.limit(kind), nil
}

// checkNumbers refuses numbers that arithmetic, JSON or a calendar ends at.
func checkNumbers(m any) error {
	var rec *bundle.HostRecord
	var keys []bundle.HostKeyState

	switch m := m.(type) {
	case *bundle.HostHello:
		if m.Systemd < 0 || m.Systemd > maxSystemd {
			return errors.New("systemd has no such version")
		}
		if s := m.System; s != nil && (s.Number < 0 || s.Number > maxGeneration) {
			return errors.New("a profile has no such generation")
		}
		if m.Last != nil {
			if err := checkNumbers(m.Last); err != nil {
				return err
			}
		}
		rec, keys = m.Record, m.Keys

	case *bundle.HostResult:
		if m.TookMillis < 0 || m.TookMillis > 1000*maxSeconds {
			return errors.New("no run takes so long")
		}
		for _, e := range m.Evidence {
			if e.Exit < 0 || e.Exit > maxExit {
				return errors.New("nothing ends with such a status")
			}
		}
		rec, keys = m.Record, m.Keys
	}

	if rec != nil && (rec.Generation < 0 || rec.Generation > maxGeneration) {
		return errors.New("there is no such generation")
	}

	for _, k := range keys {
		if k.Since < 0 || k.Since > maxSeconds {
			return errors.New("a key's time is out of the calendar")
		}
	}

	return nil
}

// checkSeen refuses what no look sees: numbers that arithmetic or a calendar ends at, and other contents
// than were asked for.
func checkSeen(s *bundle.HostSeen, asked *bundle.Look) error {
	if s.Generation < 0 || s.Generation > 1<<53 {
		return errors.New("there is no such generation")
	}

	for _, n := range []int{s.Running, s.DriftMore, s.Read} {
		if n < 0 || n > maxSystemd {
			return errors.New("no host has so many things")
		}
	}

	for _, u := range s.FailedUnits {
		if u.Since < 0 || u.Since > maxSeconds {
			return errors.New("a unit's time is out of the calendar")
		}
	}

	if len(s.Contents) != 0 && len(s.Contents) != len(asked.Contents) {
		return fmt.Errorf("it was asked for %d files", len(asked.Contents))
	}

	return nil
}
