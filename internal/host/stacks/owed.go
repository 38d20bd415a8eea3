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

	// An earlier run may have been cut off too, with no engine since then. What it found is what the record means.
	if before, err := m.OwedStacks(); err == nil && before != nil && before.Generation == owed.Generation {
		later := slices.DeleteFunc(owed.Stacks, func(s state.StackWas) bool {
			return slices.ContainsFunc(before.Stacks, func(b state.StackWas) bool { return b.Project == s.Project })
		})
		owed.Stacks = append(before.Stacks, later...)
	}
	return m.OweStacks(owed)
}

// A Patience is how long an engine may take.
type Patience struct {
	Answer time.Duration // to tell of one project
	All    time.Duration // for all that is to be done
}

var (
	// AtContact leaves a deployer the time to hear who the host is, and to bring the keys after a boot.
	AtContact = Patience{3 * time.Second, 30 * time.Second}
	// InRun is for a run, which needs to know what stands.
	InRun = Patience{time.Minute, 2 * time.Minute}
)

// Settle puts back what a reboot left of a run. What can't be done is tried again at the next contact. It is
// forgotten when another run has brought the host further: that one has put the projects where it wants them.
func Settle(ctx context.Context, m state.Dir, p Patience) {
	owed, err := m.OwedStacks()
	if owed == nil || err != nil {
		return // a file that can't be read was removed
	}

	now, err := m.Current()
	if err != nil {
		return // whoever needs the record says what is wrong with it
	}

	ctx, cancel := context.WithTimeout(ctx, p.All)
	defer cancel()
	if now.Generation == owed.Generation {
		b := &Back{Engine: containers.Engine{Programs: m.Programs}, All: owed.Stacks}
		for i := range owed.Stacks {
			s := &owed.Stacks[i]
			err := answers(ctx, b.Engine, s.Project, p.Answer)
			if err == nil {
				err = b.settle(ctx, s)
			}
			if err != nil {
				m.Runs().Event(owed.Run, "undo", fmt.Sprintf("service %s: %v", s.Service, err))
				return
			}
		}

		m.Runs().Event(owed.Run, "undo", "containers are as before the run")
	}

	m.ForgetOwed()
}

// answers fails where the engine does not tell of a project in time: what would be cut off later is not begun.
func answers(ctx context.Context, e containers.Engine, project string, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	_, err := e.Containers(ctx, project)
	return err
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
