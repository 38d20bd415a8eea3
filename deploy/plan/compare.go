package plan

import (
	"context"
	"fmt"

	"bellhop/deploy/commits"
	"bellhop/deploy/hosts"
	"bellhop/deploy/routes"
	"bellhop/deploy/testbranch"
	"bellhop/internal/fleet"
	"bellhop/internal/history"
)

// A Comparer makes plans of what is wanted and what is known.
type Comparer struct {
	Planner *Planner
	History *history.DB
	Hosts   *hosts.Table
	Archive commits.Archive
	Machine routes.Machine // that bellhop runs on
	Watches bool           // connections are kept, which tell when a host is back
	Tests   *testbranch.Tests
}

// Compare holds wanted against last. It is called under steps.
func (d Comparer) Compare(ctx context.Context, req Request, snap commits.Snapshot, f *fleet.Fleet) (*Plan, error) {
	p := &Plan{Snapshot: snap, Fleet: f, Before: d.Planner.takeBefore(), Gone: d.Planner.differ.gone, Request: req}
	chosen, err := f.Select(req.On)
	if err != nil {
		return nil, fmt.Errorf("choose hosts by %q: %w", req.On, err)
	}

	if req.On != "" {
		p.Chosen = map[string]bool{}
		for _, h := range chosen {
			p.Chosen[h.Name] = true
		}
	}

	if err := d.Hosts.ReadFailures(d.History); err != nil {
		return nil, err
	}

	var asked []*fleet.Host
	if req.All {
		asked = chosen
	}

	past, held := d.Archive, d.heldPlans(p)
	for _, name := range d.Planner.candidates(f, append(d.History.Restless(), d.Tests.Hosts()...), asked) {
		hp, err := held.one(ctx, d.Planner.wanted[name])
		if err != nil {
			return nil, err
		}
		if hp.Push {
			if err := detail(ctx, past, p, hp); err != nil {
				return nil, err
			}
		}
		p.Hosts = append(p.Hosts, hp)
	}

	p.Order = d.waves(p)
	return p, nil
}
