package lab

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/host/machine"
)

// What the twin knows of health: units that die by themselves, what probes get, and what units
// write to the journal. Nothing of it runs: a unit is found dead when somebody looks.

// health is what probes get and units have written.
type health struct {
	mu      sync.Mutex
	answers map[string][]machine.Answer // what probes get, by their name
	asked   []string                    // probes, by their name
	said    map[string][]string         // what units write to the journal
}

// reset forgets all of it.
func (h *health) reset() {
	h.answers, h.said = map[string][]machine.Answer{}, map[string][]string{}
}

// DieAfter makes every life of a unit end after d, as a program does that exits with status 1,
// until Mend. What runs lives on.
func (m *Machine) DieAfter(name string, d time.Duration) {
	m.set(func() { m.systemd.Mortal[name] = d })
}

// Answer sets what a probe gets, by its name (bundle.Probe.Name): one answer after another, and the
// last again and again. A probe for which nothing is set gets a good answer.
func (h *health) Answer(probe string, answers ...machine.Answer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answers[probe] = answers
}

// AnswerStatus has an HTTP probe, which wants 200, get another status and a body from now on.
func (h *health) AnswerStatus(probe string, status int, body string) {
	h.Answer(probe, machine.Answer{Wrong: fmt.Sprintf("want status 200, got %d", status), Status: status, Body: body})
}

// Asked are the probes that were asked, by their name, in order.
func (h *health) Asked() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.asked)
}

// Say sets what a unit has written to the journal.
func (h *health) Say(name string, lines ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.said[name] = lines
}

// twinProber is the engine's face of what probes get.
type twinProber struct{ *health }

func (p twinProber) Ask(_ context.Context, probe bundle.Probe) machine.Answer {
	p.mu.Lock()
	defer p.mu.Unlock()
	name := probe.Name()
	p.asked = append(p.asked, name)
	left := p.answers[name]
	if len(left) == 0 {
		return machine.Answer{}
	}
	if len(left) > 1 {
		p.answers[name] = left[1:]
	}

	return left[0]
}

// twinJournal is the engine's face of what units said.
type twinJournal struct{ *health }

func (j twinJournal) Lines(_ context.Context, unit, _ string, _ time.Time, most int) []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	lines := j.said[unit]
	return slices.Clone(lines[max(0, len(lines)-most):])
}
