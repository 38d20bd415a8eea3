package inventory

import (
	"cmp"
	"maps"
	"slices"

	"bellhop/internal/fleet/problem"
	"bellhop/internal/fleet/syntax"
	"bellhop/internal/fleet/yaml"
	"bellhop/internal/rollout"
)

// In which order a run goes over the hosts: rollout: of bellhop.yaml, and after: of a host.

// defaultWaves has one host go first, and then the rest.
var defaultWaves = []rollout.Step{{Count: 1}}

func (m *maker) readRollout() {
	f := m.file.Rollout
	m.Rollout = Rollout{Waves: defaultWaves, Parallel: 10}
	if f.Parallel.At.Line > 0 {
		m.Rollout.Parallel = f.Parallel.N
		if f.Parallel.N < 1 {
			m.report(m.main, f.Parallel.At, "rollout: parallel is %d; want 1 or more", f.Parallel.N)
		}
	}

	m.Rollout.MaxFailures = f.MaxFailures.N
	if f.MaxFailures.N < 0 {
		m.report(m.main, f.MaxFailures.At, "rollout: max_failures is %d; want 0 or more", f.MaxFailures.N)
	}
	if f.Waves.At.Line > 0 {
		m.Rollout.Waves = m.waves(f.Waves)
	}
}

// waves are the steps as written; a tag that no host has is reported by orders.
func (m *maker) waves(w syntax.Waves) []rollout.Step {
	var steps []rollout.Step
	if len(w.Steps) > rollout.MaxSteps {
		m.report(m.main, w.At, "rollout: waves has %d items; want at most %d", len(w.Steps), rollout.MaxSteps)
		return nil
	}
	for _, s := range w.Steps {
		step, err := rollout.ParseStep(s.S)
		if err != nil {
			m.report(m.main, s.At, "rollout: waves: %v", err)
			continue
		}
		steps = append(steps, step)
	}
	return steps
}

// order reads where the host comes in a run, and whether it is always there.
func (m *maker) order(t *yaml.File, f *syntax.Host, h *Facts) {
	h.Host.After = f.After.Strings()
	h.after = f.After
	switch f.Expected.S {
	case "", "always":
	case "sometimes":
		h.Host.Sometimes = true
	default:
		m.report(t, f.Expected.At, "host %s: expected: %q; want always or sometimes", h.Host.Name, f.Expected.S)
	}
}

// orders checks that waves name tags of hosts, that hosts come after hosts of the fleet, and that no
// order goes round in a circle.
func (m *maker) orders() {
	tags := map[string]bool{}
	for _, h := range m.Hosts {
		for _, tag := range h.Host.Tags {
			tags[tag] = true
		}
	}
	hints := problem.Hints{}
	for _, s := range m.file.Rollout.Waves.Steps {
		step, err := rollout.ParseStep(s.S)
		if err == nil && step.Tag != "" && !tags[step.Tag] {
			m.warn(m.main, s.At, "rollout: waves: no host has the tag %s%s", step.Tag, hints.DidYouMean(step.Tag, slices.Sorted(maps.Keys(tags))))
		}
	}

	names := slices.Sorted(maps.Keys(m.ByName))
	for _, h := range m.Hosts {
		for _, a := range h.after {
			if _, ok := m.ByName[a.S]; !ok {
				m.report(h.file, a.At, "host %s: after: %q is no host of the fleet%s", h.Host.Name, a.S, hints.DidYouMean(a.S, names))
			}
		}
	}
	m.afterCircles()
}

// afterCircles reports each host that comes after itself. Hosts are taken away one by one once all that
// they come after are gone; those that stay are in a circle, or come after one.
func (m *maker) afterCircles() {
	open := make([]int, len(m.Hosts)) // that a host still waits for
	followers := make([][]int, len(m.Hosts))
	var free []int
	for i, h := range m.Hosts {
		for _, a := range h.Host.After {
			if j, ok := m.ByName[a]; ok {
				open[i]++
				followers[j] = append(followers[j], i)
			}
		}
		if open[i] == 0 {
			free = append(free, i)
		}
	}

	for ; len(free) > 0; free = free[1:] {
		for _, i := range followers[free[0]] {
			if open[i]--; open[i] == 0 {
				free = append(free, i)
			}
		}
	}
	for i, h := range m.Hosts {
		if open[i] > 0 {
			m.report(h.file, cmp.Or(h.after[0].At, h.at), "host %s: after goes round in a circle, or leads to one", h.Host.Name)
		}
	}
}
