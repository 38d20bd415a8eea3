package deploy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet"
	"bellhop/internal/history"
	"bellhop/internal/link"
	"bellhop/internal/plain"
	"bellhop/internal/push"
)

// watchLine holds one line open until ctx ends.
func (d *Deployer) watchLine(ctx context.Context, t link.Target) {
	err := d.Links.Watch(ctx, t, link.Watcher{
		Up: func(ctx context.Context) error {
			d.lines.setUp(t.Name, true)
			d.noteAnswer(t.Name, nil)
			return d.up(ctx, t.Name, t)
		},
		Down: func(_ context.Context, err error) {
			wasUp := d.lines.setUp(t.Name, false)
			if wasUp { // the host answered until now
				d.noteAnswer(t.Name, nil)
			}
			d.noteAnswer(t.Name, err)
		},
	})
	if ctx.Err() == nil {
		d.givenUp(ctx, t.Name, err)
	}
}

// noteAnswer has history remember whether a host answers. An error that says neither, such as a
// refused login, changes nothing.
func (d *Deployer) noteAnswer(host string, err error) {
	var key *link.HostKeyError
	away := push.IsAway(err) || errors.As(err, &key)
	if err != nil && !away {
		return
	}
	if err := d.History.Met(context.Background(), host, away); err != nil {
		d.log().Error("remember whether a host answers", "host", host, "err", err)
	}
}

// Reachable says which hosts answer at this moment: those to which a long-lived connection is open.
func (d *Deployer) Reachable() map[string]bool { return d.lines.up() }

// givenUp closes a line that no retry can open again; the next run may open another. Where the host
// shows another key a run is asked for at once, whose result reports it.
func (d *Deployer) givenUp(ctx context.Context, host string, err error) {
	d.lines.ended(host, ctx)
	d.log().Error("line to host given up", "host", host, "err", err)
	var key *link.HostKeyError
	if h, ok := d.History.Host(host); ok && h.State != history.Refused && errors.As(err, &key) {
		d.forgetLast(host)
		d.bell.ring(host + " shows another host key")
	}
}

// up is called when a line was opened: it reads the host's own record, and after a reboot puts its
// keys back.
func (d *Deployer) up(ctx context.Context, host string, t link.Target) error {
	if h, ok := d.History.Host(host); !ok || isUnheard(h) {
		d.bell.ring(host + " is back")
		if ok && h.KeysPresent == 0 && !t.Keys {
			return nil
		}
	}

	_, err := d.healKeys(ctx, host, t, false)
	if err != nil {
		d.log().Warn("keys are not back yet", "host", host, "err", err)
	}

	if link.HardStop(err) || push.Passes(err) || errors.Is(err, link.ErrAuth) {
		return err
	}
	return nil
}

// healKeys reads the host's record, and puts back the keys of the generation that the host holds:
// when its boot is another than remembered, when a key is missing, or always. Only a boot id that
// was read whole counts: a login also works while a host shuts down.
func (d *Deployer) healKeys(ctx context.Context, host string, t link.Target, always bool) (*bundle.Result, error) {
	release, err := d.hosts.hold(ctx, host)
	if err != nil {
		return nil, err
	}
	defer release()
	s, err := d.pusher().OpenIdle(ctx, t)
	if err != nil {
		return nil, err
	}
	defer s.Close()

	was, _ := d.History.Host(host)
	if err := d.correct(ctx, d.planner.lastFleet(), host, &s.Hello); err != nil {
		return nil, err
	}

	now, _ := d.History.Host(host)
	if now.State == history.Behind && was.State != history.Behind {
		d.bell.ring(host + " holds another generation")
	}

	rec := s.Hello.Record
	if rec == nil || rec.Generation == 0 {
		return nil, nil // it has nothing, so no keys either
	}

	if !rec.Deployer.Is(d.ID) {
		return nil, push.Final(&plain.Quote{What: "its record names another deployer", Said: rec.Deployer})
	}

	n, _ := s.Hello.KeysPresent()
	if !always && s.Hello.BootID.Is(was.BootID) && n == len(s.Hello.Keys) {
		return nil, nil
	}

	b, err := d.archive().bundleOnHost(ctx, host, rec)
	if err != nil {
		return nil, err
	}

	filter := d.pusher().NewFilter([]string{was.BootID, host, d.ID, b.Digest}, push.KeysOf(b))
	defer filter.Drop()
	if len(b.Keys) == 0 {
		return nil, d.noteKeys(host, filter.Word(s.Hello.BootID), 0)
	}
	return d.pushKeys(s, host, b, filter)
}

