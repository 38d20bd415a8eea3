package deploy

import (
	"context"
	"slices"
	"time"

	"bellhop/deploy/commits"
	"bellhop/deploy/plan"
	"bellhop/deploy/routes"
	"bellhop/internal/bundle"
	"bellhop/internal/fleet"
	"bellhop/internal/history"
	"bellhop/internal/history/services"
	"bellhop/internal/history/stops"
	"bellhop/internal/link"
	"bellhop/internal/push"
)

// Settle fetches the results of runs that an earlier process left open: the hosts finished without
// it. A host that can't be reached stays unknown, and the next run contacts it.
func (d *Deployer) Settle(ctx context.Context) error {
	open, err := d.History.Recover(ctx)
	if err != nil {
		return err
	}

	hosts := d.History.Hosts()
	sem := make(chan struct{}, defaultParallel)
	done := make(chan struct{}, len(open))
	for _, o := range open {
		go func() {
			defer func() { done <- struct{}{} }()
			sem <- struct{}{}
			defer func() { <-sem }()
			if err := (&settling{d: d, open: o}).run(ctx, hosts); err != nil {
				d.log().Warn("open run can't be settled yet", "host", o.Host, "run", o.Run, "err", err)
				d.giveUp(ctx, o.Host)
			}
		}()
	}

	for range open {
		<-done
	}
	return nil
}

// giveUp ends what a host was left open in, where that left the repo: no run asks it any more.
func (d *Deployer) giveUp(ctx context.Context, host string) {
	if ctx.Err() != nil { // the next start asks it
		return
	}
	if err := d.History.GiveUp(ctx, host); err != nil {
		d.log().Error("end what a host was left open in", "host", host, "err", err)
	}
}

// A settling fetches the result of one run that was left open on one host.
type settling struct {
	d    *Deployer
	open history.Interrupted
	hold *stops.Hold // that the host was brought back for; nil: it was not
	left bool        // a run that leaves the host alone asks: what it planned for the host stays
}

// ofHold finds out whether the run brought the host back: then its bundle came from another commit than
// the run names.
func (s *settling) ofHold() {
	if hold := s.d.History.Holds().Of(s.open.Host); hold != nil && hold.Digest == s.open.Digest {
		s.hold, s.open.Commit = hold, hold.Commit
	}
}

func (s *settling) run(ctx context.Context, hosts map[string]history.Host) error {
	s.ofHold()
	ctx, cancel, clock := s.limited(ctx)
	defer cancel()
	release, err := s.d.hosts.Hold(ctx, s.open.Host)
	if err != nil {
		return err
	}
	defer release()
	return s.ask(ctx, clock, hosts)
}

// ask is run with the host held.
func (s *settling) ask(ctx context.Context, clock *push.Clock, hosts map[string]history.Host) error {
	d, o := s.d, s.open
	t := routes.Remembered(o.Host, hosts)
	session, err := d.pusher().Open(ctx, t, 0)
	if err != nil {
		return err
	}
	defer session.Close()

	waits := s.confirmation(t)
	session.Confirm(waits)
	session.Count(clock)
	filter := d.pusher().NewFilter([]string{o.Run, o.As, o.Digest, o.Host, d.ID}, d.archive().KeysAt(ctx, o), d.archive().FormerKeys(ctx, o.Host, nil))
	filter.AlsoSaid(func() []string { return s.manifest(ctx).ServiceNames() })
	defer filter.Drop()
	res, err := session.Find(o.As, filter)
	fresh := waits.End(false, filter)
	if err != nil {
		return err
	}

	if res == nil {
		return d.contact().Correct(ctx, nil, o.Host, &session.Hello)
	}

	hp := &plan.HostPlan{Name: o.Host, Bundle: &fleet.Bundle{Digest: o.Digest}}
	oc := d.outcomes()
	e := oc.Result(o.Run, hp, res, filter.Word(session.Hello.BootID))
	oc.Unconfirmed(o.Run, hp, fresh, &e)
	e.Manifest, e.Commit, e.Took = nil, o.Commit, time.Duration(res.TookMillis)*time.Millisecond
	if s.hold == nil {
		s.services(ctx, res, &e)
	} else {
		e.Origins = s.hold.Origins
	}
	if err := s.store(ctx, e); err != nil {
		return err
	}

	d.hosts.Ended(o.Host, o.Run, e)
	d.log().Info("open run settled", "host", o.Host, "run", o.Run, "outcome", e.Outcome)
	if s.left { // what the run brought is known by now
		return d.contact().Correct(ctx, nil, o.Host, &session.Hello)
	}
	return nil
}

