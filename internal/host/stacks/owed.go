package stacks

import (
	"context"
	"fmt"
	"slices"
	"time"

	"bellhop/internal/host/containers"
	"bellhop/internal/host/state"
)

// Owe writes down the projects of a run that a reboot cut off, to be put back once their engine runs. Their units
// bring up by themselves what was there before.
func Owe(m state.Dir, j *state.Journal) error {
	now, err := m.Current()
	owed := state.StacksOwed{Run: j.Run, Generation: now.Generation}
	for _, s := range j.Stacks {
		if !s.Leaves {
			owed.Stacks = append(owed.Stacks, s)
		}
	}
	if err != nil || len(owed.Stacks) == 0 {
		return err
	}
	return m.OweStacks(owed)
}

// settleTime is how long an engine may take for all of it.
const settleTime = 2 * time.Minute

// Settle puts back what a reboot left of a run. What can't be done is tried again at the next contact. It is
// forgotten when another run has brought the host further: that one has put the projects where it wants them.
func Settle(ctx context.Context, m state.Dir) {
	owed, err := m.OwedStacks()
	if owed == nil || err != nil {
		return // a file that can't be read was removed
	}
	now, err := m.Current()
	if err != nil {
		return // whoever needs the record says what is wrong with it
	}

	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	if now.Generation == owed.Generation {
		b := &Back{Engine: containers.Engine{Programs: m.Programs}, All: owed.Stacks}
		for i := range owed.Stacks {
			if err := b.settle(ctx, &owed.Stacks[i]); err != nil {
				m.Runs().Event(owed.Run, "undo", fmt.Sprintf("service %s: %v", owed.Stacks[i].Service, err))
				return
			}
		}
		m.Runs().Event(owed.Run, "undo", "containers are as before the run")
	}
	m.ForgetOwed()
}

// settle puts back one project after a reboot. How far the run came is not known then: a power cut takes that line of
// the journal along. A container that does not run is left to its unit, which starts it
// when its keys are there.
func (b *Back) settle(ctx context.Context, s *state.StackWas) error {
	if err := TagBack(ctx, b.Engine, s); err != nil {
		return err
	}
	now, err := b.Engine.Containers(ctx, s.Project)
	if err != nil {
		return err
	}
	if s.Was == nil {
		return b.unmake(ctx, s, now)
	}

	change := containers.Change{}
	for _, was := range s.Containers {
		isOther := func(n containers.State) bool { return n.Service == was.Name && n.Runs() && n.Image != was.Image }
		if slices.ContainsFunc(now, isOther) && !slices.Contains(change.Up, was.Name) {
			change.Up = append(change.Up, was.Name)
		}
	}
	if change.None() {
		return nil
	}
	return b.Engine.Apply(ctx, &containers.Stack{Service: s.Service, ComposeProject: *s.Was}, change)
}
