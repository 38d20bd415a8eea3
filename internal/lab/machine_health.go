package lab

import (
	"context"
	"slices"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/host/machine"
)

// What the twin knows of health: units that die by themselves, what probes get, and what units
// write to the journal. Nothing of it runs: a unit is found dead when somebody looks.

// DieAfter makes every life of a unit end after d, as a program does that exits with status 1,
// until Mend. What runs lives on.
func (m *Machine) DieAfter(name string, d time.Duration) { m.set(func() { m.mortal[name] = d }) }

// Answer sets what a probe gets, by its name (bundle.Probe.Name): one answer after another, and the
// last again and again. A probe for which nothing is set gets a good answer.
func (m *Machine) Answer(probe string, answers ...machine.Answer) {
	m.set(func() { m.answers[probe] = answers })
}

// Asked are the probes that were asked, by their name, in order.
func (m *Machine) Asked() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.asked)
}

// Say sets what a unit has written to the journal.
func (m *Machine) Say(name string, lines ...string) { m.set(func() { m.said[name] = lines }) }

// birth is when a life begins that ends by itself; zero for one that does not.
func (m *Machine) birth(name string) time.Time {
	if m.mortal[name] == 0 {
		return time.Time{}
	}
	return time.Now()
}

// mourn finds the units that have died by themselves since somebody looked.
func (m *Machine) mourn() {
	for name, d := range m.mortal {
		u := m.units[m.canonical(name)]
		if u == nil || u.active != "active" || u.mortal.IsZero() {
			continue
		}
		if time.Since(u.mortal) >= d {
			m.crash(m.canonical(name))
			u.mortal = time.Now()
		}
	}
}

// twinProber is the engine's face of what probes get.
type twinProber struct{ m *Machine }

func (p twinProber) Ask(_ context.Context, probe bundle.Probe) machine.Answer {
	p.m.mu.Lock()
	defer p.m.mu.Unlock()
	name := probe.Name()
	p.m.asked = append(p.m.asked, name)
	left := p.m.answers[name]
	if len(left) == 0 {
		return machine.Answer{}
	}
	if len(left) > 1 {
		p.m.answers[name] = left[1:]
	}
	return left[0]
}

// twinJournal is the engine's face of what units said.
type twinJournal struct{ m *Machine }

func (j twinJournal) Lines(_ context.Context, unit, _ string, most int) []string {
	j.m.mu.Lock()
	defer j.m.mu.Unlock()
	lines := j.m.said[unit]
	return slices.Clone(lines[max(0, len(lines)-most):])
}
