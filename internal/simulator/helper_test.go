package simulator

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/bundle/wire"
)

// What a helper says over one connection.

// A connection is one session with a helper. It is a push.Stream to the deployer.
type connection struct {
	h *host
	n int // of the host's connections

	in     *io.PipeReader // of the helper
	toHost *io.PipeWriter
	out    *io.PipeWriter // of the helper
	answer *io.PipeReader

	once sync.Once
	gone chan struct{}
	step int // of the helper's, for its chances
}

var errCut = errors.New("cut")

func (c *connection) Read(p []byte) (int, error)  { return c.answer.Read(p) }
func (c *connection) Write(p []byte) (int, error) { return c.toHost.Write(p) }
func (c *connection) CloseWrite() error           { return c.toHost.Close() }
func (c *connection) Leave()                      { c.cut() }

func (c *connection) Close() error {
	c.cut()
	return nil
}

// cut breaks it, for both sides.
func (c *connection) cut() {
	c.once.Do(func() {
		close(c.gone)
		for _, end := range []interface{ CloseWithError(error) error }{c.in, c.toHost, c.out, c.answer} {
			end.CloseWithError(errCut)
		}
	})
}

// trouble lets some time pass, and cuts the line now and then.
func (c *connection) trouble() error {
	c.step++
	rng := c.h.chance("trouble", c.n, c.step)
	wait := time.Duration(1+rng.IntN(40))*time.Millisecond + c.h.skew(c.n)
	breaks := rng.IntN(14) == 0
	select {
	case <-time.After(wait):
	case <-c.gone:
		return errCut
	}
	if breaks && !c.h.w.calm() {
		c.h.w.trace.add(c.h.name, "a line breaks")
		c.cut()
		return errCut
	}
	return nil
}

// serve is the helper's side.
func (c *connection) serve(from io.Reader, isAhead bool) error {
	r := wire.NewReader(from)
	if !isAhead {
		if err := c.hello(false); err != nil {
			return err
		}
	}
	kind, p, err := r.Next()
	if err != nil {
		return err
	}
	if isAhead {
		if err := c.hello(true); err != nil {
			return err
		}
	}
	if err := c.trouble(); err != nil {
		return err
	}

	if kind == bundle.FrameAsk {
		var a bundle.Ask
		if err := bundle.Unmarshal(p, &a); err != nil {
			return err
		}
		return c.ask(a)
	}
	o, err := r.Offer(kind, p)
	if err != nil {
		return err
	}
	return c.offer(r, &o)
}

func (c *connection) say(kind byte, v any) error {
	if err := c.trouble(); err != nil {
		return err
	}
	return wire.WriteFrame(c.out, kind, v)
}

func (c *connection) hello(isBrief bool) error {
	h := c.h
	h.w.mu.Lock()
	said := bundle.Hello{Protocol: bundle.Protocol, Arch: "amd64", BootID: h.bootID(), Systemd: 257, Record: h.record}
	if !isBrief {
		said.Last, said.Keys = h.last, h.keyStates()
	}
	if !h.isFormer {
		said.At, said.Machine = time.Now().UnixMilli(), bundle.MachineDigest(h.name)
		said.Looks = h.w.rules != beforePersons
	}
	if h.unit.isAtWork() && h.unit.offer.Mode == bundle.ModeDeploy { // of one that brings keys there is no journal
		said.Open, said.Waits = h.unit.offer.Run, isClosed(h.unit.waits)
	}
	h.w.mu.Unlock()

	if _, err := io.WriteString(c.out, bundle.Magic); err != nil {
		return err
	}
	if err := c.say(bundle.FrameHello, said); err != nil {
		return err
	}
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	if h.record == said.Record { // else it was taken while it said that
		h.strays = false
	}
	return nil
}

// claims makes this connection the newest that may begin something; false when a newer one came. It is
// called under mu.
func (c *connection) claims() bool {
	if c.n < c.h.turn {
		return false
	}
	c.h.turn = c.n
	return true
}

