package deploy

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"bellhop/deploy/routes"
	"bellhop/internal/history"
	"bellhop/internal/plain"
	"bellhop/internal/rollout"
)

// A run goes over its hosts in waves. Before each wave but the first it looks at what came of the hosts
// before, and stops when more than max_failures of them failed as a whole. What the hosts of a wave
// hold follows package rollout; here is what a run makes of it.

// waves are the hosts that a plan pushes to, in the order of the run. bellhop's own host is last.
func (d *Deployer) waves(p *Plan) [][]*HostPlan {
	changing := p.Changing()
	if len(changing) == 0 {
		return nil
	}
	// Who goes first should answer: a wave of hosts that are away shows nothing.
	slices.SortStableFunc(changing, func(a, b *HostPlan) int { return cmp.Compare(rank(a), rank(b)) })

	machine := routes.ThisMachine(d.BootID, d.MachineID)
	byName := make(map[string]*HostPlan, len(changing))
	hosts := make([]rollout.Host, 0, len(changing))
	for _, hp := range changing {
		byName[hp.Name], hp.own = hp, machine.Is(hp.last.BootID, hp.host.Addresses, d.hosts.Machine(hp.Name))
		hosts = append(hosts, rollout.Host{Name: hp.Name, Tags: hp.host.Tags, Own: hp.own})
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
	case hp.last.State == history.Pending:
		return 2
	case hp.host.Sometimes || hp.last.State == history.Failed:
		return 1
	}
	return 0
}

// Waves are the names of the hosts that the plan pushes to, in the order of the run.
func (p *Plan) Waves() [][]string {
	waves := [][]string{}
	for _, wave := range p.waves {
		names := []string{}
		for _, hp := range wave {
			names = append(names, hp.Name)
		}
		waves = append(waves, names)
	}
	return waves
}

// wave pushes the hosts of one wave, unless the run has stopped.
func (b *batch) wave(ctx context.Context, i, n int) {
	hosts := b.beginWave(i)
	if why, isFirm := b.sum.stops(); why != "" {
		b.leave(b.takeLeft(), history.End{Outcome: history.Behind.Outcome(), Error: why, Stopped: isFirm})
		return
	}
	if hosts == 0 { // the run was cancelled
		return
	}
	if len(b.plan.waves) > 1 {
		b.run.event(Event{Step: "wave", Text: fmt.Sprintf("wave %d of %d: %s", i+1, len(b.plan.waves), plain.Few(b.plan.Waves()[i]))})
	}
	b.push(ctx, min(n, hosts))
}

// beginWave has the hosts of one wave wait to be pushed, and returns how many there are: none when the run
// was cancelled.
func (b *batch) beginWave(i int) int {
	b.mu.Lock()
	defer b.mu.Unlock()

	if b.cancelled {
		return 0
	}
	b.left, b.later = b.plan.waves[i], b.plan.waves[i+1:]
	return len(b.left)
}

// leave ends hosts that a run stops before, as e. Where the stop is firm their commit is not tried there
// again unless a person asks.
func (b *batch) leave(hosts []*HostPlan, e history.End) {
	e.Untouched = true
	for _, hp := range hosts {
		e := e
		e.State = history.Behind
		if !hp.last.Had {
			e.State = history.Never
		}
		if hp.held != nil || hp.hold != nil {
			e.Whole = hp.wanted()
		}
		b.d.end(b.run, hp, e)
	}
}
