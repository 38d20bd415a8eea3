package deploy

import (
	"context"
	"errors"
	"sync"

	"bellhop/deploy/plan"
	"bellhop/deploy/routes"
	"bellhop/internal/fleet"
	"bellhop/internal/history"
)

// A run leaves a host alone where the bundle failed before, where it is refused, or where a run stopped
// before it. History may not know what such a host holds: the end of a push there was never heard, or it was
// not heard for long, and a person asks for all hosts; or the host got another name, and its own record alone
// says so. Then the host is asked for its record, and nothing is offered.

// contactLeft asks the hosts that the plan p leaves alone, as far as that is due. The run waits for it only
// where a person asked for all hosts, or where its process ends with it.
func (d *Deployer) contactLeft(ctx context.Context, r *run, p *plan.Plan) {
	var all sync.WaitGroup
	slots := make(chan struct{}, defaultParallel)
	for _, hp := range p.Hosts {
		if !d.isToContact(p, hp) {
			continue
		}
		ask := func(ctx context.Context) {
			slots <- struct{}{}
			defer func() { <-slots }()
			d.askLeft(ctx, r, p.Fleet, hp.Name)
		}
		if p.Request.All || !d.Detach {
			all.Go(func() { ask(ctx) })
		} else {
			d.work.Go(func() { ask(r.parent) })
		}
	}
	all.Wait()
}

// isToContact says that a host which p leaves alone is asked what it holds.
func (d *Deployer) isToContact(p *plan.Plan, hp *plan.HostPlan) bool {
	isLeft := !hp.Push && p.Chose(hp.Name) && hp.State != history.Deploying
	if !isLeft || hp.Elsewhere {
		return false
	}
	if p.Request.All {
		return true
	}
	waitsForLine := d.hosts.Away(hp.Name) && d.lines.Awaits(hp.Name)
	mayHaveAPast := hp.Last.SeenAt.IsZero() && d.contact().FormerName(p.Fleet, hp.Host) != ""
	return !waitsForLine && (mayHaveAPast || d.isOutOfSight(hp.Last))
}

// isOutOfSight says that the end of the newest push to a host was not heard, nor the host since then: the
// push may have left anything there.
func (d *Deployer) isOutOfSight(last history.Host) bool {
	if last.Digest != "" || last.Run == "" {
		return false
	}
	lost, ok, err := d.History.Lost(context.Background(), last.Name)
	if err != nil {
		d.log().Error("look for a push whose end was not heard", "host", last.Name, "err", err)
	}
	return ok && last.SeenAt.Before(lost.At)
}

// askLeft asks a host for its record and, where the end of a push there was not heard, for that.
func (d *Deployer) askLeft(parent context.Context, r *run, f *fleet.Fleet, host string) {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	release, ok := d.hosts.HoldIdle(host, func() { cancel(errGivesWay) })
	if !ok {
		return
	}
	defer release()

	err := d.hear(ctx, f, host)
	if ctx.Err() != nil { // it was cut short, which tells nothing of the host
		return
	}
	d.keeper().NoteAnswer(host, err)
	if err != nil {
		text := d.contact().Reveal(ctx, err, host, nil)
		d.log().Warn("host that is left alone can't be asked what it holds", "host", host, "run", r.head.ID, "err", text)
	}
}

// hear asks a host that is held by the caller. One that had another name is planned anew, by what is known of that.
func (d *Deployer) hear(ctx context.Context, f *fleet.Fleet, host string) error {
	lost, isLost, err := d.History.Lost(ctx, host)
	if err != nil {
		return err
	}
	s := &settling{d: d, open: lost.Interrupted, left: true}
	s.open.Host = host
	limited, cancel, clock := s.limited(ctx)
	defer cancel()

	hosts := d.History.Hosts()
	if isLost {
		s.ofHold()
		return s.ask(limited, clock, hosts)
	}
	session, err := d.pusher().Open(limited, routes.Remembered(host, hosts), 0)
	if err != nil {
		return err
	}
	defer session.Close()
	if err := d.contact().Correct(limited, f, host, &session.Hello); err != nil {
		return err
	}
	if now, _ := d.History.Host(host); now.Had && !hosts[host].Had {
		d.bell.ring(host + " has another name")
	}
	return nil
}

// lostOn is the id, on the host, of a push of the bundle of hp whose end was not heard; "" where there is
// none, or where a person asked to try again.
func (d *Deployer) lostOn(ctx context.Context, p *plan.Plan, hp *plan.HostPlan) string {
	isAsked := p.Chose(hp.Name) && (p.Request.Retry || p.Request.TakeOver)
	if hp.Last.Digest != "" || hp.Last.Run == "" || isAsked {
		return ""
	}
	lost, ok, err := d.History.Lost(ctx, hp.Name)
	if err != nil && !errors.Is(err, context.Canceled) {
		d.log().Error("look for a push whose end was not heard", "host", hp.Name, "err", err)
	}
	if !ok || lost.Digest != hp.Bundle.Digest {
		return ""
	}
	return lost.As
}

// errGivesWay says that a contact ended for a push of its host.
var errGivesWay = errors.New("a run is at work on the host")
