package deploy

import (
	"context"
	"slices"

	"bellhop/internal/fleet"
	"bellhop/internal/history"
	"bellhop/internal/plain"
	"bellhop/internal/push"
)

// What a push needs of history, and what it tells history on its way.

// push makes one host hold its bundle. open says that the host continues without a
// connection, and that its result is to be fetched at the next start.
func (d *Deployer) push(ctx context.Context, clock *push.Clock, r *run, p *Plan, hp *HostPlan) (e history.End, open bool) {
	release, err := d.hosts.hold(ctx, hp.Name)
	if err != nil {
		return d.outcome(r.head.ID, hp, push.Outcome{Fate: push.FateIn(ctx, err), Err: err, Text: err.Error()})
	}
	defer release()

	h := &hostTries{d: d, run: r, plan: p, clock: clock}
	return h.inTries(ctx, hp)
}

// pusher is how hosts are pushed to, as d is set up now.
func (d *Deployer) pusher() *push.Pusher {
	l := d.limits()
	return &push.Pusher{
		Links: d.Links, Deployer: d.ID, Memory: &d.memory, Log: d.log(), Mask: d.Filter, Client: d.Client, Cache: d.Cache, Trace: d.Trace,
		Limits: push.Limits{Connect: l.Connect, Preflight: l.Preflight, Host: l.Host, Patience: l.Patience, Retry: l.Retry},
		Heard:  func(host string, h *push.Hello) { d.hosts.setMachine(host, h.Machine) },
	}
}

// job is the push of a host, as its plan has it.
func (d *Deployer) job(ctx context.Context, r *run, p *Plan, hp *HostPlan) *push.Job {
	j := &push.Job{
		Run: r.head.ID, Network: p.Fleet.Network, Host: hp.Name, Bundle: hp.bundle, Shared: &p.shared,
		Target:     target(p.Fleet, hp.host, hp.last.Arch, len(hp.bundle.Keys) > 0),
		Last:       push.Last{Had: hp.last.Had, Generation: hp.last.Generation, Digest: hp.last.Digest, Manifest: hp.old, From: hp.from},
		Confirm:    confirmWindow(p.Fleet.Confirm, hp.own),
		AllowPrune: hp.prune, TakeOver: r.req.TakeOver,

		Other:   func(h *push.Hello) string { return otherHost(p.Fleet, h, hp.Name) },
		OnHello: func(h *push.Hello) error { return d.correct(ctx, p.Fleet, hp.Name, h) },

		Said:   saidOf(hp),
		Former: d.archive().formerKeys(ctx, hp.Name, hp.bundle),
	}
	j.Elsewhere = d.elsewhere(hp.Name, j.Target)
	if hp.last.State == history.Unknown {
		j.Earlier = tryIDs(hp.last.Run)
	}
	if d.Progress != nil {
		j.Progress = func(step, text string) { r.event(Event{Host: hp.Name, Step: step, Text: text}) }
	}
	return j
}

// saidOf are texts of the deployer that a host repeats when all goes well.
func saidOf(hp *HostPlan) []string {
	said := []string{hp.last.Digest, hp.last.BootID}
	for _, c := range hp.Changes {
		said = append(said, c.Thing())
	}
	return slices.Concat(said, hp.Units.Start, hp.Units.Stop, hp.Units.Restart, hp.Units.Reload)
}

// otherHost is the name of the host of f that the record names, where that is not the host
// itself; "" when it names none.
func otherHost(f *fleet.Fleet, h *push.Hello, host string) string {
	if h.Record == nil || f == nil || h.Record.Host.Is(host) {
		return ""
	}
	for _, other := range f.Hosts {
		if h.Record.Host.Is(other.Name) {
			return other.Name
		}
	}
	return ""
}

// reveal is the text of err, in which a host may be quoted that holds, or was to hold, b.
func (d *Deployer) reveal(ctx context.Context, err error, host string, b *fleet.Bundle) string {
	filter := d.pusher().NewFilter(nil, push.KeysOf(b), d.archive().formerKeys(ctx, host, b))
	defer filter.Drop()
	return plain.Text(filter.Reveal(err), maxText)
}

// revealed is an error whose text can be shown, for those who ask what kind it is.
type revealed struct {
	err  error
	text string
}

func (e *revealed) Error() string { return e.text }
func (e *revealed) Unwrap() error { return e.err }

// correct corrects what history remembers of a host by the host's own record, and gives a renamed
// host its past. f is the fleet that knows its present name, nil when that is not known.
func (d *Deployer) correct(ctx context.Context, f *fleet.Fleet, name string, hello *push.Hello) error {
	if err := d.believeRename(ctx, f, name, hello); err != nil {
		return err
	}

	rec := hello.Record
	digest, generation := "", int64(0)
	if rec != nil {
		generation = rec.Generation
	}
	if rec != nil && rec.Deployer.Is(d.ID) { // what another deployer put there is never what is wanted
		digest = d.archive().knownDigest(f, name, rec.Digest)
	}

	warned := false // the edit may run more than once
	return d.History.Correct(ctx, name, func(h *history.Host) {
		h.Systemd = hello.Systemd
		if hello.Arch != "" {
			h.Arch = hello.Arch
		}
		if n, heard := hello.KeysPresent(); heard {
			h.KeysPresent = n
		}
		if digest == h.Digest && generation == h.Generation {
			return
		}
		if h.Digest != "" && !warned {
			warned = true
			d.log().Warn("host holds another generation than remembered", "host", name, "generation", generation, "remembered", h.Generation)
		}
		h.Digest, h.Generation = digest, generation
		if h.State == history.HeldBack { // what is composed stands no more
			h.State = history.Behind
		}
		if h.Follows && h.Digest != h.Wanted {
			h.Follows = false
			h.State = history.Behind
		}
	})
}

// believeRename gives a host the past of the one that its record names, where that is one which
// left the repo, and history remembers it by a host key that this one is pinned by too. Without
// that proof any host could take the past of another.
func (d *Deployer) believeRename(ctx context.Context, f *fleet.Fleet, name string, hello *push.Hello) error {
	rec := hello.Record
	if rec == nil || f == nil {
		return nil
	}
	isOurs := rec.Deployer.Is(d.ID)
	if !isOurs || rec.Host.Is(name) || otherHost(f, hello, name) != "" {
		return nil
	}
	h, ok := f.Host(name)
	if !ok {
		return nil
	}

	for old, was := range d.History.Hosts() {
		if !rec.Host.Is(old) {
			continue
		}
		if !sharesKey(was.Reach, reach(h)) {
			d.log().Warn("host says that it had another name, and no pinned key of that name is its own", "host", name)
			return nil
		}
		return d.History.Rename(ctx, old, name)
	}
	return nil
}

// sharesKey says whether both are pinned by the same host key.
func sharesKey(a, b history.Reach) bool {
	return slices.ContainsFunc(a.HostKeys, func(k string) bool { return slices.Contains(b.HostKeys, k) })
}