// store stores what came of the run.
func (s *settling) store(ctx context.Context, e history.End) error {
	if s.left {
		return s.d.History.Found(ctx, s.open.Run, s.open.Host, e)
	}
	return s.d.History.Ended(ctx, s.open.Run, s.open.Host, e)
}

// confirmation is that of a run that an earlier process began on a host. How long the host waits is not
// known any more; what it says ends it.
func (s *settling) confirmation(t link.Target) *push.Confirmation {
	c := s.d.pusher().NewConfirmation(t, s.open.As, ownConfirm, s.d.witnesses().Elsewhere(s.open.Host, t))
	c.Reattached()
	return c
}

// limited is ctx with the time that the host has for the rest of its run, and the clock that counts it. A
// command gives it that of a push, without the waits of the host. A server has others to look after: its
// clock is nil, and what it leaves is found by its next push, which has a clock.
func (s *settling) limited(ctx context.Context) (context.Context, context.CancelFunc, *push.Clock) {
	if s.d.Detach {
		ctx, cancel := context.WithTimeoutCause(ctx, s.d.limits().Patience, push.ErrDeadline)
		return ctx, cancel, nil
	}

	ctx, cancel, clock := push.NewClock(ctx, s.d.limits().Host, &bundle.Manifest{})
	clock.Learn(func() *bundle.Manifest { return s.manifest(ctx) })
	return ctx, cancel, clock
}

// manifest is what the run was to bring, also where the keys of it can't be opened; empty when that is not
// known.
func (s *settling) manifest(ctx context.Context) *bundle.Manifest {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commits.OlderTime)
	defer cancel()

	b, err := s.d.archive().PartialAt(ctx, s.open.Commit, s.open.Host)
	if err != nil {
		s.d.log().Warn("what an open run was to bring is not known", "host", s.open.Host, "run", s.open.Run, "err", err)
		return &bundle.Manifest{}
	}
	return &b.Manifest
}

// services completes the end of a run that an earlier process left open: what it was composed of,
// and which services it was undone for. The rest is brought without those by the next run.
func (s *settling) services(ctx context.Context, res *bundle.Result, e *history.End) {
	past, o := s.d.archive(), s.open
	if e.Stood() && len(o.Origins) > 0 {
		g := history.Generation{Digest: o.Digest, Commit: o.Commit, Origins: o.Origins}
		e.Outcome, e.Origins = history.OutcomeHeldBack, o.Origins
		b, err := past.ComposedAt(ctx, o.Host, g)
		if err != nil {
			s.d.log().Warn("a composed bundle can't be made again", "host", o.Host, "commit", o.Commit, "err", err)
			return
		}

		e.Manifest, e.Whole = &b.Manifest, b.Wanted()
		return
	}

	isUndone := (e.State == history.RolledBack || isRefusedForServices(*e)) && len(res.Failing) > 0
	if !isUndone {
		return
	}

	f, err := past.FleetAt(ctx, o.Commit)
	if err != nil || !f.Isolate {
		return
	}

	whole, err := f.Partial(o.Host)
	if err != nil {
		return
	}

	for _, service := range whole.ServiceNames() {
		if slices.Contains(res.Failing, service) {
			e.FailedServices = append(e.FailedServices, services.Failure{Service: service, Digest: bundle.ServiceDigest(&whole.Manifest, service), Run: o.Run, Error: res.Error})
		}
	}

	if len(e.FailedServices) > 0 {
		e.State, e.Remember = history.Behind, false
	}
}
