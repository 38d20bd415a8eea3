package host

import (
	"context"
	"fmt"

	"bellhop/internal/host/containers"
	"bellhop/internal/host/stacks"
)

// stacks brings the containers back that the run touched. After a reboot no engine is there yet.
func (u *undoer) stacks(ctx context.Context) error {
	if !u.sameBoot {
		return stacks.Owe(u.m, u.j)
	}
	ctx, cancel := context.WithTimeout(ctx, jobDeadline)
	defer cancel()
	b := stacks.Back{Engine: containers.Engine{Programs: u.m.Programs}, All: u.j.Stacks, Started: u.j.Steps["start"]}
	return b.Put(ctx)
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
		if err := stacks.TagBack(ctx, r.engine(), &s); err != nil {
			r.res.Warnings = append(r.res.Warnings, fmt.Sprintf("service %s: names of images that were pulled may stay moved: %v", s.Service, err))
		}
	}
}
