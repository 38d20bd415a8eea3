package deploy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet"
	"bellhop/internal/history"
	"bellhop/internal/link"
)

const (
	attempts = 3               // offers to one host in one run
	reattach = 2 * time.Minute // how long a lost run is looked for, at least
)

// errLost wraps what broke a line after everything was sent: the host may be at work, and
// what comes of it is not known here.
type errLost struct{ err error }

func (e errLost) Error() string { return "line lost while it was at work: " + e.err.Error() }
func (e errLost) Unwrap() error { return e.err }

// errFinal is what no retry cures in this run. It is not held against the bundle: an address,
// a URL or an identity that is put right leaves the digest as it was.
type errFinal struct {
	err   error
	state string
}

func (e errFinal) Error() string { return e.err.Error() }
func (e errFinal) Unwrap() error { return e.err }

// push makes one host hold its bundle. open says that the host goes on by itself with nobody
// listening, and that its result is to be fetched at the next start.
func (d *Deployer) push(ctx context.Context, r *run, p *Plan, hp *HostPlan) (e history.End, open bool) {
	release, err := d.hold(ctx, hp.Name)
	if err != nil {
		return d.lost(ctx, hp, err)
	}
	defer release()
	began := time.Now()
	first := d.early(r, p, hp)
	for try := 1; ; try++ {
		var res *bundle.Result
		var boot string
		tried := time.Now()
		if first != nil {
			res, boot, err = d.offerEarly(ctx, r, p, hp, first)
			first = nil
		} else {
			res, boot, err = d.offer(ctx, r, p, hp)
		}
		if errors.Is(err, errStale) {
			try--
			continue
		}
		if busy(res, err) && time.Since(began) < d.limits().Patience && pause(ctx, d.limits().Retry) {
			try--
			continue // another run is at work there, perhaps one of ours that was lost
		}
		if lost := (errLost{}); errors.As(err, &lost) {
			res, boot, err = d.fetchResult(ctx, p.Fleet, hp, r.head.ID, lost)
		}
		switch {
		case err == nil && res == nil: // it never began there
			err = errors.New("the line was lost before it began")
		case err == nil && res.Outcome == bundle.OutcomeRefused && res.Refused == bundle.RefusedBase && try < attempts:
			continue // someone else was there in between: the next hello says what stands
		case err == nil:
			return d.result(r.head.ID, hp, res, boot), false
		}
		if try == attempts || !passes(err) || d.slowToAnswer(err, tried) || !pause(ctx, d.limits().Retry<<(try-1)) {
			return d.lost(ctx, hp, err)
		}
		d.log().Info("trying again", "host", hp.Name, "run", r.head.ID, "err", err)
	}
}

// errBusy says that a run which was at work on the host has ended now.
var errBusy = errors.New("another run was at work")

func busy(res *bundle.Result, err error) bool {
	return errors.Is(err, errBusy) || err == nil && res != nil && res.Outcome == bundle.OutcomeRefused && res.Refused == bundle.RefusedBusy
}

// passes says that err may be gone in a second.
func passes(err error) bool {
	var final errFinal
	var lost errLost
	return !errors.As(err, &final) && !errors.As(err, &lost) && !link.HardStop(err) && !errors.Is(err, context.Canceled) && !errors.Is(err, errHostDeadline) &&
		!errors.Is(err, link.ErrAuth) && !errors.Is(err, link.ErrSudo) && !errors.Is(err, link.ErrHelper)
}

// slowToAnswer says that a host could not be reached, and that it took long to find out: another try
// would hold up the run for as long again.
func (d *Deployer) slowToAnswer(err error, tried time.Time) bool {
	return errors.Is(err, link.ErrUnreachable) && time.Since(tried) >= 5*d.limits().Retry
}

