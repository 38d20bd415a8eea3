package simulator

import (
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"time"

	"bellhop/internal/bundle"
)

// A host is a model of a machine and of bellhop's helper on it: what it holds, the unit that applies a
// bundle, and what it remembers of runs. All of it is guarded by the world's mu.
type host struct {
	w     *world
	name  string
	index int

	isOn     bool // has power
	isThere  bool // the network reaches it
	isCut    bool // nobody can log in: the bundle that waits to be confirmed does that
	isFormer bool // its helper is of the release before

	record   *bundle.Record
	manifest bundle.Manifest   // as it came: without the digests of keys
	full     bundle.Manifest   // with them
	ram      map[string][]byte // values of keys, by name
	last     *bundle.Result
	results  map[string]*bundle.Result // by run
	unit     *unit                     // the newest; it may have ended
	units    int                       // units that ever began
	boots    int
	cuts     int // how often all lines to it were cut

	connections int                  // that ever came from a run
	watches     int                  // connections of who waits for it to come or go
	named       string               // by the newest offer
	turn        int                  // the newest connection that offered, or made older ones void
	open        map[*connection]bool // that are open
	changed     chan struct{}        // closed when it may answer now, or not any more

	moved  int             // how often it got another bundle
	strays bool            // it was changed by others since a deployer heard it last
	knows  map[string]told // failures that its deployer was told, by bundle digest

	unconfirmed map[string]bool // bundles that nobody confirmed in time, by digest
	held        map[string]bool // bundles that it ever held, by digest
	vanished    map[string]bool // those of them during whose time the network to the host was gone, which looks as if the bundle did it

	edited    bool      // somebody changed a file of bellhop's by hand
	leftOut   bool      // a run was cancelled before it came to the host, and nobody asked for it since
	leftAt    int       // of the commits: the head then
	maybeFree time.Time // when somebody may have ended its hold last
	failing   []string  // services that failed since a run dialled it first, as "name digest"
	stopped   *stop     // a run stopped before it; nil: none, or a person asked to try again
	works     int       // sessions that did more than look
}

// told is a failure of a bundle that its deployer was told.
type told struct {
	at      time.Time
	outcome string
	count   int
	name    string // of the host then
}