// offer hears what the host should hold, and follows the unit that makes it so.
func (c *connection) offer(r *wire.Reader, o *bundle.Offer) error {
	h := c.h
	h.w.mu.Lock()
	h.works++
	res := c.prepare(o)
	h.w.mu.Unlock()
	if res != nil {
		return c.result(o.Digest, res)
	}

	for range o.Ahead {
		var b bundle.Blob
		if err := errors.Join(r.Expect(bundle.FrameBlob, &b), r.Data(b, io.Discard)); err != nil {
			return err
		}
	}
	if err := c.trouble(); err != nil {
		if o.Go { // it has all it needs
			wait := time.Duration(h.chance("later", c.n).IntN(3000))*time.Millisecond + h.skew(c.n)
			time.Sleep(wait)
			h.w.mu.Lock()
			c.start(o, nil)
			h.w.mu.Unlock()
		}
		return err
	}
	var came map[string][]byte
	if !o.Go || h.chance("asks", c.n).IntN(3) == 0 {
		var err error
		if came, err = c.want(r, o); err != nil {
			return err
		}
	}

	h.w.mu.Lock()
	u, res := c.start(o, came)
	h.w.mu.Unlock()
	if res != nil {
		return c.result(o.Digest, res)
	}
	return c.tail(u, true)
}

// prepare looks at an offer before a byte travels: what to answer; nil when it may go on. It is called
// under mu.
func (c *connection) prepare(o *bundle.Offer) *bundle.Result {
	h := c.h
	if o.Delta != nil {
		m, err := o.Delta.Apply(h.manifest)
		if err != nil {
			return &bundle.Result{Run: o.Run, Outcome: bundle.OutcomeRefused, Refused: bundle.RefusedBase, Error: "no such manifest", Record: h.record}
		}
		m.Host = o.Manifest.Host
		o.Manifest, o.Delta = m, nil
	}
	h.named = o.Manifest.Host
	if res := h.refuses(o); res != nil {
		return res
	}
	if !c.claims() {
		return &bundle.Result{Run: o.Run, Outcome: bundle.OutcomeRefused, Refused: bundle.RefusedBusy, Error: "another came", Record: h.record}
	}
	return nil
}

// want asks for every file, and for the keys that are not there, and returns the values that come.
func (c *connection) want(r *wire.Reader, o *bundle.Offer) (came map[string][]byte, err error) {
	c.h.w.mu.Lock()
	want := bundle.Want{Keys: c.h.macs(o)}
	c.h.w.mu.Unlock()
	for _, f := range o.Manifest.Files {
		if o.Mode == bundle.ModeDeploy {
			want.Files = append(want.Files, f.Digest)
		}
	}
	if err := c.say(bundle.FrameWant, want); err != nil {
		return nil, err
	}
	came = map[string][]byte{}
	for {
		kind, p, err := r.Next()
		if err != nil || kind == bundle.FrameEnd {
			return came, err
		}
		var b bundle.Blob
		var value bytes.Buffer
		if err := errors.Join(bundle.Unmarshal(p, &b), r.Data(b, &value)); err != nil {
			return nil, err
		}
		if b.Kind == bundle.BlobKey {
			came[b.Name] = value.Bytes()
		}
	}
}

// start begins the unit of an offer, or says what to answer instead. It is called under mu.
func (c *connection) start(o *bundle.Offer, came map[string][]byte) (*unit, *bundle.Result) {
	h := c.h
	if c.n < h.turn || !h.isOn {
		return nil, &bundle.Result{Run: o.Run, Outcome: bundle.OutcomeRefused, Refused: bundle.RefusedBusy, Error: "another came", Record: h.record}
	}
	if res := h.refuses(o); res != nil {
		return nil, res
	}
	if o.Mode == bundle.ModeKeys && h.record.Digest != o.Digest {
		h.w.blame("%s gets the keys of %.8s, and holds %.8s", h.name, o.Digest, h.record.Digest)
	}
	if res := h.quick(o); res != nil && len(came) == 0 {
		return nil, res
	}
	return h.begin(o, came), nil
}