func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// lost is the end of a push that got no result.
func (d *Deployer) lost(ctx context.Context, hp *HostPlan, err error) (history.End, bool) {
	away := errors.Is(err, link.ErrUnreachable) && !errors.Is(err, link.ErrThere)
	d.noteAway(hp.Name, away)
	text := withoutName(err.Error(), hp.Name)
	e := history.End{Outcome: history.Pending, State: history.Pending, Error: clean(text, maxText), Present: -1}
	var final errFinal
	var gone errLost
	var key *link.HostKeyError
	switch {
	case errors.As(err, &gone):
		if errors.Is(context.Cause(ctx), context.Canceled) {
			return e, true
		}
		e.Outcome, e.State = history.Unknown, history.Unknown
	case errors.As(err, &final):
		e.Outcome, e.State = final.state, final.state
	case errors.As(err, &key):
		e.Outcome, e.State, e.Error = history.Refused, history.Refused, clean(strange(text, hp.Name, key), maxText)
		d.forgetStanding(hp.Name)
	case errors.Is(err, link.ErrSudo), errors.Is(err, link.ErrHelper):
		e.Outcome, e.State = history.Failed, history.Pending
	case errors.Is(context.Cause(ctx), context.Canceled):
		e.Outcome, e.State = history.RunCancelled, hp.State
	case away:
		e.Error = clean(sinceWhen(hp.last, time.Now())+text, maxText)
	}
	return e, false
}

// withoutName takes the host's name out of an error of its line: who shows it says whose it is.
func withoutName(text, host string) string {
	if rest, ok := strings.CutPrefix(text, host+": "); ok {
		return rest
	}
	return strings.Replace(text, ": "+host+": ", ": ", 1)
}

// awaySince is how the error of a host that is away begins; a later one keeps the time.
const awaySince = "away since "

func sinceWhen(last history.Host, now time.Time) string {
	if text, ok := strings.CutPrefix(last.Error, awaySince); ok && last.State == history.Pending {
		at, _, _ := strings.Cut(text, ": ")
		if t, err := time.Parse(time.RFC3339, at); err == nil {
			now = t
		}
	}
	return awaySince + now.UTC().Format(time.RFC3339) + ": "
}

// strange tells of a host, or of one on the way to it, that shows another key than is pinned, and what
// a person can do.
func strange(text, host string, key *link.HostKeyError) string {
	text += "; nothing was sent there. Someone may stand in between; if you know why it changed, "
	if key.Line == "" {
		return text + "bellhop host add shows the keys that it has now"
	}
	whose := ""
	if key.Host != host {
		whose = " of " + key.Host
	}
	return text + "pin the new one" + whose + " in the repo: host_key: " + key.Line
}

// forgetStanding drops what is remembered to stand on a host: the machine that answers there may
// be another, or a new one. So it is not called current until the right one was heard.
func (d *Deployer) forgetStanding(host string) {
	if err := d.History.Correct(context.Background(), host, func(h *history.Host) {
		if h.Digest, h.Follows = "", false; h.State == history.Current {
			h.State = history.Behind
		}
	}); err != nil {
		d.log().Error("forget what stands on a host", "host", host, "err", err)
	}
}

// result is what a host's own word on a run means for history.
func (d *Deployer) result(run string, hp *HostPlan, res *bundle.Result, boot string) history.End {
	e := history.End{Outcome: res.Outcome, Digest: hp.bundle.Digest, Changed: res.Changed, Error: res.Error, Record: res.Record, Present: present(res.Keys), Details: res}
	switch res.Outcome {
	case bundle.OutcomeDone, bundle.OutcomeNothing:
		e.Manifest, e.BootID = &hp.bundle.Manifest, boot
		if len(res.Keys) == 0 && len(hp.bundle.Keys) > 0 {
			e.Present = len(hp.bundle.Keys) // all were sent or compared
		}
	case bundle.OutcomeRefused:
		e.State, e.Remember = history.Refused, true
		switch res.Refused {
		case bundle.RefusedBusy, bundle.RefusedBase:
			e.Outcome, e.State, e.Remember = history.Pending, history.Pending, false
		case bundle.RefusedDeployer, bundle.RefusedNetwork: // not the bundle's fault
			e.Remember = false
		}
	case bundle.OutcomeRolledBack:
		e.State, e.Remember = history.RolledBack, true
		if res.CutOff && !d.cutBefore(run, hp) {
			e.State, e.Remember = history.Behind, false
		}
	default:
		e.Outcome, e.State, e.Remember = history.Failed, history.Failed, true
	}
	if e.Error == "" && !e.Stood() {
		e.Error = "the host gave no reason"
	}
	if !e.Stood() && len(res.Keys) == 0 {
		e.Present = -1
	}
	return e
}

