package deploy

import (
	"context"
	"time"

	"bellhop/deploy/actions"
	"bellhop/deploy/contact"
	"bellhop/deploy/drift"
	"bellhop/deploy/keys"
	"bellhop/deploy/lines"
	"bellhop/deploy/outcome"
	"bellhop/internal/bundle"
	"bellhop/internal/link"
)

// Keys is what works on the keys of the deployer's hosts.
func (d *Deployer) Keys() keys.Keys { return keys.Keys{Contact: d.contact()} }

// Looker looks at the hosts of d.
func (d *Deployer) Looker() drift.Looker {
	return drift.Looker{Contact: d.contact(), Keys: d.Keys(), State: &d.looks, Awaits: d.lines.Awaits, Jitter: d.Jitter, NoteAnswer: d.keeper().NoteAnswer}
}

// contact is what contacts with hosts need, as d is set up now.
func (d *Deployer) contact() contact.Contact {
	l := d.limits()
	return contact.Contact{
		History: d.History, Hosts: &d.hosts, Links: d.Links, ID: d.ID, Log: d.log(), Limit: l.Host, Retry: l.Retry,
		Pusher: d.pusher, Archive: d.archive, Fleet: d.planner.LastFleet, Ring: d.bell.ring, Load: d.loaded,
	}
}

// Restart restarts the units of a service. progress hears what happens, line by line; nil: nobody does.
func (d *Deployer) Restart(service string, progress func(host, line string)) *actions.Restart {
	return &actions.Restart{Contact: d.contact(), Service: service, Progress: progress, After: d.Looker().Again}
}

// Reboot reboots a host and waits until it is back with its keys, at most limit (0: 10 min).
// report hears what happens.
func (d *Deployer) Reboot(ctx context.Context, host string, limit time.Duration, report func(string)) error {
	return actions.Reboot(ctx, d.Keys(), host, limit, report)
}

// GiveBack has a host that left the repo take away everything that bellhop owns there, and put
// back what stood there before. A host without a record was given back before, or has lost what
// to put back, which is an error.
func (d *Deployer) GiveBack(ctx context.Context, host string) (*bundle.Result, error) {
	return actions.GiveBack(ctx, d.contact(), host)
}

// outcomes say what a push means for d's history.
func (d *Deployer) outcomes() outcome.Outcomes {
	return outcome.Outcomes{History: d.History, Hosts: &d.hosts, IsUp: d.lines.IsUp, Archive: d.archive(), Log: d.log()}
}

// Watch keeps lines to hosts from now on, until ctx ends: those that history asks for are opened
// at once, and hosts are looked at as often as the config wants. It returns at once.
func (d *Deployer) Watch(ctx context.Context) {
	d.lines.Start(ctx)
	d.keeper().OpenKnown()
	d.Looker().Serve(ctx)
}

// Reachable says which hosts answer at this moment: those to which a long-lived connection is open.
func (d *Deployer) Reachable() map[string]bool { return d.lines.Up() }

// Ahead is how far the clocks of hosts were ahead of ours when each was heard last, since this process began.
func (d *Deployer) Ahead() map[string]time.Duration { return d.hosts.Ahead() }

func (d *Deployer) keeper() lines.Keeper {
	return lines.Keeper{Set: &d.lines, Links: d.Links, History: d.History, Ring: d.bell.ring, Log: d.log(), Contact: d.contact(),
		Heal: func(ctx context.Context, host string, t link.Target) error {
			_, err := d.Keys().Heal(ctx, host, t, false)
			return err
		},
	}
}

func (d *Deployer) retries() lines.Retries {
	return lines.Retries{Lines: &d.lines, Hosts: &d.hosts, History: d.History, Ring: d.bell.ring, Wait: d.limits().Retry}
}
