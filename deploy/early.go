package deploy

import (
	"context"
	"errors"
	"fmt"
	"io"

	"bellhop/internal/bundle"
	"bellhop/internal/history"
	"bellhop/internal/link"
)

// Most hosts stand where history remembers them. To such a host the offer goes out with the
// command that starts its helper, and with the small files that the plan says it lacks, so
// that a push costs one round trip after the channel's own. A host that stands elsewhere
// refuses, by the generation that every offer names, and is offered again the long way: hello
// first.

// errStale says that a host refused an early offer: its hello must be heard first.
var errStale = errors.New("the host stands elsewhere than remembered")

// mostAhead is how many bytes of files are sent unasked, all in all. A host that went back to an
// older commit has them; what is large is asked for.
const mostAhead = 32 << 10

// An early is an offer that goes out before its host was heard.
type early struct {
	o     *bundle.Offer
	files []string // digests of what goes with it
	keys  *opening // begun when the host was reached
	sent  bool
	err   error // of the line that it was sent on
}

// early makes the offer for a host that stands as hp says; nil when that is not known, when this
// run has rights that only count after a look, or when the host did not hear one before.
func (d *Deployer) early(r *run, p *Plan, hp *HostPlan) *early {
	if hp.old == nil || !hp.last.Had || hp.last.Digest == "" || hp.last.Generation == 0 || r.req.TakeOver || d.isDeaf(hp.Name) {
		return nil
	}
	e := &early{o: &bundle.Offer{Run: r.head.ID, Mode: bundle.ModeDeploy, Nonce: nonce(hp.bundle), Deployer: d.ID, Digest: hp.bundle.Digest,
		Base: hp.last.Generation, Manifest: hp.bundle.Manifest.WithoutKeyDigests(), AllowPrune: hp.prune, Go: len(hp.bundle.Keys) == 0}}
	e.files = p.kinds.lacking(hp.from, hp.old, hp.bundle)
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
	left := int64(mostAhead)
	for _, f := range is.Files {
		if !had[f.Digest] && f.Size <= left {
			had[f.Digest] = true
			digests = append(digests, f.Digest)
			left -= f.Size
		}
	}
	return digests
}

// send notes that the host was begun, and writes the offer and its files. It may be called
// again, when the helper had to be put there first. A line that breaks is for whoever reads
// from it.
func (e *early) send(ctx context.Context, d *Deployer, r *run, p *Plan, hp *HostPlan, w io.Writer) error {
	frame, err := p.kinds.delta(hp.from, hp.old, hp.bundle)
	if err != nil {
		return err
	}
	if e.keys == nil {
		e.keys = openAhead(hp.bundle)
	}
	if !e.sent {
		if err := d.History.Begun(ctx, r.head.ID, hp.Name, hp.bundle.Digest); err != nil {
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
		e.err = p.kinds.writeFile(out, hp.bundle, digest)
		if final := (errFinal{}); errors.As(e.err, &final) { // it can't be read here
			return e.err
		}
	}
	if e.err == nil {
		e.err = out.Flush()
	}
	return nil
}

// unsure says that the host may be at work though its helper said nothing. A helper says hello
// before it does anything.
func (e *early) unsure(err error) bool {
	var final errFinal
	return e.sent && e.o.Go && !errors.As(err, &final) && !errors.Is(err, link.ErrNotBegun) && !errors.Is(err, link.ErrHelper) &&
		!errors.Is(err, link.ErrSudo) && !link.HardStop(err)
}

// heard remembers whether a host heard an early offer. One whose login shell reads what is meant
// for the helper never does, and to wait for each answer would cost half a minute; a line may
// break once.
func (d *Deployer) heard(host string, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.deafs == nil {
		d.deafs = map[string]int{}
	}
	if d.deafs[host]++; ok {
		delete(d.deafs, host)
	}
}

func (d *Deployer) isDeaf(host string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.deafs[host] >= 2
}

// offerEarly is offer without the look before. errStale: it was refused, and the look is due.
func (d *Deployer) offerEarly(ctx context.Context, r *run, p *Plan, hp *HostPlan, e *early) (*bundle.Result, string, error) {
	r.event(Event{Host: hp.Name, Step: "connect"})
	defer func() { e.keys.drop() }()
	c, err := d.contact(ctx, target(p.Fleet, hp.host, hp.last.Arch, len(hp.bundle.Keys) > 0),
		func(w io.Writer) error { return e.send(ctx, d, r, p, hp, w) })
	if err != nil {
		if e.err != nil {
			err = fmt.Errorf("%w (sending the offer: %w)", err, e.err)
		}
		if e.sent {
			d.heard(hp.Name, false)
		}
		if e.unsure(err) {
			err = errLost{err}
		}
		return nil, "", err
	}
	defer c.close()
	d.heard(hp.Name, true)
	o, err := d.newOffer(r, p, hp, &c.hello)
	if err != nil || o.Base != e.o.Base || o.Formerly != "" || o.TakeOver || o.Last != nil || c.hello.Open != "" {
		return c.refused()
	}
	if err := d.stands(ctx, p.Fleet, hp.Name, &c.hello, -1); err != nil {
		if e.o.Go { // it goes on
			err = errLost{err}
		}
		return nil, "", err
	}
	values, err := e.keys.wait()
	if err != nil {
		return nil, "", errFinal{err, history.Refused}
	}
	r.event(Event{Host: hp.Name, Step: "begin"})
	res, err := c.answer(e.o, hp.bundle, &p.kinds, values, r.progress(hp.Name))
	if err == nil && res.Outcome == bundle.OutcomeRefused && res.Refused == bundle.RefusedBase {
		err = errStale
	}
	return res, c.hello.BootID, err
}

// refused hears how a host that stands elsewhere refuses, or that it can't settle a run before.
func (c *contact) refused() (*bundle.Result, string, error) {
	defer c.within(c.d.limits().Preflight, "preflight")()
	res, err := c.follow(c.d.filter(nil), nil, nil)
	if err != nil {
		return nil, "", errLost{c.why(err)}
	}
	if res.Outcome == bundle.OutcomeRefused || res.Outcome == bundle.OutcomeFailed {
		return nil, "", errStale
	}
	return res, c.hello.BootID, nil
}