// A unit applies one bundle. It goes on when its connection breaks.
type unit struct {
	n       int // of the host's units
	offer   bundle.Offer
	came    map[string][]byte // values of keys
	full    bundle.Manifest   // the offer's, with the digests of keys
	former  map[string][]byte // what was in RAM before it
	waits   chan struct{}     // closed when it waits to be confirmed
	confirm chan struct{}     // closed when it is
	killed  chan struct{}     // closed when the power goes
	ended   chan struct{}     // closed when there is a result
	result  *bundle.Result

	vanished bool // the network to the host was gone for a time
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func (u *unit) isAtWork() bool { return u != nil && !isClosed(u.ended) && !isClosed(u.killed) }

// chance is randomness that depends on its keys alone, not on which goroutine comes first.
func (h *host) chance(keys ...any) *rand.Rand {
	f := fnv.New64a()
	fmt.Fprintln(f, h.name, keys)
	return rand.New(rand.NewPCG(h.w.seed, f.Sum64()))
}

// skew makes the times of one host, and of its connections, different from those of all others.
func (h *host) skew(n int) time.Duration { return time.Duration(h.index*64+n%64+1) * 127 }

// answers says whether somebody can log in. It is called under mu.
func (h *host) answers() bool { return h.isOn && h.isThere && !h.isCut && !h.w.isAway }

// tellChange wakes who waits for the host to be there, or gone. It is called under mu.
func (h *host) tellChange() {
	close(h.changed)
	h.changed = make(chan struct{})
}

// base is the generation that the host stands at.
func (h *host) base() int64 {
	if h.record == nil {
		return 0
	}
	return h.record.Generation
}

// refuses says why the host can't take an offer; nil when it can. It is called under mu.
func (h *host) refuses(o *bundle.Offer) *bundle.Result {
	refuse := func(why, text string) *bundle.Result {
		return &bundle.Result{Run: o.Run, Outcome: bundle.OutcomeRefused, Refused: why, Error: text, Record: h.record}
	}
	told := h.results[o.Run]
	switch {
	case h.unit.isAtWork():
		return refuse(bundle.RefusedBusy, "another run is at work")
	case told != nil && told.Outcome != bundle.OutcomeRefused:
		return refuse(bundle.RefusedBusy, "that run has been here already")
	case h.base() != o.Base:
		return refuse(bundle.RefusedBase, "another generation stands")
	case h.record != nil && h.record.Deployer != o.Deployer && !o.TakeOver:
		return refuse(bundle.RefusedDeployer, "another deployer has it")
	case h.record != nil && !o.TakeOver && h.record.Host != o.Manifest.Host && h.record.Host != o.Formerly:
		return refuse(bundle.RefusedNetwork, "by its record it is another host")
	}

	var barred []string
	for _, s := range newServices(&h.manifest, &o.Manifest) {
		if isBarredHere := h.w.repo.natureOf(h, &o.Manifest, s) == isBarred; isBarredHere && o.Mode == bundle.ModeDeploy {
			barred = append(barred, s)
		}
	}
	if len(barred) > 0 {
		h.tries(o)
		h.failing = append(h.failing, failsOf(o, barred)...)
		res := refuse(bundle.RefusedBundle, "it can't stand here")
		res.Failing = barred
		return res
	}
	return nil
}

// newServices are the services of is that was has in another way, or not.
func newServices(was, is *bundle.Manifest) (services []string) {
	for _, s := range is.ServiceNames() {
		if bundle.ServiceDigest(is, s) != bundle.ServiceDigest(was, s) {
			services = append(services, s)
		}
	}
	return services
}

// quick rewrites the record where the host holds the bundle already; nil where it does not. It is
// called under mu.
func (h *host) quick(o *bundle.Offer) *bundle.Result {
	if h.record == nil || h.record.Digest != o.Digest {
		return nil
	}
	h.record = h.recordOf(o, h.record.Generation)
	if o.Mode == bundle.ModeDeploy {
		h.edited = false
	}
	return &bundle.Result{Run: o.Run, Outcome: bundle.OutcomeNothing, Record: h.record, Keys: h.keyStates()}
}

func (h *host) recordOf(o *bundle.Offer, generation int64) *bundle.Record {
	return &bundle.Record{Network: o.Manifest.Network, Host: o.Manifest.Host, Deployer: o.Deployer, Generation: generation, Digest: o.Digest, BootID: h.bootID(), Origins: o.Origins}
}

func (h *host) bootID() string { return fmt.Sprint("boot", h.boots) }

// begin starts the unit of an offer that is not refused. It is called under mu.
func (h *host) begin(o *bundle.Offer, came map[string][]byte) *unit {
	u := &unit{offer: *o, came: came, full: h.withDigests(o, came), waits: make(chan struct{}), confirm: make(chan struct{}), killed: make(chan struct{}), ended: make(chan struct{})}
	h.units++
	h.unit, u.n = u, h.units
	if o.Mode == bundle.ModeKeys {
		h.w.trace.add(h.name, "%d keys of %.8s come", len(came), o.Digest)
		go h.putKeysBack(u)
		return u
	}
	h.tries(o)
	h.w.trace.add(h.name, "begins %.8s on generation %d", o.Digest, o.Base)
	go h.apply(u)
	return u
}

// tries judges whether there is a cause for a try of a bundle. It is called under mu.
func (h *host) tries(o *bundle.Offer) {
	if o.Mode == bundle.ModeKeys {
		return
	}
	if !h.w.repo.isKnown(h, o) {
		h.w.blame("%s is offered %.8s, which is of no commit", h.name, o.Digest)
	}
	h.w.checkBegin(h, o)
	if h.leftOut && h.w.repo.visible == h.leftAt {
		h.w.blame("%s is offered %.8s, though the run of that commit was cancelled before it came there", h.name, o.Digest)
	}
	t, isKnown := h.knows[o.Digest]
	isAnother := h.record == nil && t.name != o.Manifest.Host // by nothing that it says, it had that name
	mayTryAgain := t.outcome == bundle.OutcomeUnconfirmed && t.count == 1 && time.Since(t.at) >= 2*time.Minute
	if isKnown && !isAnother && !mayTryAgain {
		h.w.blame("%s is offered %.8s again, which was %s there %v ago, and nobody asked for it", h.name, o.Digest, t.outcome, time.Since(t.at))
	}
}

// isKnown says that an offer is of a commit, or composed of commits.
func (r *repo) isKnown(h *host, o *bundle.Offer) bool {
	if r.known[h.name+" "+o.Digest] {
		return true
	}
	for _, s := range o.Manifest.ServiceNames() {
		if !r.known[h.name+" "+s+" "+bundle.ServiceDigest(&o.Manifest, s)] {
			return false
		}
	}
	return true
}

// lasts waits; false when the power went.
func (u *unit) lasts(d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-u.killed:
		return false
	}
}