// cutBefore says that the same bundle was cut off on the host when it was tried last: then it may
// be the bundle that kills the host. History knows, rather than this process, because the host
// may be the one that bellhop runs on and goes down with.
func (d *Deployer) cutBefore(run string, hp *HostPlan) bool {
	cut, err := d.History.CutOff(hp.Name, hp.bundle.Digest, run)
	if err != nil {
		d.log().Error("look for an earlier cut", "host", hp.Name, "err", err)
	}
	return cut || err != nil
}

// A contact is a helper that said hello.
type contact struct {
	d      *Deployer
	stream Stream
	r      *bundle.Reader
	hello  bundle.Hello
	cancel context.CancelCauseFunc
	ctx    context.Context
	unhook func() bool // from the end of ctx
	over   bool        // the helper has said its last word
}

// contact starts the helper on a host and hears its hello. ahead, unless it is nil, writes what
// the helper hears first.
func (d *Deployer) contact(ctx context.Context, t link.Target, ahead func(io.Writer) error) (*contact, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	c := &contact{d: d, ctx: ctx, cancel: cancel}
	defer c.within(d.limits().Connect, "connect to "+t.Name)()
	s, err := d.Links.Helper(ctx, t, ahead)
	if err != nil {
		err = c.why(err)
		cancel(nil)
		return nil, err
	}
	c.stream = s
	c.unhook = context.AfterFunc(ctx, func() { s.Close() })
	c.r = bundle.NewReader(s)
	noise, err := c.r.SkipNoise()
	if err != nil {
		if len(noise) > 0 {
			err = fmt.Errorf("%w; it said %q", err, clean(string(noise), 200))
		}
		return nil, c.fail(fmt.Errorf("hear the helper: %w", err))
	}
	if err := c.r.Expect(bundle.FrameHello, &c.hello); err != nil {
		return nil, c.fail(fmt.Errorf("hear the helper: %w", err))
	}
	if c.hello.Protocol != bundle.Protocol {
		return nil, c.fail(errFinal{fmt.Errorf("the helper speaks protocol %d, this bellhop %d", c.hello.Protocol, bundle.Protocol), history.Failed})
	}
	c.hello.Arch = clean(c.hello.Arch, 16)
	c.hello.BootID = clean(c.hello.BootID, 64)
	d.learnMachine(t.Name, c.hello.Machine)
	return c, nil
}

// within ends the contact when the returned func is not called in time.
func (c *contact) within(limit time.Duration, what string) (done func()) {
	t := time.AfterFunc(limit, func() { c.cancel(fmt.Errorf("%s: not done in %v", what, limit)) })
	return func() { t.Stop() }
}

// why is the cause that ended the contact, rather than the error that this looks like.
func (c *contact) why(err error) error {
	if cause := context.Cause(c.ctx); cause != nil && c.ctx.Err() != nil {
		return cause
	}
	return err
}

func (c *contact) fail(err error) error {
	err = c.why(err)
	c.close()
	return err
}

// close closes the stream before its context ends: the other way round, each who waits for
// that end would close it too, with goroutines of its own.
func (c *contact) close() {
	if c.stream != nil {
		c.unhook()
		if s, ok := c.stream.(interface{ Leave() }); ok && c.over {
			s.Leave()
		} else {
			c.stream.Close()
		}
	}
	c.cancel(errDone)
	if c.r != nil {
		c.r.Done()
	}
}

var errDone = errors.New("done")

