package check

import (
	"testing"

	"bellhop/internal/bundle"
)

// Nothing of a project that an offer names can become an option of docker, or a path that is none.
func TestCheckStack(t *testing.T) {
	good := func() *bundle.ComposeProject {
		return &bundle.ComposeProject{Project: "wiki", Dir: "/opt/stacks/wiki", Files: []string{"/opt/stacks/wiki/compose.yaml"},
			Containers: []bundle.Container{{Name: "app", Image: "r.lan:5000/a/b:1.0@sha256:00"}, {Name: "built", Build: true}}}
	}
	if err := checkStack(good()); err != nil {
		t.Error(err)
	}
	for name, edit := range map[string]func(c *bundle.ComposeProject){
		"project":          func(c *bundle.ComposeProject) { c.Project = "--env-file" },
		"no project":       func(c *bundle.ComposeProject) { c.Project = "" },
		"dir":              func(c *bundle.ComposeProject) { c.Dir = "opt" },
		"dir above":        func(c *bundle.ComposeProject) { c.Dir = "/opt/../etc" },
		"no files":         func(c *bundle.ComposeProject) { c.Files = nil },
		"file":             func(c *bundle.ComposeProject) { c.Files = []string{"-"} },
		"env":              func(c *bundle.ComposeProject) { c.Env = []string{"x"} },
		"container":        func(c *bundle.ComposeProject) { c.Containers[0].Name = "-v" },
		"image":            func(c *bundle.ComposeProject) { c.Containers[0].Image = "--all-tags" },
		"no image":         func(c *bundle.ComposeProject) { c.Containers[0].Image = "" },
		"policy":           func(c *bundle.ComposeProject) { c.Containers[0].Pull = "sometimes" },
		"scale below zero": func(c *bundle.ComposeProject) { c.Containers[0].Scale = -1 },
	} {
		c := good()
		edit(c)
		if checkStack(c) == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
