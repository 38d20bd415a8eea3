package plan

import "bellhop/internal/plandigest"

// Digest names what the plan changes: two plans with one digest change the same things to the
// same contents. See plandigest.Of.
func (p *Plan) Digest() string {
	var hosts []plandigest.Host
	for _, h := range p.Hosts {
		if h.Push {
			hosts = append(hosts, plandigest.Host{Name: h.Name, Changes: h.Changes, Bundle: h.Bundle})
		}
	}
	return plandigest.Of(p.Snapshot.Tree, hosts)
}