// apply is the unit of a run.
func (h *host) apply(u *unit) {
	o := &u.offer
	h.w.mu.Lock()
	rng := h.chance("apply", u.n)
	if h.w.rules <= byRunID {
		rng = h.chance("apply", o.Run)
	}
	took := time.Duration(20+rng.IntN(400))*time.Millisecond + h.skew(h.connections)
	kinds := map[nature][]string{}
	for _, s := range newServices(&h.full, &u.full) {
		n := h.w.repo.natureOf(h, &u.full, s)
		kinds[n] = append(kinds[n], s)
	}
	if len(kinds[isSlow]) > 0 {
		took += time.Duration(1+rng.IntN(14)) * time.Minute
	}
	h.w.mu.Unlock()
	if !u.lasts(took) || !h.placeKeys(u) {
		return
	}

	failing := slices.Sorted(slices.Values(slices.Concat(kinds[isBad], kinds[isBarred])))
	res := &bundle.Result{Run: o.Run, TookMillis: took.Milliseconds()}
	switch {
	case len(kinds[isBroken]) > 0:
		res.Outcome, res.Error = bundle.OutcomeFailed, "it could not be undone"
	case len(kinds[isObscure]) > 0:
		res.Outcome, res.Error = bundle.OutcomeRolledBack, "something failed"
	case len(failing) > 0:
		res.Outcome, res.Error, res.Failing = bundle.OutcomeRolledBack, "units failed", failing
		h.w.mu.Lock()
		h.failing = append(h.failing, failsOf(o, failing)...)
		h.w.mu.Unlock()
	default:
		if ok, isAlive := h.applied(u, len(kinds[cutsOff]) > 0); !isAlive {
			return
		} else if !ok {
			res.Outcome, res.Error = bundle.OutcomeUnconfirmed, "nobody confirmed it"
		}
	}
	h.end(u, res)
}

// applied waits to be confirmed. isAlive is false when the power went.
func (h *host) applied(u *unit, cuts bool) (ok, isAlive bool) {
	if u.offer.Confirm == 0 {
		return true, true
	}
	h.w.mu.Lock()
	if cuts {
		h.isCut = true
		h.tellChange()
	}
	close(u.waits)
	h.w.mu.Unlock()

	select {
	case <-u.confirm:
		ok = true
	case <-time.After(time.Duration(u.offer.Confirm) * time.Millisecond):
	case <-u.killed:
		return false, false
	}

	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	if isClosed(u.confirm) {
		ok = true
	}
	h.isCut = false
	h.tellChange()
	return ok, true
}

// end writes the result of a unit.
func (h *host) end(u *unit, res *bundle.Result) {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	if isClosed(u.killed) {
		return
	}
	h.endLocked(u, res)
}

func (h *host) endLocked(u *unit, res *bundle.Result) {
	o := &u.offer
	if res.Outcome == "" {
		res.Outcome = bundle.OutcomeDone
		h.record, h.manifest, h.full, h.edited = h.recordOf(o, o.Base+1), o.Manifest, u.full, false
		h.held[o.Digest] = true
		h.moved++
	}
	if res.Outcome == bundle.OutcomeUnconfirmed {
		h.unconfirmed[o.Digest] = true
		h.vanished[o.Digest] = h.vanished[o.Digest] || u.vanished || !h.isThere
	}
	isUndone := res.Outcome != bundle.OutcomeDone && res.Outcome != bundle.OutcomeNothing
	if isUndone && h.isOn && !res.CutOff {
		h.ram = u.former
	}
	res.Record, res.Keys = h.record, h.keyStates()
	h.last, h.results[o.Run], u.result = res, res, res
	h.w.trace.add(h.name, "ends %.8s: %s", o.Digest, res.Outcome)
	close(u.ended)
}

// losePower ends all that goes on there.
func (h *host) losePower() {
	h.isOn, h.isCut, h.ram = false, false, nil
	if h.unit.isAtWork() {
		close(h.unit.killed)
	}
	h.hangUp()
	h.tellChange()
}

// boot undoes what the power cut, or ends it where it was confirmed.
func (h *host) boot() {
	h.isOn = true
	h.boots++
	u := h.unit
	if u != nil && u.offer.Mode == bundle.ModeKeys { // of one that was cut off nothing is left
		h.unit = nil
	} else if u != nil && u.result == nil {
		res := &bundle.Result{Run: u.offer.Run}
		if !isClosed(u.confirm) {
			res.Outcome, res.Error, res.CutOff = bundle.OutcomeRolledBack, "the run was cut off", true
		}
		h.endLocked(u, res)
	}
	h.tellChange()
}

// reinstall leaves nothing of what the host knew.
func (h *host) reinstall() {
	h.losePower()
	h.record, h.manifest, h.full, h.last, h.unit, h.edited = nil, bundle.Manifest{}, bundle.Manifest{}, nil, nil, false
	h.results = map[string]*bundle.Result{}
	h.strays = true
	h.boot()
}

// hangUp breaks every connection. It is called under mu.
func (h *host) hangUp() {
	for c := range h.open {
		c.cut()
	}
	if h.cuts++; h.w.rules > beforeKeys {
		h.tellChange()
	}
}

// untilCut waits until the lines that were there after so many cuts are cut, or lead nowhere.
func (h *host) untilCut(ctx context.Context, cuts int) {
	for {
		h.w.mu.Lock()
		isCut, changed := h.cuts != cuts || !h.answers(), h.changed
		h.w.mu.Unlock()
		if isCut {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// until waits while the host answers, or does not.
func (h *host) until(ctx context.Context, answers bool) error {
	for {
		h.w.mu.Lock()
		now, changed := h.answers(), h.changed
		h.w.mu.Unlock()
		if now == answers {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
