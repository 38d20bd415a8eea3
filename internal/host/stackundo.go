package host

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"bellhop/internal/host/containers"
	"bellhop/internal/host/state"
)

// stacks brings the containers back that the run touched, when the files of before stand again and the
// units that ran do. After a reboot the units bring them up by themselves.
func (u *undoer) stacks(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, jobDeadline)
	defer cancel()

	var errs []error
	for i := range u.j.Stacks {
		s := &u.j.Stacks[i]
		if s.Leaves || !u.sameBoot {
			continue
		}
		err := tagBack(ctx, containers.Engine{Programs: u.m.Programs}, s) // images came before anything was started
		if err == nil && u.j.Steps["start"] {
			err = u.stack(ctx, s)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("service %s: %w", s.Service, err))
		}
	}
	return errors.Join(errs...)
}

func (u *undoer) stack(ctx context.Context, s *state.StackWas) error {
	e := containers.Engine{Programs: u.m.Programs}
	now, err := e.Containers(ctx, s.Project)
	if err != nil {
		return err
	}
	if s.Was == nil {
		return u.unmake(ctx, e, s, now)
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

	return e.Apply(ctx, &containers.Stack{Service: s.Service, ComposeProject: *s.Was}, change)
}

// unmake removes what the run made of a stack that was not there, and runs again what was. Where the
// project was another service's, that one's unit has brought it back as it was.
func (u *undoer) unmake(ctx context.Context, e containers.Engine, s *state.StackWas, now []containers.State) error {
	if slices.ContainsFunc(u.j.Stacks, func(o state.StackWas) bool { return o.Leaves && o.Project == s.Project }) {
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
	return errors.Join(e.Remove(ctx, project, made), e.Start(ctx, again))
}

// tagStacksBack undoes what a run that touched nothing did to the names of images: the next boot would
// bring containers up from others than those that they run.
func (r *run) tagStacksBack() {
	ctx, cancel := context.WithTimeout(context.Background(), jobDeadline)
	defer cancel()
	for _, s := range r.stacksWere() {
		if s.Leaves {
			continue
		}
		if err := tagBack(ctx, r.engine(), &s); err != nil {
			r.res.Warnings = append(r.res.Warnings, fmt.Sprintf("service %s: names of images that were pulled may stay moved: %v", s.Service, err))
		}
	}
}

// tagBack has the names of images mean again what they meant: a pull or a build may have moved them.
func tagBack(ctx context.Context, e containers.Engine, s *state.StackWas) error {
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