// offer is one session with a host: what stands, the offer, what is lacking, the result.
func (d *Deployer) offer(ctx context.Context, r *run, p *Plan, hp *HostPlan) (*bundle.Result, string, error) {
	r.event(Event{Host: hp.Name, Step: "connect"})
	c, err := d.contact(ctx, target(p.Fleet, hp.host, hp.last.Arch, len(hp.bundle.Keys) > 0), nil)
	if err != nil {
		return nil, "", err
	}
	defer c.close()
	if c.hello.Open == r.head.ID || c.hello.Last != nil && c.hello.Last.Run == r.head.ID { // an earlier line was lost
		filter, clearKeys := d.filterOf(hp.bundle)
		defer clearKeys()
		res, err := c.find(r.head.ID, filter)
		return res, c.hello.BootID, err
	}
	if c.hello.Open != "" { // its result is history's when it is ours; then the next hello says what stands
		if _, err := c.attach(clean(c.hello.Open, 64), d.filter(nil)); err != nil && ctx.Err() != nil {
			return nil, "", c.why(err)
		}
		return nil, "", errBusy
	}
	keys := openAhead(hp.bundle)
	defer keys.drop()
	o, err := d.newOffer(r, p, hp, &c.hello) // before its record is believed: it may be another host
	if err != nil {
		return nil, "", err
	}
	if err := d.stands(ctx, p.Fleet, hp.Name, &c.hello, present(c.hello.Keys)); err != nil {
		return nil, "", err
	}
	values, err := keys.wait()
	if err != nil {
		return nil, "", errFinal{err, history.Refused}
	}
	if err := d.History.Begun(ctx, r.head.ID, hp.Name, hp.bundle.Digest); err != nil {
		return nil, "", err
	}
	r.event(Event{Host: hp.Name, Step: "begin"})
	res, err := c.exchange(o, hp.bundle, &p.kinds, values, r.progress(hp.Name))
	return res, c.hello.BootID, err
}

