package bundle

import (
	"fmt"
	"slices"
	"strings"
)

// What a ContainerChange does.
const (
	Create   = "create"
	Recreate = "recreate"
)

// A ContainerChange is what a push is to do with one container of a compose project, and why.
type ContainerChange struct {
	Service   string `json:"service"`
	Container string `json:"container"` // the service of the compose file
	Action    string `json:"action"`    // Create, Recreate, Restart or Remove
	Why       string `json:"why"`
}

// PreviewContainers is what a host will do with containers when was becomes want, if what should run there
// does: a changed definition makes a new container, a changed mounted file or key restarts it, and what is
// bound to such a container follows it. changes are those of Diff. The host looks at what really runs.
func PreviewContainers(was, want Manifest, changes []Change) []ContainerChange {
	changed := map[string]bool{}
	for _, c := range changes {
		changed[c.Resource()] = true
	}

	var out []ContainerChange
	for _, s := range want.Services {
		if s.Compose != nil {
			p := preview{old: was.ServiceOf(s.Name).Compose, new: s.Compose, changed: changed, does: map[string]ContainerChange{}}
			out = append(out, p.of(s.Name)...)
		}
	}

	for _, s := range was.Services {
		if s.Compose != nil && want.ServiceOf(s.Name).Compose == nil {
			for _, c := range s.Compose.Containers {
				out = append(out, ContainerChange{s.Name, c.Name, Remove, "the service leaves; its volumes stay"})
			}
		}
	}

	return out
}

type preview struct {
	old, new *ComposeProject // old nil: the service comes
	changed  map[string]bool // things, as Change.Resource has them
	does     map[string]ContainerChange
}

func (p *preview) of(service string) []ContainerChange {
	for i := range p.new.Containers {
		c := &p.new.Containers[i]
		if action, why := p.decide(c); action != "" && !c.Idle {
			p.does[c.Name] = ContainerChange{service, c.Name, action, why}
		}
	}

	p.follow(service)

	var out []ContainerChange
	for _, c := range p.new.Containers {
		if d, ok := p.does[c.Name]; ok {
			out = append(out, d)
		}
	}

	if p.old != nil {
		for _, c := range p.old.Containers {
			if p.new.ContainerOf(c.Name) == nil {
				out = append(out, ContainerChange{service, c.Name, Remove, "it is in no compose file any more"})
			}
		}
	}

	return out
}

// decide is what one container is changed for by itself.
func (p *preview) decide(c *Container) (action, why string) {
	if p.old == nil {
		return Create, "the service is new; if the host runs it already by this definition, it is left alone"
	}

	was := p.old.ContainerOf(c.Name)
	switch {
	case was == nil || was.Idle:
		return Create, "it is new"
	case p.old.Project != p.new.Project:
		return Create, fmt.Sprintf("the project %s is called %s now", p.old.Project, p.new.Project)
	case was.Image != c.Image:
		return Recreate, fmt.Sprintf("image %s, was %s", c.Image, was.Image)
	case was.Definition != c.Definition:
		return Recreate, p.inputOf(c)
	case was.Scale != c.Scale:
		return Recreate, fmt.Sprintf("%d of it, were %d", max(c.Scale, 1), max(was.Scale, 1))
	}

	if key := p.first(KindKey, c.EnvKeys); key != "" {
		return Recreate, "key " + key + " in its environment"
	}
	if file := p.first(KindFile, c.Files); file != "" {
		return Restart, file
	}
	if key := p.first(KindKey, c.Keys); key != "" {
		return Restart, "key " + key
	}

	return "", ""
}

// inputOf is what of a definition differs, where that is a file.
func (p *preview) inputOf(c *Container) string {
	if file := p.first(KindFile, c.Inputs); file != "" {
		return file
	}
	return "its definition"
}

func (p *preview) first(kind string, names []string) string {
	i := slices.IndexFunc(names, func(n string) bool { return p.changed[Change{Kind: kind, Name: n}.Resource()] })
	if i < 0 {
		return ""
	}
	return names[i]
}

// follow adds what changes with another container.
func (p *preview) follow(service string) {
	isNew := func(name string) bool {
		a := p.does[name].Action
		return a == Create || a == Recreate
	}

	for again := true; again; {
		again = false
		for _, c := range p.new.Containers {
			if c.Idle || isNew(c.Name) {
				continue
			}
			if c.NetworkOf != "" && isNew(c.NetworkOf) {
				p.does[c.Name], again = ContainerChange{service, c.Name, Recreate, "it shares a namespace with " + c.NetworkOf}, true
				continue
			}
			if _, does := p.does[c.Name]; does {
				continue
			}

			with := append(slices.Clone(c.RestartWith), c.NetworkOf)
			i := slices.IndexFunc(with, func(n string) bool { _, does := p.does[n]; return n != "" && does })
			if i >= 0 {
				p.does[c.Name], again = ContainerChange{service, c.Name, Restart, "it restarts with " + with[i]}, true
			}
		}
	}
}

