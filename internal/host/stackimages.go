package host

import (
	"context"
	"fmt"
	"slices"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/host/blame"
	"bellhop/internal/host/containers"
	"bellhop/internal/host/keyfiles"
	"bellhop/internal/host/machine"
	"bellhop/internal/host/quadlets"
	"bellhop/internal/host/stacks"
	"bellhop/internal/host/state"
)

// keepImages gives the images that containers are about to leave a name that "docker image prune" does
// not remove: a run that goes back needs them, and so does the generation.
func (r *run) keepImages(ctx context.Context, s *stack) error {
	for _, c := range s.now {
		if !slices.Contains(s.change.Up, c.Service) {
			continue
		}
		if err := r.engine().Tag(ctx, c.Image, containers.KeepRef(s.Service, c.Service, r.w.Old.Generation)); err != nil {
			return err
		}
	}
	return nil
}

// imagesRan is what the containers of all stacks run when the run is done.
func (r *run) imagesRan(ctx context.Context) (all []state.ImageRan) {
	touched := map[string]bool{}
	for _, s := range r.stacks {
		if r.keepsImages(s) {
			continue // asking takes two calls of the engine
		}

		touched[s.Service] = true
		if s.leaves {
			continue
		}

		images, err := r.engine().ImagesOf(ctx, s.Project)
		if err != nil {
			r.warn("service %s: which images it runs is not recorded: %v", s.Service, err)
			continue
		}

		for _, i := range images {
			all = append(all, state.ImageRan{Service: s.Service, Container: i.Container, Ref: i.Ref, ID: i.ID, Digest: i.Digest})
		}
	}

	for _, i := range r.w.Old.Images {
		if i.Engine == "" && !touched[i.Service] {
			all = append(all, i)
		}
	}

	return append(all, r.quadlets.Ran(ctx)...)
}

// keepsImages says that each container of a stack is the one that it was, and that it is recorded what they run.
func (r *run) keepsImages(s *stack) bool {
	unit := containers.StackUnit(s.Service)
	wasStarted := slices.Contains(slices.Concat(r.res.Started, r.res.Restarted), unit)
	isRecorded := slices.ContainsFunc(r.w.Old.Images, func(i state.ImageRan) bool { return i.Engine == "" && i.Service == s.Service })
	stays := s.was != nil && !s.leaves
	isSame := !wasStarted && len(s.change.Up)+len(s.change.Gone) == 0
	return isRecorded && stays && isSame
}

// tagStacksBack undoes what a run that touched nothing did to the names of images: the next boot would
// bring containers up from others than those that they run.
func (r *run) tagStacksBack() {
	ctx, cancel := context.WithTimeout(context.Background(), machine.JobDeadline)
	defer cancel()
	for _, s := range r.stacksWere() {
		if s.Leaves {
			continue
		}
		if err := stacks.TagBack(ctx, r.engine(), &s); err != nil {
			r.res.Warnings = append(r.res.Warnings, fmt.Sprintf("service %s: names of images that were pulled may stay moved: %v", s.Service, err))
		}
	}
	if err := quadlets.TagBack(ctx, r.m, r.quadlets.Were()); err != nil {
		r.res.Warnings = append(r.res.Warnings, err.Error())
	}
}

// tidyTime is how long containers that leave may take to go.
const tidyTime = 2 * time.Minute

// stackTidier gives what tidies stacks once the run is done. It is asked for before keys are dropped: a
// warning may quote the value of one that leaves with its stack.
func stackTidier(m state.Dir, stacks []state.StackWas, keys []bundle.Key) func(stands *bundle.Manifest, generation int64, res *bundle.Result) {
	if len(stacks) == 0 {
		return func(*bundle.Manifest, int64, *bundle.Result) {}
	}
	take := keyfiles.Of(m).MaskOrWithhold(keys...)
	return func(stands *bundle.Manifest, generation int64, res *bundle.Result) {
		tidyStacks(m, stacks, stands, generation, res)
		res.Warnings = blame.MaskWarnings(res.Warnings, take)
	}
}

// tidyStacks removes the containers of stacks that left, and the names of images that no kept generation
// needs. What can't be done is told in res, and so is what stays. stands is the manifest by now: what
// another of its services took over with the name of the project is that one's.
func tidyStacks(m state.Dir, stacks []state.StackWas, stands *bundle.Manifest, generation int64, res *bundle.Result) {
	ctx, cancel := context.WithTimeout(context.Background(), tidyTime)
	defer cancel()

	e := containers.Engine{Programs: m.Programs}
	for _, s := range stacks {
		if err := e.DropKept(ctx, s.Service, generation-state.KeptGenerations); err != nil {
			res.Warnings = append(res.Warnings, fmt.Sprintf("service %s: names of old images stay: %v", s.Service, err))
		}
		if !s.Leaves || hasProject(stands, s.Project) {
			continue
		}

		now, err := e.Containers(ctx, s.Project)
		var ids []string
		for _, c := range now {
			ids = append(ids, c.ID)
		}
		if err == nil {
			err = e.Remove(ctx, s.Project, ids)
		}
		if err != nil {
			res.Warnings = append(res.Warnings, fmt.Sprintf("service %s has left, and its containers are still there: %v (docker compose -p %s down removes them)", s.Service, err, s.Project))
		}
		if volumes, err := e.Volumes(ctx, s.Project); err == nil {
			for _, v := range volumes {
				res.Kept = append(res.Kept, fmt.Sprintf("volume %s (docker volume rm %s deletes its data)", v, v))
			}
		}
	}
}
