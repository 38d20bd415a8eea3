package plan

import (
	"cmp"
	"slices"

	"bellhop/internal/history"
	"bellhop/internal/rollout"
)

// waves are the hosts that a plan pushes to, in the order of the run. bellhop's own host is last.
func (d Comparer) waves(p *Plan) [][]*HostPlan {
	changing := p.Changing()
	if len(changing) == 0 {
		return nil
	}
	// Who goes first should answer: a wave of hosts that are away shows nothing.
	slices.SortStableFunc(changing, func(a, b *HostPlan) int { return cmp.Compare(rank(a), rank(b)) })

	byName := make(map[string]*HostPlan, len(changing))
	hosts := make([]rollout.Host, 0, len(changing))
	for _, hp := range changing {
		byName[hp.Name], hp.IsDeployer = hp, d.Machine.Is(hp.Last.BootID, hp.Host.Addresses, d.Hosts.Machine(hp.Name))
		hosts = append(hosts, rollout.Host{Name: hp.Name, Tags: hp.Host.Tags, Own: hp.IsDeployer})
	}

	after := func(host string) []string {
		if h, ok := p.Fleet.Host(host); ok {
			return h.After
		}
		return nil
	}
	var waves [][]*HostPlan
	for _, names := range rollout.Waves(hosts, p.Fleet.Rollout.Waves, after) {
		wave := make([]*HostPlan, 0, len(names))
		for _, name := range names {
			wave = append(wave, byName[name])
		}
		waves = append(waves, wave)
	}
	return waves
}

// rank puts those first that are likely to show whether a bundle works: a host that did not answer
// last time is likely not to answer now, and one that could not be undone whole is in no good state.
func rank(hp *HostPlan) int {
	switch {
	case hp.Last.State == history.Pending:
		return 2
	case hp.Host.Sometimes || hp.Last.State == history.Failed:
		return 1
	}
	return 0
}

// Waves are the names of the hosts that the plan pushes to, in the order of the run.
func (p *Plan) Waves() [][]string {
	waves := [][]string{}
	for _, wave := range p.Order {
		names := []string{}
		for _, hp := range wave {
			names = append(names, hp.Name)
		}
		waves = append(waves, names)
	}
	return waves
}