// A VolumeChange is a volume or network that a push would leave behind with what is in it, or whose new
// definition docker compose would ignore without a word, or a project whose containers would go for new ones.
type VolumeChange struct {
	Service string
	Kind    string // "volume", "network", or "project"
	Old     string // its name on the host
	New     string // that comes in its place; the same where its definition differs
}

// String says the change in one line.
func (v VolumeChange) String() string {
	if v.Old == v.New {
		return fmt.Sprintf("%s: the definition of %s %s differs, and docker compose on the host would ignore that", v.Service, v.Kind, v.Old)
	}
	if v.Kind == "project" {
		return fmt.Sprintf("%s: project %s would be stopped and its containers removed, with what they hold outside of volumes, and project %s begin in its place", v.Service, v.Old, v.New)
	}
	return fmt.Sprintf("%s: %s %s would be left behind, and %s begin empty", v.Service, v.Kind, v.Old, v.New)
}

// NewVolumes lists what needs consent when was becomes want: renamed volumes, projects and services, and
// changed definitions of volumes and networks. A volume that only leaves is not in it: it stays on the host.
func NewVolumes(was, want Manifest) []VolumeChange {
	var out []VolumeChange
	for _, old := range was.Services {
		if old.Compose == nil {
			continue
		}
		next := want.ServiceOf(old.Name)
		if next.Compose == nil {
			next = renamedTo(was, want, old.Compose)
		} else if next.Compose.Project != old.Compose.Project {
			out = append(out, VolumeChange{old.Name, "project", old.Compose.Project, next.Compose.Project})
		}
		if next.Compose != nil {
			out = append(out, newVolumes(old.Name, "volume", old.Compose, next.Compose, old.Compose.Volumes, next.Compose.Volumes)...)
			out = append(out, newVolumes(old.Name, "network", old.Compose, next.Compose, old.Compose.Networks, next.Compose.Networks)...)
		}
	}

	return out
}

// renamedTo is a service of want that was not there, and that mounts volumes of the same keys as gone does.
func renamedTo(was, want Manifest, gone *ComposeProject) Service {
	for _, s := range want.Services {
		if s.Compose == nil || was.ServiceOf(s.Name).Compose != nil {
			continue
		}
		for _, v := range gone.Volumes {
			if !v.External && slices.ContainsFunc(s.Compose.Volumes, func(o ComposeVolume) bool { return o.Key == v.Key && !o.External }) {
				return s
			}
		}
	}
	return Service{}
}

func newVolumes(service, kind string, old, new *ComposeProject, was, is []ComposeVolume) []VolumeChange {
	byKey := func(all []ComposeVolume, key string) *ComposeVolume {
		i := slices.IndexFunc(all, func(v ComposeVolume) bool { return v.Key == key })
		if i < 0 {
			return nil
		}
		return &all[i]
	}

	holdsName := func(all []ComposeVolume, name string) bool {
		return slices.ContainsFunc(all, func(v ComposeVolume) bool { return v.Name == name })
	}

	var out []VolumeChange
	for _, v := range was {
		if v.External {
			continue
		}
		now := byKey(is, v.Key)
		switch {
		case now == nil && kind == "volume" && !holdsName(is, v.Name):
			if to := byKey(is, takesPlace(old, new, v.Key)); to != nil && byKey(was, to.Key) == nil {
				out = append(out, VolumeChange{service, kind, v.Name, to.Name})
			}
		case now == nil || now.External:
		case now.Name != v.Name && kind == "volume" && !holdsName(is, v.Name):
			out = append(out, VolumeChange{service, kind, v.Name, now.Name})
		case now.Name == v.Name && now.Definition != v.Definition:
			out = append(out, VolumeChange{service, kind, v.Name, v.Name})
		}
	}

	return out
}

// takesPlace is the key of the volume that a container mounts where it mounted the one of key.
func takesPlace(old, new *ComposeProject, key string) string {
	for _, c := range old.Containers {
		now := new.ContainerOf(c.Name)
		for _, v := range c.Volumes {
			k, target, _ := strings.Cut(v, ":")
			if k != key || now == nil {
				continue
			}
			for _, o := range now.Volumes {
				if other, at, _ := strings.Cut(o, ":"); at == target {
					return other
				}
			}
		}
	}
	return ""
}