// progress tells of the steps on a host; nil when nobody watches.
func (r *run) progress(host string) func(bundle.Event, string) {
	if r.d.Progress == nil {
		return nil
	}
	return func(e bundle.Event, text string) { r.event(Event{Host: host, Step: e.Step, Text: text}) }
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

// newOffer is the offer for a host that stands as hello says. It names the generation that
// it builds on, so that the host refuses when another was faster.
func (d *Deployer) newOffer(r *run, p *Plan, hp *HostPlan, hello *bundle.Hello) (*bundle.Offer, error) {
	o := &bundle.Offer{Run: r.head.ID, Mode: bundle.ModeDeploy, Deployer: d.ID, Digest: hp.bundle.Digest,
		Manifest: hp.bundle.Manifest.WithoutKeyDigests(), AllowPrune: hp.prune}
	rec := hello.Record
	if rec == nil {
		if hp.old != nil {
			last := hp.old.WithoutKeyDigests()
			o.Last = &last
		}
		return o, nil
	}
	o.Base = rec.Generation
	if rec.Network != p.Fleet.Network {
		return nil, errFinal{fmt.Errorf("it belongs to the network %q, by its own record", clean(rec.Network, 64)), history.Refused}
	}
	if rec.Host != hp.Name {
		if _, here := p.Fleet.Host(rec.Host); here {
			return nil, errFinal{fmt.Errorf("it is the host %q, by its own record: two names for one machine", clean(rec.Host, 64)), history.Refused}
		}
		o.Formerly = rec.Host
	}
	if rec.Deployer != d.ID {
		if !r.req.TakeOver && !hp.last.Had {
			return nil, errFinal{fmt.Errorf("its record names another deployer, %s; --take-over takes it", clean(rec.Deployer, 80)), history.Refused}
		}
		o.TakeOver = true
	}
	return o, nil
}

// stands corrects what history remembers of a host by the host's own record, and gives a
// renamed host its past. keys are there; -1 is not heard.
func (d *Deployer) stands(ctx context.Context, f *fleet.Fleet, name string, hello *bundle.Hello, keys int) error {
	rec := hello.Record
	if rec != nil && rec.Host != name && rec.Deployer == d.ID && f != nil {
		if _, here := f.Host(rec.Host); !here {
			if err := d.History.Rename(ctx, rec.Host, name); err != nil {
				return err
			}
		}
	}
	told := false // the edit may run more than once
	return d.History.Correct(ctx, name, func(h *history.Host) {
		h.Arch, h.Systemd = hello.Arch, hello.Systemd
		if keys >= 0 {
			h.KeysPresent = keys
		}
		digest, generation := "", int64(0)
		if rec != nil {
			generation = rec.Generation
		}
		if rec != nil && rec.Deployer == d.ID { // what another deployer put there is never what is wanted
			digest = clean(rec.Digest, 64)
		}
		if digest == h.Digest && generation == h.Generation {
			return
		}
		if h.Digest != "" && !told {
			told = true
			d.log().Warn("host stands elsewhere than remembered", "host", name, "generation", generation, "remembered", h.Generation)
		}
		h.Digest, h.Generation = digest, generation
		if h.Follows && h.Digest != h.Wanted {
			h.Follows = false
			h.State = history.Behind
		}
	})
}

// exchange makes the offer o of what b holds, sends what is wanted, and follows the run on
// the host to its result. values are those of its keys.
func (c *contact) exchange(o *bundle.Offer, b *fleet.Bundle, k *kinds, values map[string][]byte, progress func(bundle.Event, string)) (*bundle.Result, error) {
	o.Nonce = nonce(b)
	out, putBack := buffered(c.stream)
	defer putBack()
	frame, err := k.frame(b)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(writeOffer(out, o, frame), out.Flush()); err != nil {
		return nil, c.why(fmt.Errorf("send the offer: %w", err))
	}
	return c.answer(o, b, k, values, progress)
}

// answer hears what the host says to the offer o, and goes on from there.
func (c *contact) answer(o *bundle.Offer, b *fleet.Bundle, k *kinds, values map[string][]byte, progress func(bundle.Event, string)) (*bundle.Result, error) {
	filter := c.d.filter(values, append(said(o), c.hello.BootID)...)
	done := c.within(c.d.limits().Preflight, "preflight")
	kind, p, err := c.r.Next()
	if err != nil {
		err = c.why(fmt.Errorf("hear what is lacking: %w", err))
		if o.Go {
			err = errLost{err}
		}
		return nil, err
	}
	done()
	if kind == bundle.FrameResult || o.Go && kind == bundle.FrameEvent {
		res, err := c.follow(filter, progress, &frame{kind, p})
		if err != nil && o.Go {
			err = errLost{c.why(err)}
		}
		return res, err
	}
	var want bundle.Want
	if err := expect(kind, p, bundle.FrameWant, &want); err != nil {
		return nil, err
	}
	out, putBack := buffered(c.stream)
	defer putBack()
	if err := c.send(out, o, b, k, want, values); err != nil {
		return nil, c.why(err)
	}
	// From here on the host can be at work, whatever becomes of the line.
	if err := errors.Join(bundle.WriteFrame(out, bundle.FrameEnd, struct{}{}), out.Flush()); err != nil {
		return nil, errLost{c.why(err)}
	}
	res, err := c.follow(filter, progress, nil)
	if err != nil {
		return nil, errLost{c.why(err)}
	}
	return res, nil
}

// A frame is one that was read.
type frame struct {
	kind    byte
	payload []byte
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

// writeOffer writes o, with its manifest ahead as it was encoded for all bundles of its kind.
func writeOffer(out *bufio.Writer, o *bundle.Offer, frame []byte) error {
	if _, err := out.Write(frame); err != nil {
		return err
	}
	rest := *o
	rest.Manifest = bundle.Manifest{Network: o.Manifest.Network, Host: o.Manifest.Host}
	return bundle.WriteFrame(out, bundle.FrameOffer, &rest)
}

func expect(kind byte, p []byte, want byte, v any) error {
	if kind != want {
		return fmt.Errorf("frame %q came where %q belongs", kind, want)
	}
	return bundle.Unmarshal(p, v)
}

// An opening is the keys of a host, on their way to be plaintext while its helper starts.
type opening struct {
	done   chan struct{}
	values map[string][]byte
	err    error
}

func openAhead(b *fleet.Bundle) *opening {
	o := &opening{done: make(chan struct{})}
	if len(b.Keys) == 0 {
		close(o.done)
		return o
	}
	go func() {
		defer close(o.done)
		o.values, o.err = openKeys(b, b.Keys)
	}()
	return o
}

func (o *opening) wait() (map[string][]byte, error) {
	<-o.done
	return o.values, o.err
}

// drop clears the values, which nobody may use after it.
func (o *opening) drop() {
	if o == nil {
		return
	}
	<-o.done
	clearAll(o.values)
}

// openKeys opens every key of a host: the values are compared with what the host holds, and
// taken out of every text it sends.
func openKeys(b *fleet.Bundle, keys []bundle.Key) (map[string][]byte, error) {
	values := make(map[string][]byte, len(keys))
	var mu sync.Mutex
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0)) // each costs a curve's arithmetic; a host may have hundreds
	for _, k := range keys {
		g.Go(func() error {
			v, err := b.Key(k.Name)
			if err != nil {
				return fmt.Errorf("open key %s: %w", k.Name, err)
			}
			mu.Lock()
			defer mu.Unlock()
			values[k.Name] = v
			if len(v) > bundle.MaxKey {
				return fmt.Errorf("key %s: %d bytes are more than the cap of %d", k.Name, len(v), bundle.MaxKey)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return values, err
	}
	maps.Copy(values, b.Ingredients()) // a program prints the password, not the file around it
	return values, nil
}

func clearAll(values map[string][]byte) {
	for _, v := range values {
		clear(v)
	}
}

// send sends what the host lacks, and nothing it did not ask for.
func (c *contact) send(out io.Writer, o *bundle.Offer, b *fleet.Bundle, k *kinds, want bundle.Want, values map[string][]byte) error {
	for _, digest := range want.Files {
		if !slices.ContainsFunc(o.Manifest.Files, func(f bundle.File) bool { return f.Digest == digest }) {
			return errFinal{fmt.Errorf("it asked for a file that is not in its bundle: %q", clean(digest, 64)), history.Failed}
		}
		if err := k.writeFile(out, b, digest); err != nil {
			return err
		}
	}
	for _, digest := range want.Packages {
		if err := c.sendPackage(out, o, b, digest); err != nil {
			return err
		}
	}
	for _, key := range o.Manifest.Keys {
		v := values[key.Name]
		if mac, there := want.Keys[key.Name]; there && hmac.Equal(mac, bundle.KeyMAC(o.Nonce, v)) {
			continue
		}
		if err := bundle.WriteBlob(out, bundle.Blob{Kind: bundle.BlobKey, Name: key.Name, Size: int64(len(v))}, bytes.NewReader(v)); err != nil {
			return err
		}
	}
	return nil
}

func (c *contact) sendPackage(out io.Writer, o *bundle.Offer, b *fleet.Bundle, digest string) error {
	i := slices.IndexFunc(o.Manifest.Packages, func(p bundle.Package) bool { return p.Digest == digest })
	if i < 0 {
		return errFinal{fmt.Errorf("it asked for a package that is not in its bundle: %q", clean(digest, 64)), history.Failed}
	}
	pkg := o.Manifest.Packages[i]
	var f io.ReadCloser
	var size int64
	var err error
	if pkg.URL == "" {
		f, size, err = b.Package(digest)
	} else {
		f, size, err = c.d.fetchPackage(c.ctx, pkg)
	}
	if err != nil {
		return fmt.Errorf("package %s: %w", pkg.Name, err)
	}
	defer f.Close()
	return bundle.WriteBlob(out, bundle.Blob{Kind: bundle.BlobPackage, Name: digest, Size: size}, f)
}

// follow reads events up to the result. first, unless it is nil, was read already.
func (c *contact) follow(filter func(string) string, progress func(bundle.Event, string), first *frame) (*bundle.Result, error) {
	for n := 0; ; n++ {
		f := first
		first = nil
		if f == nil {
			f = new(frame)
			var err error
			if f.kind, f.payload, err = c.r.Next(); err != nil {
				return nil, fmt.Errorf("hear the result: %w", err)
			}
		}
		p := f.payload
		switch f.kind {
		case bundle.FrameEvent:
			if n >= maxList || progress == nil { // nobody watches
				continue
			}
			var e bundle.Event
			if err := bundle.Unmarshal(p, &e); err != nil {
				return nil, err
			}
			e.Step = clean(filter(e.Step), 32)
			progress(e, filter(e.Text))
		case bundle.FrameResult:
			return c.readResult(p, filter)
		case bundle.FrameReply:
			var rep bundle.Reply
			if err := bundle.Unmarshal(p, &rep); err != nil {
				return nil, err
			}
			return nil, errors.New(filter(rep.Error))
		default:
			return nil, fmt.Errorf("frame %q came where the result belongs", f.kind)
		}
	}
}

func (c *contact) readResult(p []byte, filter func(string) string) (*bundle.Result, error) {
	c.over = true
	var res bundle.Result
	if err := bundle.Unmarshal(p, &res); err != nil {
		return nil, fmt.Errorf("read the result: %w", err)
	}
	return c.d.cleanResult(&res, filter), nil
}

// cleanResult passes every text of a result through the filter, and caps every list.
func (d *Deployer) cleanResult(res *bundle.Result, filter func(string) string) *bundle.Result {
	r := *res
	short := func(limit int, texts ...*string) {
		for _, s := range texts {
			*s = clean(filter(*s), limit)
		}
	}
	short(32, &r.Outcome, &r.Refused)
	short(64, &r.Run)
	r.Error = filter(r.Error)
	for _, l := range []*[]string{&r.Changed, &r.Restored, &r.Edits, &r.Kept, &r.Started, &r.Stopped, &r.Restarted, &r.Reloaded, &r.Drifted, &r.Warnings} {
		if *l != nil {
			*l = cleanAll(*l, filter)
		}
	}
	r.Keys = slices.Clone(r.Keys[:min(len(r.Keys), maxList)])
	for i := range r.Keys {
		k := &r.Keys[i]
		short(255, &k.Name)
		short(32, &k.Source, &k.Unit)
	}
	if r.Record != nil {
		rec := *r.Record
		short(255, &rec.Network, &rec.Host, &rec.Deployer)
		short(64, &rec.Digest, &rec.BootID)
		r.Record = &rec
	}
	return &r
}

// attach follows a run that is at work on the host already.
func (c *contact) attach(id string, filter func(string) string) (*bundle.Result, error) {
	if err := bundle.WriteFrame(c.stream, bundle.FrameAsk, bundle.Ask{Verb: bundle.AskAttach, Run: id}); err != nil {
		return nil, errLost{c.why(err)}
	}
	res, err := c.follow(filter, nil, nil)
	if err != nil {
		return nil, errLost{c.why(err)}
	}
	return res, nil
}

// fetchResult looks for the result of a run whose line was lost. No result and no error:
// the run never began there.
func (d *Deployer) fetchResult(ctx context.Context, f *fleet.Fleet, hp *HostPlan, id string, lost errLost) (*bundle.Result, string, error) {
	filter, clearKeys := d.filterOf(hp.bundle)
	defer clearKeys()
	until := time.Now().Add(max(reattach, d.limits().Patience))
	for wait := d.limits().Retry; time.Now().Before(until) && pause(ctx, wait); wait = min(2*wait, 10*time.Second) {
		c, err := d.contact(ctx, target(f, hp.host, hp.last.Arch, len(hp.bundle.Keys) > 0), nil)
		if err != nil {
			if link.HardStop(err) {
				return nil, "", errLost{err}
			}
			lost.err = err
			continue
		}
		res, err := c.find(id, filter)
		boot := c.hello.BootID
		c.close()
		if err == nil {
			return res, boot, nil
		}
		lost.err = err
	}
	return nil, "", lost
}

// find asks a host for the result of a run: that which ended last, or the one at work. Nil: it
// was never begun, and can't be any more.
func (c *contact) find(id string, filter func(string) string) (*bundle.Result, error) {
	switch {
	case c.hello.Last != nil && c.hello.Last.Run == id:
		return c.d.cleanResult(c.hello.Last, filter), nil
	case c.hello.Open == id:
		return c.attach(id, filter)
	}
	return c.void(id, filter)
}

// void has a host forget a run that was offered to it, unless it was begun: then it is followed.
func (c *contact) void(id string, filter func(string) string) (*bundle.Result, error) {
	defer c.within(c.d.limits().Host, "hear of run "+id)()
	if err := bundle.WriteFrame(c.stream, bundle.FrameAsk, bundle.Ask{Verb: bundle.AskVoid, Run: id}); err != nil {
		return nil, errLost{c.why(err)}
	}
	kind, p, err := c.r.Next()
	if err != nil {
		return nil, errLost{c.why(err)}
	}
	if kind == bundle.FrameReply {
		var rep bundle.Reply
		if err := bundle.Unmarshal(p, &rep); err != nil {
			return nil, errLost{err}
		}
		if rep.Error == "" {
			return nil, nil
		}
		return nil, errLost{errors.New(filter(rep.Error))}
	}
	res, err := c.follow(filter, nil, &frame{kind, p})
	if err != nil {
		return nil, errLost{c.why(err)}
	}
	return res, nil
}

// fetchPackage opens a package of the cache, fetched first if it is not there.
func (d *Deployer) fetchPackage(ctx context.Context, p bundle.Package) (io.ReadCloser, int64, error) {
	path, err := d.fetch.get(ctx, d, p)
	if err != nil {
		return nil, 0, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, st.Size(), nil
}
