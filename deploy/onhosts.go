package deploy

import (
	"context"
	"time"

	"bellhop/deploy/actions"
	"bellhop/deploy/contact"
	"bellhop/deploy/drift"
	"bellhop/deploy/keys"
	"bellhop/internal/bundle"
)

// Keys is what works on the keys of the deployer's hosts.
func (d *Deployer) Keys() keys.Keys { return keys.Keys{Contact: d.contact()} }

// Looker looks at the hosts of d.
func (d *Deployer) Looker() drift.Looker {
	return drift.Looker{Contact: d.contact(), Keys: d.Keys(), State: &d.looks, HasLine: d.lines.has, NoteAnswer: d.keeper().noteAnswer}
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