func (d *Deployer) pushKeys(s *push.Session, host string, b *fleet.Bundle, filter *push.Filter) (*bundle.Result, error) {
	res, err := s.PushKeys("keys-"+NewRunID(), b, filter)
	if err != nil {
		return nil, err
	}

	if res.Outcome != bundle.OutcomeDone && res.Outcome != bundle.OutcomeNothing {
		return res, fmt.Errorf("keys of %s: %s: %s", host, res.Outcome, res.Error)
	}

	n := len(b.Keys)
	if len(res.Keys) > 0 {
		n = present(res.Keys)
	}

	d.log().Info("keys are back", "host", host, "generation", s.Hello.Record.Generation)
	return res, d.noteKeys(host, filter.Word(s.Hello.BootID), n)
}

// noteKeys has history remember how many keys a host has, and in which boot.
func (d *Deployer) noteKeys(host, boot string, n int) error {
	return d.History.Correct(context.Background(), host, func(h *history.Host) {
		h.KeysPresent = n
		if boot != "" {
			h.BootID = boot
		}
	})
}

// When a host that answers but can't be pushed is tried again, in units of Limits.Retry. A host that
// does not answer needs no timer: its line rings when it is back.
const (
	retryFirst = 30
	retryLast  = 600
)

// isUnheard says that a host could not be reached, or did not say what came of a push.
func isUnheard(h history.Host) bool {
	return h.State == history.Pending || h.State == history.Unknown
}

// unreached schedules another try of a host.
func (d *Deployer) unreached(host string) {
	life := d.lines.lifetime()
	if life == nil {
		return
	}

	n := d.hosts.unreached(host)
	wait := d.limits().Retry * time.Duration(min(retryFirst<<min(n, 8), retryLast))
	time.AfterFunc(wait, func() {
		if d.hosts.away(host) && d.lines.has(host) { // its line rings when it is back
			return
		}
		h, known := d.History.Host(host)
		if life.Err() == nil && known && isUnheard(h) {
			d.bell.ring("retry of " + host)
		}
	})
}

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
			if err := d.settle(ctx, o, hosts); err != nil {
				d.log().Warn("open run can't be settled yet", "host", o.Host, "run", o.Run, "err", err)
			}
		}()
	}

	for range open {
		<-done
	}
	return nil
}

func (d *Deployer) settle(ctx context.Context, o history.Interrupted, hosts map[string]history.Host) error {
	limit := d.limits().Host
	if d.Detach { // a server has others to look after
		limit = d.limits().Patience
	}

	ctx, cancel := context.WithTimeoutCause(ctx, limit, push.ErrDeadline)
	defer cancel()
	release, err := d.hosts.hold(ctx, o.Host)
	if err != nil {
		return err
	}
	defer release()
	t := rememberedTarget(o.Host, hosts, 0)
	s, err := d.pusher().Open(ctx, t, 0)
	if err != nil {
		return err
	}
	defer s.Close()

	waits := d.settling(o, t)
	s.Confirm(waits)
	filter := d.pusher().NewFilter([]string{o.Run, o.As, o.Digest, o.Host, d.ID}, d.archive().keysAt(ctx, o), d.archive().formerKeys(ctx, o.Host, nil))
	defer filter.Drop()
	res, err := s.Find(o.As, filter)
	fresh := waits.End(false, filter)
	if err != nil {
		return err
	}

	if res == nil {
		return d.correct(ctx, nil, o.Host, &s.Hello)
	}

	hp := &HostPlan{Name: o.Host, bundle: &fleet.Bundle{Digest: o.Digest}}
	e := d.result(o.Run, hp, res, filter.Word(s.Hello.BootID))
	d.unconfirmed(o.Run, hp, fresh, &e)
	e.Manifest, e.Commit, e.Took = nil, o.Commit, time.Duration(res.TookMillis)*time.Millisecond
	d.settleServices(ctx, o, res, &e)
	if err := d.History.Ended(ctx, o.Run, o.Host, e); err != nil {
		return err
	}

	d.hosts.ended(o.Host, o.Run, e)
	d.log().Info("open run settled", "host", o.Host, "run", o.Run, "outcome", e.Outcome)
	return nil
}

// rememberedTarget is how a host was reached last: it works without the repo.
func rememberedTarget(host string, hosts map[string]history.Host, depth int) link.Target {
	h := hosts[host]
	t := link.Target{Name: host, Addresses: h.Reach.Addresses, HostKeys: h.Reach.HostKeys, User: h.Reach.User, Arch: h.Arch, Keys: hasKeys(h)}
	if h.Reach.Jump != "" && depth < 8 {
		j := rememberedTarget(h.Reach.Jump, hosts, depth+1)
		t.Jump = &j
	}
	return t
}
