package containers_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"bellhop/internal/bundle"
	"bellhop/internal/host/containers"
	"bellhop/internal/host/machine"
)

// up is a container that runs with the hash of its name.
func up(name string) containers.State {
	return containers.State{ID: "id-" + name, Service: name, Image: "sha256:" + name, Ref: name + ":1", Hash: name, Status: "running", Policy: "always"}
}

func project(names ...string) *bundle.ComposeProject {
	c := &bundle.ComposeProject{Project: "p"}
	for _, n := range names {
		c.Containers = append(c.Containers, bundle.Container{Name: n, Image: n + ":1", Definition: n, Files: []string{"/f/" + n}, Keys: []string{n}, EnvKeys: []string{"env-" + n}})
	}
	return c
}

func TestDecide(t *testing.T) {
	all := []containers.State{up("a"), up("b"), up("c")}
	hashes := map[string]string{"a": "a", "b": "b", "c": "c"}
	type change = containers.Change

	for _, c := range []struct {
		name    string
		changed []string
		edit    func(f *containers.Facts)
		want    change
	}{
		{"nothing", nil, nil, change{}},
		{"a mounted file", []string{"file:/f/b"}, nil, change{Restart: []string{"b"}}},
		{"a mounted key", []string{"key:b"}, nil, change{Restart: []string{"b"}}},
		{"a key in the environment", []string{"key:env-b"}, nil, change{Up: []string{"b"}}},
		{"a definition, as rendered", nil, func(f *containers.Facts) { f.Hashes = map[string]string{"a": "a", "b": "other", "c": "c"} }, change{Up: []string{"b"}}},
		{"a definition and its file", []string{"file:/f/b"}, func(f *containers.Facts) { f.Hashes = map[string]string{"a": "a", "b": "other", "c": "c"} }, change{Up: []string{"b"}}},
		{"a definition, nothing rendered", nil, func(f *containers.Facts) {
			f.Hashes = nil
			f.Was = project("a", "b", "c")
			f.Was.Containers[1].Definition = "old"
		}, change{Up: []string{"b"}}},
		{"an image that moved", nil, func(f *containers.Facts) { f.Images = map[string]string{"b:1": "sha256:new", "a:1": "sha256:a"} }, change{Up: []string{"b"}}},
		{"what is built, of other files", []string{"file:/in/b"}, func(f *containers.Facts) {
			f.Want.Containers[1].Build, f.Want.Containers[1].Inputs = true, []string{"/in/b"}
		}, change{Up: []string{"b"}}},
		{"what is built, with other arguments", nil, func(f *containers.Facts) {
			f.Want.Containers[1].Build, f.Was.Containers[1].Build = true, true
			f.Want.Containers[1].Definition = "new"
		}, change{Up: []string{"b"}}},
		{"what is built, and nothing changed", nil, func(f *containers.Facts) { f.Want.Containers[1].Build = true }, change{}},
		{"an image that was built and has no name", nil, func(f *containers.Facts) {
			f.Want.Containers[1].Build, f.Want.Containers[1].Image = true, ""
			f.Images = map[string]string{"p-b": "sha256:new"}
		}, change{Up: []string{"b"}}},
		{"one more and one less", nil, func(f *containers.Facts) {
			f.Now = []containers.State{up("a"), up("b"), up("old")}
			f.Now[2].ID = "gone"
		}, change{Up: []string{"c"}, Gone: []string{"gone"}}},
		{"one that restarts with another", []string{"file:/f/a"}, func(f *containers.Facts) {
			f.Want.Containers[1].RestartWith = []string{"a"}
			f.Want.Containers[2].RestartWith = []string{"b"}
		}, change{Restart: []string{"a", "b", "c"}}},
		{"one in the namespace of another that is made anew", []string{"key:env-b", "file:/f/a"}, func(f *containers.Facts) { f.Want.Containers[0].NetworkOf = "b" }, change{Up: []string{"b", "a"}}},
		{"one in the namespace of another that restarts", []string{"file:/f/b"}, func(f *containers.Facts) { f.Want.Containers[0].NetworkOf = "b" }, change{Restart: []string{"b", "a"}}},
		{"the hash of one in a namespace says nothing", nil, func(f *containers.Facts) {
			f.Want.Containers[0].NetworkOf = "b"
			f.Now[0].Hash = "with an id"
			f.Was = project("a", "b", "c")
		}, change{}},
		{"one that was stopped by hand", []string{"file:/f/b", "key:env-b"}, func(f *containers.Facts) { f.Now[1].Status = "exited" }, change{Stopped: []string{"b"}}},
		{"one that crashed and has no restart policy", nil, func(f *containers.Facts) { f.Now[1].Status, f.Now[1].Policy, f.Now[1].Exit = "exited", "no", 1 }, change{Up: []string{"b"}}},
		{"one that the engine could not start at boot", nil, func(f *containers.Facts) {
			f.Now[1].Status, f.Now[1].Exit, f.Now[1].Error = "exited", 127, "no such file"
		}, change{Up: []string{"b"}}},
		{"a job that is done", nil, func(f *containers.Facts) {
			f.Want.Containers[1].Once = true
			f.Now[1].Status, f.Now[1].Policy = "exited", "no"
		}, change{}},
		{"a job whose file changed", []string{"file:/f/b"}, func(f *containers.Facts) {
			f.Want.Containers[1].Once = true
			f.Now[1].Status, f.Now[1].Policy = "exited", "no"
		}, change{Restart: []string{"b"}}},
		{"one that no profile switches on", []string{"file:/f/b"}, func(f *containers.Facts) {
			f.Want.Containers[1].Idle = true
			f.Now = f.Now[:1]
			f.Now = append(f.Now, up("c"))
		}, change{}},
		{"two of one", nil, func(f *containers.Facts) { f.Want.Containers[1].Scale = 2 }, change{Up: []string{"b"}}},
		{"a project that is adopted as it is", nil, func(f *containers.Facts) { f.Was = nil }, change{}},
	} {
		f := containers.Facts{Want: project("a", "b", "c"), Was: project("a", "b", "c"), Now: slices.Clone(all), Hashes: hashes,
			Changed: func(thing string) bool { return slices.Contains(c.changed, thing) }}
		if c.edit != nil {
			c.edit(&f)
		}
		if got := containers.Decide(f); fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

// An image is built for a new container, for other files and for another definition.
func TestBuildsAnew(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(f *containers.Facts)
		want bool
	}{
		{"nothing", func(*containers.Facts) {}, false},
		{"no container", func(f *containers.Facts) { f.Now = nil }, true},
		{"another file", func(f *containers.Facts) { f.Changed = func(thing string) bool { return thing == "file:/in/a" } }, true},
		{"other arguments", func(f *containers.Facts) { f.Want.Containers[0].Definition = "new" }, true},
		{"a project that is adopted as it is", func(f *containers.Facts) { f.Was = nil }, false},
	} {
		f := containers.Facts{Want: project("a"), Was: project("a"), Now: []containers.State{up("a")}, Changed: func(string) bool { return false }}
		f.Want.Containers[0].Build, f.Want.Containers[0].Inputs = true, []string{"/in/a"}
		c.edit(&f)
		if got := f.BuildsAnew(&f.Want.Containers[0]); got != c.want {
			t.Errorf("%s: BuildsAnew = %v, want %v", c.name, got, c.want)
		}
	}
}

// What compose reads finds keys where they wait, and nothing else is written otherwise than it is.
func TestTriedNamesKeysWhereTheyWait(t *testing.T) {
	const text = "env_file: /run/keys/k\n"
	s := containers.Stack{ComposeProject: bundle.ComposeProject{Files: []string{"/d/compose.yaml"}, Env: []string{"/d/v.env"}}}
	s.Containers = []bundle.Container{{Name: "a", EnvKeys: []string{"k"}, Files: []string{"/d/mounted"}, Inputs: []string{"/d/Dockerfile", "/d/compose.yaml"}}}

	for path, isRead := range map[string]bool{"/d/compose.yaml": true, "/d/included.yaml": true, "/d/v.env": false, "/d/mounted": false, "/d/Dockerfile": false} {
		want := text
		if isRead {
			want = "env_file: /s/run/keys/k\n"
		}
		if got := string(s.Tried(path, []byte(text), "/s")); got != want {
			t.Errorf("%s is tried as %q, want %q", path, got, want)
		}
	}

	s.Containers[0].EnvKeys = nil
	if got := string(s.Tried("/d/compose.yaml", []byte(text), "/s")); got != text {
		t.Errorf("without keys in an environment: %q, want %q", got, text)
	}
}

// At most two calls of compose, and plain "up" is never one: it would touch dependents too.
func TestApplyCallsComposeTwiceAtMost(t *testing.T) {
	p := &programs{answer: func(context.Context, machine.Program) (machine.Output, error) { return machine.Output{}, nil }}
	s := &containers.Stack{Service: "s", ComposeProject: bundle.ComposeProject{Project: "p", Dir: "/d", Files: []string{"/d/a.yaml", "/d/b.yaml"}, Env: []string{"/d/.e"}}}
	e := containers.Engine{Programs: p}
	if err := e.Apply(t.Context(), s, containers.Change{Restart: []string{"a"}}); err != nil {
		t.Fatal(err)
	}
	if err := e.Apply(t.Context(), s, containers.Change{Up: []string{"a", "b"}, Restart: []string{"c"}, Gone: []string{"x"}}); err != nil {
		t.Fatal(err)
	}
	if err := e.Apply(t.Context(), s, containers.Change{Gone: []string{"x"}}); err != nil {
		t.Fatal(err)
	}

	const compose = "docker compose --project-name p --project-directory /d --env-file /d/.e -f /d/a.yaml -f /d/b.yaml "
	want := []string{compose + "restart --no-deps -- a", compose + "up -d --no-build --pull never --remove-orphans -- a b", compose + "restart --no-deps -- c", "docker stop x", "docker rm x"}
	if !slices.Equal(p.calls, want) {
		t.Errorf("calls %q, want %q", p.calls, want)
	}
}

func TestOlder(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{{"2.26.1-4", "2.26", false}, {"2.5.0", "2.26", true}, {"2.26", "2.26", false}, {"5.0", "2.26", false}, {"1.29.2", "2.26", true}} {
		if got := containers.Older(c.a, c.b); got != c.want {
			t.Errorf("Older(%s, %s) = %v", c.a, c.b, got)
		}
	}
}

// A host that sees other definitions than the plan did says so; what both see, and what was stopped or moved, is no news.
func TestUnforetold(t *testing.T) {
	type facts = containers.Facts
	for _, c := range []struct {
		name string
		edit func(f *facts)
		want []string // beginnings
	}{
		{"all agree", func(f *facts) { f.Was.Containers[1].Definition, f.Hashes["b"] = "old", "other" }, nil},
		{"started by another definition", func(f *facts) { f.Hashes["b"] = "other" }, []string{"b is made anew, which the plan did not foretell"}},
		{"no other definition for compose", func(f *facts) { f.Was.Containers[1].Definition = "old" }, []string{"b stays, though the plan foretold a new one"}},
		{"an image that moved", func(f *facts) { f.Images = map[string]string{"b:1": "sha256:new"} }, nil},
		{"one that is not there", func(f *facts) { f.Now = f.Now[1:] }, nil},
		{"a new stack", func(f *facts) { f.Was, f.Hashes["b"] = nil, "other" }, nil},
		{"nothing was rendered", func(f *facts) { f.Hashes = nil }, nil},
	} {
		f := facts{Was: project("a", "b", "c"), Want: project("a", "b", "c"), Now: []containers.State{up("a"), up("b"), up("c")},
			Hashes: map[string]string{"a": "a", "b": "b", "c": "c"}, Changed: func(string) bool { return false }}
		c.edit(&f)
		got := containers.Unforetold(f, containers.Decide(f))
		if len(got) != len(c.want) || len(got) > 0 && !strings.HasPrefix(got[0], c.want[0]) {
			t.Errorf("%s: Unforetold = %q, want %q", c.name, got, c.want)
		}
	}
}
