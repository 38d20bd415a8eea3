package stacks

import (
	"context"

	"bellhop/internal/host/containers"
	"bellhop/internal/host/state"
)

// Former has the names of images mean what they meant in the newest kept generation of that bundle, for containers of
// a service whose images are still on the host, and returns the names of those containers. Where a person goes back, that
// is in place of a pull: a registry gives the newest image of a name.
func Former(ctx context.Context, m state.Dir, e containers.Engine, digest string, s *containers.Stack) (map[string]bool, error) {
	ran, err := m.ImagesOf(digest)
	if err != nil {
		return nil, err
	}

	back := map[string]bool{}
	for _, i := range ran {
		c := s.ContainerOf(i.Container)
		isOurs := i.Engine == "" && i.Service == s.Service
		isUsed := isOurs && c != nil && !c.Idle
		isMovable := isUsed && !containers.IsPinned(i.Ref)
		if !isMovable || i.Ref != containers.ImageRef(&s.ComposeProject, c) {
			continue
		}

		id, err := e.ImageID(ctx, i.ID)
		if err != nil {
			return nil, err
		}
		if id == "" {
			continue // somebody pruned it
		}
		if err := e.Tag(ctx, i.ID, i.Ref); err != nil {
			return nil, err
		}

		back[i.Container] = true
	}

	return back, nil
}
