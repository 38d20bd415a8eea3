package containers

import (
	"context"
	"fmt"
	"slices"

	"bellhop/internal/bundle"
)

// What has to be done to a stack is decided here, by one function of what was, what is wanted and what
// runs. Tried on compose 2.26: a plain "up" recreates dependents of what changed, and "up --no-deps"
// makes the next one recreate it again, so each container that is to change is named in one "up", with
// its dependencies, which are only started where they do not run. A restart mounts files that were
// replaced, so a changed mounted file costs no container.

// A Change is what is done to the containers of one stack. Names are those of the compose file.
type Change struct {
	Up      []string // created, or recreated for their definition, image or namespace
	Restart []string // for a file or a key that they mount, or for another that they restart with
	Gone    []string // ids of containers that the stack does not have any more
	Stopped []string // stopped by hand, and left so
}

// None says that there is nothing to do.
func (c *Change) None() bool { return len(c.Up)+len(c.Restart)+len(c.Gone) == 0 }

// Text is c in a few words, for the log: "up wiki:app restart wiki:db".
func (c *Change) Text(service string) string {
	text := ""
	for _, part := range []struct {
		verb  string
		names []string
	}{{"up", c.Up}, {"restart", c.Restart}} {
		for _, n := range part.names {
			text += part.verb + " " + ContainerName(service, n) + " "
		}
	}

	if len(c.Gone) > 0 {
		text += fmt.Sprintf("remove %d", len(c.Gone))
	}

	return text
}

// Facts are what Decide looks at.
type Facts struct {
	Was     *bundle.ComposeProject // nil: the stack is new
	Want    *bundle.ComposeProject
	Changed func(thing string) bool // as bundle.Unit.Action asks it: "file:PATH", "key:NAME"
	Now     []State
	Hashes  map[string]string // by name, of the definitions as the host's compose renders them; nil: nothing was rendered
	Images  map[string]string // by reference, the id that it means by now; what is not there is not compared
}

// Decide says what is to be done.
func Decide(f Facts) Change {
	var c Change
	for i := range f.Want.Containers {
		want := &f.Want.Containers[i]
		if want.Idle {
			continue
		}

		now := f.of(want.Name)
		switch {
		case isStopped(now, want.Once):
			c.Stopped = append(c.Stopped, want.Name)
		case f.differs(want, now):
			c.Up = append(c.Up, want.Name)
		case f.mountsChanged(want):
			c.Restart = append(c.Restart, want.Name)
		}
	}

	f.follow(&c)
	for _, s := range f.Now {
		if f.Want.ContainerOf(s.Service) == nil {
			c.Gone = append(c.Gone, s.ID)
		}
	}

	return c
}

// Unforetold says where the host's compose sees the definitions of containers otherwise than the deployer did, whose
// plan foretold what Decide finds without hashes. Each is a sentence for people, without the container's service. c is
// what Decide found.
func Unforetold(f Facts, c Change) (all []string) {
	if f.Was == nil || f.Hashes == nil {
		return nil
	}
	f.Hashes = nil
	foretold := Decide(f)

	for _, n := range c.Up {
		if !slices.Contains(foretold.Up, n) {
			all = append(all, n+" is made anew, which the plan did not foretell: it was started by another definition than that of the last deploy")
		}
	}
	for _, n := range foretold.Up {
		if !slices.Contains(c.Up, n) {
			all = append(all, n+" stays, though the plan foretold a new one: compose on this host sees no other definition")
		}
	}
	return all
}

// of are the containers of one name.
func (f *Facts) of(name string) (all []State) {
	for _, s := range f.Now {
		if s.Service == name {
			all = append(all, s)
		}
	}
	return all
}

func isStopped(now []State, once bool) bool {
	if len(now) == 0 {
		return false
	}
	return !slices.ContainsFunc(now, func(s State) bool { return !s.StoppedByHand(once) })
}

