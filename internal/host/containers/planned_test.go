package containers_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"bellhop/internal/bundle"
	"bellhop/internal/host/containers"
)

// planned is what the plan foretells of one service: Create and Recreate are one, since to a host both are "up".
func planned(was *bundle.ComposeProject, want bundle.ComposeProject, changed ...string) map[string]string {
	manifest := func(c *bundle.ComposeProject) (m bundle.Manifest) {
		if c != nil {
			m.Services = []bundle.Service{{Name: "wiki", Compose: c}}
		}
		return m
	}
	var changes []bundle.Change
	for _, thing := range changed {
		kind, name, _ := strings.Cut(thing, ":")
		changes = append(changes, bundle.Change{Kind: kind, Name: name, Action: bundle.Modify})
	}

	does := map[string]string{}
	for _, c := range bundle.PreviewContainers(manifest(was), manifest(&want), changes) {
		does[c.Container] = map[string]string{bundle.Create: "up", bundle.Recreate: "up", bundle.Restart: "restart", bundle.Remove: "gone"}[c.Action]
	}
	return does
}

// done is what a host decides on which all of was runs.
func done(was *bundle.ComposeProject, want bundle.ComposeProject, changed ...string) map[string]string {
	f := containers.Facts{Was: was, Want: &want, Changed: func(thing string) bool { return slices.Contains(changed, thing) }}
	if was != nil {
		for _, c := range was.Containers {
			for i := range max(c.Scale, 1) {
				if !c.Idle {
					f.Now = append(f.Now, containers.State{ID: fmt.Sprint(c.Name, i), Service: c.Name, Ref: c.Image, Status: "running", Policy: "always"})
				}
			}
		}
	}

	change, does := containers.Decide(f), map[string]string{}
	for _, n := range change.Up {
		does[n] = "up"
	}
	for _, n := range change.Restart {
		does[n] = "restart"
	}
	for _, s := range f.Now {
		if slices.Contains(change.Gone, s.ID) {
			does[s.Service] = "gone"
		}
	}
	return does
}

// stackOf is db, app that mounts a file and a key and restarts with db, side in app's namespace, and web.
func stackOf(edit func(c map[string]*bundle.Container)) bundle.ComposeProject {
	p := bundle.ComposeProject{Project: "wiki", Dir: "/opt/stacks/wiki", Files: []string{"/opt/stacks/wiki/compose.yaml"}, Containers: []bundle.Container{
		{Name: "app", Image: "app:1", Definition: "app", Files: []string{"/conf"}, Keys: []string{"token"}, EnvKeys: []string{"env"}, RestartWith: []string{"db"}},
		{Name: "db", Image: "db:1", Definition: "db", Files: []string{"/db.conf"}},
		{Name: "side", Image: "app:1", Definition: "side", NetworkOf: "app"},
		{Name: "web", Image: "web:1", Definition: "web", Inputs: []string{"/web.env"}},
	}}
	all := map[string]*bundle.Container{}
	for i := range p.Containers {
		all[p.Containers[i].Name] = &p.Containers[i]
	}
	if edit != nil {
		edit(all)
	}
	p.Containers = slices.DeleteFunc(p.Containers, func(c bundle.Container) bool { return all[c.Name] == nil })
	return p
}

// What the plan foretells is what a host does on which everything runs as it was deployed, change by change and for
// each two of them together.
func TestPlanIsWhatTheHostDoes(t *testing.T) {
	type change struct {
		name    string
		edit    func(c map[string]*bundle.Container)
		changed []string
	}
	changes := []change{
		{"nothing", nil, nil},
		{"a mounted file", nil, []string{"file:/conf"}},
		{"a file of a dependency", nil, []string{"file:/db.conf"}},
		{"a mounted key", nil, []string{"key:token"}},
		{"a key in the environment", nil, []string{"key:env"}},
		{"another image", func(c map[string]*bundle.Container) { c["db"].Image, c["db"].Definition = "db:2", "db 2" }, nil},
		{"another definition", func(c map[string]*bundle.Container) { c["app"].Definition = "app 2" }, nil},
		{"an env file", func(c map[string]*bundle.Container) { c["web"].Definition = "web 2" }, []string{"file:/web.env"}},
		{"one leaves", func(c map[string]*bundle.Container) { c["web"] = nil }, nil},
		{"one more of it", func(c map[string]*bundle.Container) { c["db"].Scale = 2 }, nil},
		{"another's namespace", func(c map[string]*bundle.Container) { c["side"].NetworkOf, c["side"].Definition = "db", "side 2" }, nil},
		{"idle by now", func(c map[string]*bundle.Container) { c["web"].Idle = true }, nil},
		{"a thing of others", nil, []string{"file:/etc/other", "key:other"}},
	}

	compare := func(name string, was *bundle.ComposeProject, want bundle.ComposeProject, changed ...string) {
		t.Helper()
		plan, host := planned(was, want, changed...), done(was, want, changed...)
		if !maps.Equal(plan, host) {
			t.Errorf("%s: the plan foretells %v, the host does %v", name, plan, host)
		}
	}
	compare("a new service", nil, stackOf(nil))
	for _, a := range changes {
		for _, b := range changes {
			was := stackOf(nil)
			want := stackOf(func(c map[string]*bundle.Container) {
				for _, ch := range []change{a, b} {
					if ch.edit != nil && c["web"] != nil {
						ch.edit(c)
					}
				}
			})
			compare(a.name+", "+b.name, &was, want, slices.Concat(a.changed, b.changed)...)
			compare(a.name+", "+b.name+", the other way", &want, was, slices.Concat(a.changed, b.changed)...)
		}
	}
}
