package deploy

import (
	"context"
	"fmt"

	"bellhop/deploy/commits"
	"bellhop/deploy/hosts"
	"bellhop/deploy/routes"
	"bellhop/internal/fleet"
	"bellhop/internal/history"
)

// A maker makes plans of what is wanted and what is known.
type maker struct {
	planner *planner
	history *history.DB
	hosts   *hosts.Table
	archive commits.Archive
	machine routes.Machine // that bellhop runs on
	watches bool           // connections are kept, which tell when a host is back
}

// compare holds wanted against last. It is called under steps.
func (d maker) compare(ctx context.Context, req Request, snap Snapshot, f *fleet.Fleet) (*Plan, error) {
	p := &Plan{Snapshot: snap, Fleet: f, Gone: d.planner.differ.gone, req: req}
	chosen, err := f.Select(req.On)
	if err != nil {
		return nil, fmt.Errorf("choose hosts by %q: %w", req.On, err)
	}

	if req.On != "" {
		p.selected = map[string]bool{}
		for _, h := range chosen {
			p.selected[h.Name] = true
		}
	}

	if err := d.hosts.ReadFailures(d.history); err != nil {
		return nil, err
	}

	var asked []*fleet.Host
	if req.All {
		asked = chosen
	}

	past, held := d.archive, d.heldPlans(p)
	for _, name := range d.planner.candidates(f, d.history.Restless(), asked) {
		hp, err := held.one(ctx, d.planner.wanted[name])
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

	p.waves = d.waves(p)
	return p, nil
}
