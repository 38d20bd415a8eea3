package deploy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"bellhop/gitsync"
	"bellhop/internal/bundle"
	"bellhop/internal/fleet"
	"bellhop/internal/history"
	"bellhop/internal/push"
)

// A Plan is what a run would do, and all that it needs to do it. It is a value: it prints,
// and it is applied as it stands.
type Plan struct {
	Snapshot Snapshot
	Fleet    *fleet.Fleet
	Hosts    []*HostPlan // what was looked at, by name; any other host is as it should be
	Gone     []string    // hosts that left the repo with this commit, by name
	req      Request
	selected map[string]bool // nil: all
	changes  changes
	shared   push.Shared
}

// A HostPlan is what a run would do on one host.
type HostPlan struct {
	Name    string
	State   string // that the host is in until something is pushed
	Push    bool   // it will be contacted
	Follows bool   // what stands there is what is wanted, as far as history knows
	Error   string // why it is not pushed
	Changes []bundle.Change
	Units   UnitPlan

	host      *fleet.Host
	bundle    *fleet.Bundle    // nil when it could not be made
	last      history.Host     // as history remembers it
	elsewhere bool             // another machine than last time
	old       *bundle.Manifest // that last was; nil when unknown
	from      string           // its digest
	prune     bool             // consent was given
}

// A UnitPlan is what systemd will be asked to do with units that run, by name.
type UnitPlan = bundle.UnitPlan

// planned is what one host is wanted to hold, made once for as long as nothing changes.
type planned struct {
	host   *fleet.Host
	bundle *fleet.Bundle
	err    error
}

// looked is what was found to differ since a plan was stored last. A run that fails before
// that, or a plan that is only shown, must not make the next one overlook a host.
type looked struct {
	all   bool
	hosts map[string]bool
	gone  []string
}

// bundles makes the bundle of each host that this fleet may have changed, and keeps the rest:
// its cost follows the change, not the fleet. It is called under steps.
func (d *Deployer) bundles(f *fleet.Fleet) {
	prev := d.fleet
	if prev == nil {
		d.plans, d.look = map[string]*planned{}, looked{all: true, hosts: map[string]bool{}}
	}
	for _, h := range f.Changed(prev) {
		d.wanted(f, h)
	}
	for name, p := range d.plans {
		if p.err != nil { // it may be cured by what was learned on contact
			if h, ok := f.Host(name); ok {
				d.wanted(f, h)
			}
		}
	}
	if prev == nil || !slices.Equal(prev.Hosts, f.Hosts) {
		d.listed(f)
	}
	d.mu.Lock()
	d.fleet = f
	d.mu.Unlock()
}

// listed follows a changed list of hosts: who left, who came, who is reached another way.
func (d *Deployer) listed(f *fleet.Fleet) {
	for name := range d.plans {
		if _, ok := f.Host(name); !ok {
			delete(d.plans, name)
			delete(d.look.hosts, name)
		}
	}
	d.hosts.keepOnly(func(host string) bool { _, ok := f.Host(host); return ok })

	d.look.gone = nil
	for name, h := range d.History.Hosts() {
		if _, ok := f.Host(name); !ok && h.State != history.Released {
			d.look.gone = append(d.look.gone, name)
		}
	}
	slices.Sort(d.look.gone)
	for _, h := range f.Hosts {
		switch p := d.plans[h.Name]; {
		case p == nil:
			d.wanted(f, h)
		case p.host != h:
			p.host, d.look.hosts[h.Name] = h, true
		}
	}
}

func (d *Deployer) wanted(f *fleet.Fleet, h *fleet.Host) {
	b, err := f.Bundle(h.Name)
	if p := d.plans[h.Name]; p != nil && p.host == h && p.bundle == b && err == nil && p.err == nil {
		return // it only might have changed
	}
	d.plans[h.Name], d.look.hosts[h.Name] = &planned{host: h, bundle: b, err: err}, true
}

