// Package stacks puts compose projects back as they were before a run that is undone.
//
// Containers are known by their ids, images by theirs: what the run made goes, what ran runs again, and names of
// images mean what they meant. After a reboot the engine is not there yet when a run is undone, so what is to be
// done is written down (Owe), and done at a later contact (Settle), unless another run has brought the host further.
package stacks

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"bellhop/internal/host/containers"
	"bellhop/internal/host/state"
)

// A Back puts back the projects of one run.
type Back struct {
	Engine  containers.Engine
	All     []state.StackWas // that the run touched
	Started bool             // the run began to change containers
}

// Put puts all of them back, when the files of before stand again and the units that ran do.
func (b *Back) Put(ctx context.Context) error {
	var errs []error
	for i := range b.All {
		s := &b.All[i]
		if s.Leaves {
			continue
		}
		err := TagBack(ctx, b.Engine, s) // images came before anything was started
		if err == nil && b.Started {
			err = b.put(ctx, s)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("service %s: %w", s.Service, err))
		}
	}
	return errors.Join(errs...)
}

func (b *Back) put(ctx context.Context, s *state.StackWas) error {
	now, err := b.Engine.Containers(ctx, s.Project)
	if err != nil {
		return err
	}
	if s.Was == nil {
		return b.unmake(ctx, s, now)
	}

	change := containers.Change{}
	for _, was := range s.Containers {
		i := slices.IndexFunc(now, func(n containers.State) bool { return n.ID == was.ID })
		isSame := i >= 0 && (now[i].Runs() || !was.Ran)
		switch {
		case !isSame && was.Ran:
			change.Up = append(change.Up, was.Name)
		case isSame && was.Ran && slices.Contains(s.Restart, was.Name):
			change.Restart = append(change.Restart, was.Name)
		}
	}
	for _, n := range now {
		if s.Was.ContainerOf(n.Service) == nil {
			change.Gone = append(change.Gone, n.ID)
		}
	}

	return b.Engine.Apply(ctx, &containers.Stack{Service: s.Service, ComposeProject: *s.Was}, change)
}

// unmake removes what the run made of a stack that was not there, and runs again what was. Where the
// project was another service's, that one's unit has brought it back as it was.
func (b *Back) unmake(ctx context.Context, s *state.StackWas, now []containers.State) error {
	if slices.ContainsFunc(b.All, func(o state.StackWas) bool { return o.Leaves && o.Project == s.Project }) {
		return nil
	}

	var made, again []string
	for _, n := range now {
		i := slices.IndexFunc(s.Containers, func(was state.ContainerWas) bool { return was.ID == n.ID })
		switch {
		case i < 0:
			made = append(made, n.ID)
		case s.Containers[i].Ran && !n.Runs():
			again = append(again, n.ID)
		}
	}

	project := s.Project
	if len(s.Containers) > 0 {
		project = "" // its networks were there before
	}
	return errors.Join(b.Engine.Remove(ctx, project, made), b.Engine.Start(ctx, again))
}

// TagBack has the names of images mean again what they meant: a pull or a build may have moved them.
func TagBack(ctx context.Context, e containers.Engine, s *state.StackWas) error {
	for _, was := range s.Containers {
		if containers.IsPinned(was.Ref) {
			continue
		}
		id, err := e.ImageID(ctx, was.Ref)
		if err != nil {
			return err
		}
		if id != was.Image {
			if err := e.Tag(ctx, was.Image, was.Ref); err != nil {
				return err
			}
		}
	}
	return nil
}
