package bundle_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"bellhop/internal/bundle"
)

// five is a stack of five containers: web restarts with app, side is in the network of app.
func five() bundle.Manifest {
	m := bundle.Manifest{Services: []bundle.Service{{Name: "wiki", Compose: &bundle.ComposeProject{
		Project: "wiki", Dir: "/opt/stacks/wiki", Files: []string{"/opt/stacks/wiki/compose.yaml"},
		Containers: []bundle.Container{
			{Name: "app", Image: "app:1", Definition: "a", Files: []string{"/app.conf"}, Keys: []string{"k"}, Inputs: []string{"/app.env"}, Volumes: []string{"data:/data"}},
			{Name: "db", Image: "db:1", Definition: "d", EnvKeys: []string{"wiki-env"}, Volumes: []string{"dbdata:/var/lib/db"}},
			{Name: "idle", Image: "i:1", Definition: "i", Idle: true},
			{Name: "side", Image: "s:1", Definition: "s", NetworkOf: "app"},
			{Name: "web", Image: "w:1", Definition: "w", RestartWith: []string{"app"}},
		},
		Volumes:  []bundle.ComposeVolume{{Key: "data", Name: "wiki_data", Definition: "v"}, {Key: "dbdata", Name: "wiki_dbdata", Definition: "v"}},
		Networks: []bundle.ComposeVolume{{Key: "default", Name: "wiki_default", Definition: "n"}},
	}}}}
	for _, p := range []string{"/app.conf", "/app.env"} {
		m.Files = append(m.Files, bundle.File{Path: p, Digest: "1", Service: "wiki"})
	}
	m.Keys = []bundle.Key{{Name: "k", Digest: "1", Service: "wiki"}, {Name: "wiki-env", Digest: "1", Service: "wiki"}}
	return m
}

// Each change reaches exactly the containers that it concerns, and those that are bound to them.
func TestPreviewContainers(t *testing.T) {
	for name, test := range map[string]struct {
		edit func(m *bundle.Manifest, c *bundle.ComposeProject)
		want string
	}{
		"nothing":         {func(*bundle.Manifest, *bundle.ComposeProject) {}, ""},
		"a mounted file":  {func(m *bundle.Manifest, _ *bundle.ComposeProject) { m.Files[0].Digest = "2" }, "restart app: /app.conf; restart side: it restarts with app; restart web: it restarts with app"},
		"a mounted key":   {func(m *bundle.Manifest, _ *bundle.ComposeProject) { m.Keys[0].Digest = "2" }, "restart app: key k; restart side: it restarts with app; restart web: it restarts with app"},
		"a key in an env": {func(m *bundle.Manifest, _ *bundle.ComposeProject) { m.Keys[1].Digest = "2" }, "recreate db: key wiki-env in its environment"},
		"an env file": {func(m *bundle.Manifest, c *bundle.ComposeProject) {
			m.Files[1].Digest, c.Containers[0].Definition = "2", "b"
		}, "recreate app: /app.env; recreate side: it shares a namespace with app; restart web: it restarts with app"},
		"an image": {func(_ *bundle.Manifest, c *bundle.ComposeProject) {
			c.Containers[1].Image, c.Containers[1].Definition = "db:2", "e"
		}, "recreate db: image db:2, was db:1"},
		"a definition": {func(_ *bundle.Manifest, c *bundle.ComposeProject) { c.Containers[4].Definition = "x" }, "recreate web: its definition"},
		"a new one": {func(_ *bundle.Manifest, c *bundle.ComposeProject) {
			c.Containers = append(c.Containers, bundle.Container{Name: "x", Image: "x"})
		}, "create x: it is new"},
		"one that is gone":  {func(_ *bundle.Manifest, c *bundle.ComposeProject) { c.Containers = c.Containers[:4] }, "remove web: it is in no compose file any more"},
		"one that runs now": {func(_ *bundle.Manifest, c *bundle.ComposeProject) { c.Containers[2].Idle = false }, "create idle: it is new"},
	} {
		was, want := five(), five()
		test.edit(&want, want.Services[0].Compose)
		var got []string
		for _, c := range bundle.PreviewContainers(was, want, bundle.Diff(was, want)) {
			got = append(got, fmt.Sprintf("%s %s: %s", c.Action, c.Container, c.Why))
		}
		if text := strings.Join(got, "; "); text != test.want {
			t.Errorf("%s: %s\nwant %s", name, text, test.want)
		}
	}

	if got := bundle.PreviewContainers(bundle.Manifest{}, five(), nil); len(got) != 4 || got[0].Action != bundle.Create {
		t.Errorf("a new service: %v, want four to be created", got)
	}
	if got := bundle.PreviewContainers(five(), bundle.Manifest{}, nil); len(got) != 5 || got[0].Action != bundle.Remove {
		t.Errorf("a service that leaves: %v, want all to be removed", got)
	}
}