// compare holds wanted against last. It is called under steps.
func (d *Deployer) compare(ctx context.Context, r *run, snap Snapshot, f *fleet.Fleet) (*Plan, error) {
	p := &Plan{Snapshot: snap, Fleet: f, Gone: d.look.gone, req: r.req}
	chosen, err := f.Select(r.req.On)
	if err != nil {
		return nil, fmt.Errorf("choose hosts by %q: %w", r.req.On, err)
	}
	if r.req.On != "" {
		p.selected = map[string]bool{}
		for _, h := range chosen {
			p.selected[h.Name] = true
		}
	}
	if err := d.hosts.readFailures(d.History); err != nil {
		return nil, err
	}
	for _, name := range d.candidates(f, r.req, chosen) {
		hp := d.decide(p, d.plans[name])
		if hp.Push {
			if err := d.detail(ctx, p, hp); err != nil {
				return nil, err
			}
		}
		p.Hosts = append(p.Hosts, hp)
	}
	r.event(Event{Step: "plan", Text: p.Sentence()})
	return p, nil
}

// candidates are the hosts that can need anything, by name: those that the commit may have
// changed, those that are not at rest, and those that a person asked to contact.
func (d *Deployer) candidates(f *fleet.Fleet, req Request, chosen []*fleet.Host) []string {
	names := maps.Clone(d.look.hosts)
	if d.look.all {
		for _, h := range f.Hosts {
			names[h.Name] = true
		}
	}
	for _, name := range d.History.Restless() {
		if _, ok := d.plans[name]; ok {
			names[name] = true
		}
	}
	if req.All {
		for _, h := range chosen {
			names[h.Name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// decide says what to do with one host, from what is wanted and what is remembered.
func (d *Deployer) decide(p *Plan, w *planned) *HostPlan {
	last, _ := d.History.Host(w.host.Name)
	elsewhere := last.Reach.Elsewhere(reach(w.host))
	if elsewhere {
		last.Digest, last.Systemd = "", 0 // nobody knows what stands on the machine that is pinned now
	}
	hp := &HostPlan{Name: w.host.Name, host: w.host, bundle: w.bundle, last: last, elsewhere: elsewhere, Units: noUnits()}
	chosen := p.selected == nil || p.selected[hp.Name]
	if d.hosts.pushing(hp.Name) {
		hp.State, hp.Follows = history.Deploying, false
		return hp
	}
	if w.err != nil {
		hp.State, hp.Error = history.Refused, plainError(w.err)
		return hp
	}
	failure, failed := d.hosts.failure(hp.Name, w.bundle.Digest)
	failed = failed && !elsewhere
	unknown := last.State == history.Unknown || last.State == history.Deploying
	nothing := w.bundle.Empty() && !last.Had && last.Digest == ""
	switch {
	case (last.Digest == w.bundle.Digest || nothing) && !unknown:
		hp.State, hp.Follows = history.Current, true
		hp.Push = chosen && p.req.All
	case failed && !(chosen && (p.req.Retry || p.req.TakeOver)):
		hp.State, hp.Error = failure.Outcome, failure.Error
	case !(chosen && (p.req.All || p.req.Retry)) && tooOld(w.bundle, last) != "":
		hp.State, hp.Error = history.Refused, tooOld(w.bundle, last)
	default:
		hp.State, hp.Push = waiting(last), chosen
		if d.stuck(p.req, last, w) {
			hp.State, hp.Push = last.State, false
		}
		if hp.State == last.State {
			hp.Error = last.Error
		}
	}
	return hp
}

// tooOld says what of a bundle a host can't do by the systemd that it had at the last contact; ""
// when it can do all, or is not known. Who asks to contact it finds out whether it was upgraded
// meanwhile.
func tooOld(b *fleet.Bundle, last history.Host) string {
	const then = "; once it is upgraded: bellhop deploy --retry"
	if last.Systemd == 0 {
		return ""
	}
	for _, k := range b.Keys {
		if k.Seal && last.Systemd < bundle.SealingSystemd {
			return fmt.Sprintf("key %s: persist: sealed needs systemd %d, and the host had %d%s", k.Name, bundle.SealingSystemd, last.Systemd, then)
		}
	}
	if line := b.TooNew(last.Systemd); line != "" {
		return line + then
	}
	return ""
}

// stuck says that a poll need not try a host again: nothing about it has changed, and what
// may pass has its own time to be tried. A push, a start or a person always tries.
func (d *Deployer) stuck(req Request, last history.Host, w *planned) bool {
	switch last.State {
	case history.Pending, history.Unknown, history.Refused, history.Failed:
	default:
		return false
	}
	return req.Trigger == TriggerClock && d.watching() && last.Wanted == w.bundle.Digest && !d.look.hosts[last.Name]
}

// waiting is the state of a host that is to be pushed.
func waiting(last history.Host) string {
	switch {
	case last.State == history.Pending || last.State == history.Unknown:
		return last.State
	case !last.Had:
		return history.Never
	}
	return history.Behind
}

// detail finds what a push will change, and refuses one that would take too much away.
func (d *Deployer) detail(ctx context.Context, p *Plan, hp *HostPlan) error {
	old, digest, err := d.lastManifest(ctx, hp)
	if err != nil {
		return err
	}
	hp.old, hp.from, hp.prune = old, digest, p.req.AllowPrune || allows(consents(p.Snapshot.Message), hp.Name)
	c := p.changes.of(digest, old, hp.bundle)
	hp.Changes, hp.Units = c.changes, c.units
	if c.guard == "" || hp.prune {
		return nil
	}
	last := hp.last
	last.Name = hp.Name
	if hp.prune = d.consented(ctx, p.Snapshot, last); !hp.prune {
		hp.State, hp.Push, hp.Follows, hp.Error = history.Refused, false, false, fmt.Sprintf("%s: pass --allow-prune, or commit with the trailer \"Bellhop-Allow: prune %s\"", c.guard, hp.Name)
	}
	return nil
}

// lastManifest is what stands on a host, as far as is known, and its digest: as it was sent,
// or made again from the commit that it came from. nil when nothing is known.
func (d *Deployer) lastManifest(ctx context.Context, hp *HostPlan) (*bundle.Manifest, string, error) {
	m, digest, err := d.History.Manifest(hp.Name)
	if err != nil || !hp.last.Had {
		return nil, "", err
	}
	if hp.last.Digest != "" && digest != hp.last.Digest && d.At != nil {
		if b, err := d.bundleAt(ctx, d.commitOf(hp.last), hp.Name, func(digest string) bool { return digest == hp.last.Digest }); err == nil && b.Digest == hp.last.Digest {
			return &b.Manifest, b.Digest, nil
		}
	}
	return m, digest, nil
}

// pruneGuard says why a change needs consent; "" when it does not.
func pruneGuard(old, new bundle.Manifest) string {
	loss := bundle.PruneGuard(old, new)
	if loss == nil {
		return ""
	}
	return fmt.Sprintf("%d of its %d things and %d services would leave (%s)",
		loss.Gone, loss.Of, len(loss.Services), strings.Join(loss.Services, ", "))
}

// consents reads the trailers "Bellhop-Allow: prune HOST" of a commit message: the hosts, or
// globs of them.
func consents(message string) []string {
	var hosts []string
	for _, value := range gitsync.Trailers(message, "Bellhop-Allow") {
		words := strings.FieldsFunc(value, func(r rune) bool { return r == ' ' || r == ',' || r == '\t' })
		if len(words) > 1 && words[0] == "prune" {
			hosts = append(hosts, words[1:]...)
		}
	}
	return hosts
}

// consented says whether a commit since the one that a host last satisfied allows it to be
// pruned. Nobody has to repeat in the newest commit what an earlier one of the same push said.
func (d *Deployer) consented(ctx context.Context, snap Snapshot, last history.Host) bool {
	if allows(consents(snap.Message), last.Name) {
		return true
	}
	if d.Since == nil || last.Commit == "" || snap.Commit == "" {
		return false
	}
	messages, err := d.Since(ctx, last.Commit, snap.Commit)
	if err != nil { // a history that was rewritten, say: the newest commit alone speaks
		d.log().Warn("commits since the last deploy can't be read", "host", last.Name, "err", err)
		return false
	}
	return slices.ContainsFunc(messages, func(m string) bool { return allows(consents(m), last.Name) })
}

func allows(patterns []string, host string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, err := path.Match(p, host)
		return ok && err == nil
	})
}

func noUnits() UnitPlan {
	return UnitPlan{Start: []string{}, Stop: []string{}, Restart: []string{}, Reload: []string{}}
}

// Changing lists the hosts that a push will go to, by name.
func (p *Plan) Changing() []*HostPlan {
	var hs []*HostPlan
	for _, h := range p.Hosts {
		if h.Push {
			hs = append(hs, h)
		}
	}
	return hs
}

// Selected counts the hosts that the request chose.
func (p *Plan) Selected() int {
	if p.selected != nil {
		return len(p.selected)
	}
	return len(p.Fleet.Hosts)
}

// Sentence says the plan in one line: "2 of 5 hosts change, 1 unit restarts".
func (p *Plan) Sentence() string {
	var change, same, refused int
	var up UnitPlan
	for _, h := range p.Hosts {
		switch {
		case h.Push && len(h.Changes) == 0:
			same++
		case h.Push:
			change++
			up.Start, up.Stop = append(up.Start, h.Units.Start...), append(up.Stop, h.Units.Stop...)
			up.Restart, up.Reload = append(up.Restart, h.Units.Restart...), append(up.Reload, h.Units.Reload...)
		case h.Error != "" && (p.selected == nil || p.selected[h.Name]):
			refused++
		}
	}
	parts := []string{fmt.Sprintf("%d of %d %s %s", change, p.Selected(), plural(p.Selected(), "host"), verb(change, "change"))}
	for _, c := range []struct {
		n    int
		what string
	}{{len(up.Restart), "restart"}, {len(up.Reload), "reload"}, {len(up.Start), "start"}, {len(up.Stop), "stop"}} {
		if c.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s %s", c.n, plural(c.n, "unit"), verb(c.n, c.what)))
		}
	}
	if same > 0 {
		parts = append(parts, fmt.Sprintf("%d %s looked at", same, isAre(same)))
	}
	if refused > 0 {
		parts = append(parts, fmt.Sprintf("%d %s not pushed", refused, isAre(refused)))
	}
	return strings.Join(parts, ", ")
}

func plural(n int, noun string) string {
	if n == 1 {
		return noun
	}
	return noun + "s"
}

func verb(n int, v string) string {
	if n == 1 {
		return v + "s"
	}
	return v
}

func isAre(n int) string {
	if n == 1 {
		return "is"
	}
	return "are"
}

// PlanJSON is a plan as --json prints it; its shape is a contract.
type PlanJSON struct {
	V      int            `json:"v"`
	Commit *string        `json:"commit"` // null for a tree that is no commit
	Digest string         `json:"digest"` // see Plan.Digest
	Hosts  []HostPlanJSON `json:"hosts"`
}

// HostPlanJSON is one host of it; a host that nothing happens to has empty lists.
type HostPlanJSON struct {
	Name    string          `json:"name"`
	Changes []bundle.Change `json:"changes"`
	Units   UnitPlan        `json:"units"`
}

// JSON is p as --json prints it: every chosen host, by name.
func (p *Plan) JSON() PlanJSON {
	j := PlanJSON{V: history.Version, Digest: p.Digest(), Hosts: []HostPlanJSON{}}
	if p.Snapshot.Commit != "" {
		j.Commit = &p.Snapshot.Commit
	}
	plans := map[string]*HostPlan{}
	for _, h := range p.Hosts {
		plans[h.Name] = h
	}
	for _, h := range p.Fleet.Hosts {
		if p.selected != nil && !p.selected[h.Name] {
			continue
		}
		hj := HostPlanJSON{Name: h.Name, Changes: []bundle.Change{}, Units: noUnits()}
		if hp := plans[h.Name]; hp != nil && hp.Push {
			hj.Changes, hj.Units = append(hj.Changes, hp.Changes...), hp.Units
		}
		j.Hosts = append(j.Hosts, hj)
	}
	return j
}

// HasChanges says that applying p would change a host.
func (p *Plan) HasChanges() bool {
	return slices.ContainsFunc(p.Hosts, func(h *HostPlan) bool { return h.Push && len(h.Changes) > 0 })
}

// plainError is err in one cell: problems of a host come with their places.
func plainError(err error) string {
	var ps fleet.Problems
	if errors.As(err, &ps) {
		return ps.Error()
	}
	return err.Error()
}

// isText says that p can be shown line by line.
func isText(p []byte) bool {
	return len(p) <= 1<<20 && !bytes.ContainsRune(p, 0)
}