// differs says that a container is to be made anew, or is not there.
func (f *Facts) differs(want *bundle.Container, now []State) bool {
	if len(now) != max(want.Scale, 1) {
		return true
	}

	for _, s := range now {
		isDone := want.Once && s.Exit == 0 && s.Status == "exited"
		isDown := !s.Runs() && !isDone
		otherHash := f.hashed(want) && s.Hash != f.Hashes[want.Name]
		id, isKnown := f.Images[ImageRef(f.Want, want)]
		otherImage := isKnown && id != s.Image
		if isDown || otherHash || otherImage {
			return true
		}
	}

	if !f.hashed(want) && f.definitionChanged(want) {
		return true
	}
	if want.Build && f.buildChanged(want) {
		return true
	}

	return slices.ContainsFunc(want.EnvKeys, func(k string) bool { return f.Changed(bundle.KindKey + ":" + k) })
}

// hashed says that the hash of a definition can be compared. Of a container in another's namespace it holds
// the id of that.
func (f *Facts) hashed(want *bundle.Container) bool { return f.Hashes != nil && want.NetworkOf == "" }

func (f *Facts) definitionChanged(want *bundle.Container) bool {
	if f.Was == nil {
		return false // what runs is adopted, and its own compose is asked
	}
	was := f.Was.ContainerOf(want.Name)
	return was == nil || was.Definition != want.Definition
}

// BuildsAnew says that the image of a container is to be built: the container is new, or what it is built
// from changed, be it the bytes of a file or what the compose file says of it.
func (f *Facts) BuildsAnew(want *bundle.Container) bool {
	return len(f.of(want.Name)) == 0 || f.buildChanged(want)
}

// buildChanged says that an image may come out differently. What is built is in no hash of compose's, which
// makes the container anew, or leaves it, by the image that came out.
func (f *Facts) buildChanged(want *bundle.Container) bool {
	return f.definitionChanged(want) || slices.ContainsFunc(want.Inputs, func(p string) bool { return f.Changed(bundle.KindFile + ":" + p) })
}

// ImageRef is how the engine knows the image of a container: by its name in the compose file, or by the one
// that compose gives to an image that is built and has none.
func ImageRef(p *bundle.ComposeProject, c *bundle.Container) string {
	if c.Image == "" && c.Build {
		return p.Project + "-" + c.Name
	}
	return c.Image
}

func (f *Facts) mountsChanged(want *bundle.Container) bool {
	file := func(p string) bool { return f.Changed(bundle.KindFile + ":" + p) }
	key := func(k string) bool { return f.Changed(bundle.KindKey + ":" + k) }
	return slices.ContainsFunc(want.Files, file) || slices.ContainsFunc(want.Keys, key)
}

// follow adds what changes with another: a container that is in the namespace of one that is made anew
// is made anew too, and one that asks for it is restarted with what it depends on.
func (f *Facts) follow(c *Change) {
	for again := true; again; {
		again = false
		for _, w := range f.Want.Containers {
			if w.Idle || slices.Contains(c.Stopped, w.Name) || slices.Contains(c.Up, w.Name) {
				continue
			}
			if w.NetworkOf != "" && slices.Contains(c.Up, w.NetworkOf) {
				c.Up, again = append(c.Up, w.Name), true
				c.Restart = slices.DeleteFunc(c.Restart, func(n string) bool { return n == w.Name })
				continue
			}

			joins := w.NetworkOf != "" && slices.Contains(c.Restart, w.NetworkOf)
			with := slices.ContainsFunc(w.RestartWith, func(n string) bool { return slices.Contains(c.Up, n) || slices.Contains(c.Restart, n) })
			if (joins || with) && !slices.Contains(c.Restart, w.Name) {
				c.Restart, again = append(c.Restart, w.Name), true
			}
		}
	}
}

// Apply does what was decided. Calls of compose are what costs: there are two at most.
func (e Engine) Apply(ctx context.Context, s *Stack, c Change) error {
	if len(c.Up) > 0 {
		args := []string{"up", "-d", "--no-build", "--pull", "never"}
		if len(c.Gone) > 0 {
			args = append(args, "--remove-orphans")
		}
		if _, err := e.compose(ctx, s, slices.Concat(args, []string{"--"}, c.Up)...); err != nil {
			return err
		}
	} else if len(c.Gone) > 0 {
		if err := e.Remove(ctx, "", c.Gone); err != nil {
			return fmt.Errorf("remove what the stack has no more: %w", err)
		}
	}

	if len(c.Restart) > 0 {
		if _, err := e.compose(ctx, s, append([]string{"restart", "--no-deps", "--"}, c.Restart...)...); err != nil {
			return err
		}
	}
	return nil
}