// A plan says that the unit restarts where it starts another project, or a project in place of a process.
func TestPreviewOfAnotherStack(t *testing.T) {
	unit := bundle.Unit{Name: "wiki.service", Service: "wiki", Start: true, OnChange: bundle.None}
	with := func(project string) bundle.Manifest {
		m := five()
		m.Units = []bundle.Unit{unit}
		if m.Services[0].Compose.Project = project; project == "" {
			m.Services[0].Compose = nil
		}
		return m
	}
	for _, c := range []struct {
		was, is  string
		restarts bool
	}{{"wiki", "wiki", false}, {"wiki", "docs", true}, {"wiki", "", true}, {"", "wiki", true}, {"", "", false}} {
		was, is := with(c.was), with(c.is)
		got := bundle.PreviewUnits(was, is, bundle.Diff(was, is))
		if restarts := slices.Equal(got.Restart, []string{"wiki.service"}); restarts != c.restarts || len(got.Start)+len(got.Stop) > 0 {
			t.Errorf("project %q, then %q: %+v; restarts: want %v", c.was, c.is, got, c.restarts)
		}
	}
}

// Data that a push would leave behind, and definitions that compose would not look at, are found.
func TestNewVolumes(t *testing.T) {
	for name, test := range map[string]struct {
		edit func(m *bundle.Manifest, c *bundle.ComposeProject)
		want []string
	}{
		"nothing":      {func(*bundle.Manifest, *bundle.ComposeProject) {}, nil},
		"a definition": {func(_ *bundle.Manifest, c *bundle.ComposeProject) { c.Volumes[0].Definition = "w" }, []string{"wiki: the definition of volume wiki_data differs, and docker compose on the host would ignore that"}},
		"a network":    {func(_ *bundle.Manifest, c *bundle.ComposeProject) { c.Networks[0].Definition = "w" }, []string{"wiki: the definition of network wiki_default differs, and docker compose on the host would ignore that"}},
		"a key": {func(_ *bundle.Manifest, c *bundle.ComposeProject) {
			c.Volumes[0] = bundle.ComposeVolume{Key: "stuff", Name: "wiki_stuff", Definition: "v"}
			c.Containers[0].Volumes = []string{"stuff:/data"}
		}, []string{"wiki: volume wiki_data would be left behind, and wiki_stuff begin empty"}},
		"a name": {func(_ *bundle.Manifest, c *bundle.ComposeProject) { c.Volumes[0].Name = "other" }, []string{"wiki: volume wiki_data would be left behind, and other begin empty"}},
		"a key, of the same name": {func(_ *bundle.Manifest, c *bundle.ComposeProject) {
			c.Volumes[0].Key = "stuff"
			c.Containers[0].Volumes = []string{"stuff:/data"}
		}, nil},
		"a project": {func(_ *bundle.Manifest, c *bundle.ComposeProject) {
			c.Project = "docs"
			for i := range c.Volumes {
				c.Volumes[i].Name = "docs_" + c.Volumes[i].Key
			}
			c.Networks[0].Name = "docs_default"
		}, []string{"wiki: project wiki would be stopped and its containers removed, with what they hold outside of volumes, and project docs begin in its place", "wiki: volume wiki_data would be left behind, and docs_data begin empty", "wiki: volume wiki_dbdata would be left behind, and docs_dbdata begin empty"}},
		"a project without volumes": {func(_ *bundle.Manifest, c *bundle.ComposeProject) {
			c.Project, c.Volumes, c.Networks = "docs", nil, nil
		}, []string{"wiki: project wiki would be stopped and its containers removed, with what they hold outside of volumes, and project docs begin in its place"}},
		"a service, its project kept": {func(m *bundle.Manifest, _ *bundle.ComposeProject) { m.Services[0].Name = "docs" }, nil},
		"a service": {func(m *bundle.Manifest, c *bundle.ComposeProject) {
			m.Services[0].Name = "docs"
			c.Volumes = []bundle.ComposeVolume{{Key: "data", Name: "docs_data", Definition: "v"}}
		}, []string{"wiki: volume wiki_data would be left behind, and docs_data begin empty"}},
		"a volume that leaves": {func(_ *bundle.Manifest, c *bundle.ComposeProject) {
			c.Volumes, c.Containers[0].Volumes = c.Volumes[1:], nil
		}, nil},
		"a service that leaves": {func(m *bundle.Manifest, _ *bundle.ComposeProject) { m.Services = nil }, nil},
		"made external": {func(_ *bundle.Manifest, c *bundle.ComposeProject) {
			c.Volumes[0] = bundle.ComposeVolume{Key: "data", Name: "wiki_data", External: true}
		}, nil},
	} {
		was, want := five(), five()
		test.edit(&want, want.Services[0].Compose)
		var got []string
		for _, v := range bundle.NewVolumes(was, want) {
			got = append(got, v.String())
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: %q\nwant %q", name, got, test.want)
		}
	}
}