// tail follows a unit to its end. isAsked says that the deployer stores what it hears: one that only waits
// for the end of a run before does not, and may try that bundle again.
func (c *connection) tail(u *unit, isAsked bool) error {
	if err := c.say(bundle.FrameEvent, bundle.Event{At: time.Now().UnixMilli(), Step: "files"}); err != nil {
		return err
	}
	for waits := u.waits; ; {
		if isClosed(u.ended) {
			waits = nil // another line confirmed it meanwhile: which of both is told is not up to chance
		}
		select {
		case <-waits:
			waits = nil
			if err := c.say(bundle.FrameEvent, bundle.Event{At: time.Now().UnixMilli(), Step: "confirm"}); err != nil {
				return err
			}
		case <-u.ended:
			if isClosed(c.gone) { // both at one instant: nobody hears it, and that is not up to chance
				return errCut
			}
			digest := ""
			if isAsked {
				digest = u.offer.Digest
			}
			return c.result(digest, u.result)
		case <-c.gone:
			return errCut
		}
	}
}

// result tells what came of a run, and notes that its deployer was told.
func (c *connection) result(digest string, res *bundle.Result) error {
	if err := c.say(bundle.FrameResult, res); err != nil {
		return err
	}
	c.h.w.mu.Lock()
	defer c.h.w.mu.Unlock()
	c.h.told(digest, res)
	return nil
}

// told notes a failure that is the bundle's fault. It is called under mu.
func (h *host) told(digest string, res *bundle.Result) {
	isFault := res.Outcome == bundle.OutcomeRefused && res.Refused == bundle.RefusedBundle
	switch res.Outcome {
	case bundle.OutcomeRolledBack:
		isFault = !res.CutOff
	case bundle.OutcomeFailed, bundle.OutcomeUnconfirmed:
		isFault = true
	}
	if isFault {
		t := h.knows[digest]
		h.knows[digest] = told{time.Now(), res.Outcome, t.count + 1, h.named}
	}
}

// ask answers anything but an offer.
func (c *connection) ask(a bundle.Ask) error {
	h := c.h
	h.w.mu.Lock()
	u, res := h.unit, h.results[a.Run]
	isOpen := u.isAtWork() && u.offer.Run == a.Run
	if a.Verb == bundle.AskVoid {
		c.claims()
	}
	if a.Verb == bundle.AskLook && !h.isFormer && h.w.rules != beforePersons {
		seen := h.seen()
		h.w.mu.Unlock()
		return c.say(bundle.FrameSeen, seen)
	}
	h.works++
	text := ""
	switch {
	case a.Verb != bundle.AskConfirm:
	case isOpen && isClosed(u.waits):
		if !isClosed(u.confirm) {
			close(u.confirm)
		}
	case res == nil || res.Outcome != bundle.OutcomeDone:
		text = "that run does not wait"
	}
	h.w.mu.Unlock()

	switch {
	case a.Verb == bundle.AskConfirm:
		return c.say(bundle.FrameReply, bundle.Reply{Error: text})
	case isOpen:
		return c.tail(u, a.Verb == bundle.AskVoid)
	case res != nil:
		return c.result(digestOf(u, a.Run), res)
	case a.Verb == bundle.AskAttach:
		return c.say(bundle.FrameReply, bundle.Reply{Error: "the host knows no such run"})
	}
	return c.say(bundle.FrameReply, bundle.Reply{})
}

// seen is what a look sees. It is called under mu.
func (h *host) seen() bundle.Seen {
	seen := bundle.Seen{BootID: h.bootID(), Working: h.unit.isAtWork()}
	if h.record != nil {
		seen.Generation = h.record.Generation
	}
	if h.edited && !seen.Working {
		seen.Drift = []bundle.Drift{{Kind: bundle.KindFile, Name: "/etc/web.conf", What: bundle.DriftChanged}}
	}
	for _, k := range h.keyStates() {
		if !k.Present && !seen.Working {
			seen.KeysMissing = append(seen.KeysMissing, k.Name)
		}
	}
	return seen
}

// digestOf is the digest of a run that the unit had; "" when that was another.
func digestOf(u *unit, run string) string {
	if u == nil || u.offer.Run != run {
		return ""
	}
	return u.offer.Digest
}
