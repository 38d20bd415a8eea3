package host_test

import (
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/host/containers"
	"bellhop/internal/host/stacks"
	"bellhop/internal/host/state"
	"bellhop/internal/lab"
)

// pullPlug deploys l, and pulls the plug in the middle of a call of the engine, once that has done its work.
func pullPlug(t *testing.T, m *lab.Machine, e *engine, l *load, call string, work func()) {
	t.Helper()
	pull := &plug{call, work, make(chan struct{})}
	e.plug = pull
	go talk(m.Host(), l.on(1), l)
	<-pull.pulled
	if err := m.Reboot(); err != nil {
		t.Fatal(err)
	}
}

// blogs adds a second project, blog, to the load, which begins with this run.
func blogs(e *engine, l *load) (work func()) {
	blog := *l.Services[len(l.Services)-1].Compose
	blog.Project = "blog"
	l.Services = append(l.Services, bundle.Service{Name: "blog", Compose: &blog})
	e.of = map[string]string{"new": "blog"}
	return func() {
		e.states = append(e.states, containers.State{ID: "new", Service: "app", Image: "sha256:1", Ref: "app:1", Hash: "h", Status: "running", Policy: "always", Started: time.Now().Add(-time.Hour)})
	}
}

const upBlog = "--project-name blog --project-directory /opt/stacks/wiki --env-file /dev/null -f /opt/stacks/wiki/compose.yaml up -d"

// contact is what a deployer does after a reboot: it says hello.
func contact(t *testing.T, m *lab.Machine) {
	t.Helper()
	if _, err := talkHello(m.Host()); err != nil {
		t.Fatal(err)
	}
}

// A run that brought a new project is cut off by a reboot. Docker starts the new containers again, which nobody
// wants: they go at the next contact at which it answers, once.
func TestRebootLeavesNoContainers(t *testing.T) {
	m, e, l := composeLoad(t)
	pullPlug(t, m, e, l, upBlog, blogs(e, l))
	if e.asked("docker rm") > 0 {
		t.Fatalf("containers were removed at boot, where no engine is yet: %q", e.calls)
	}

	e.down(true)
	contact(t, m)
	e.down(false)
	contact(t, m)
	if e.asked("docker stop new") != 1 || e.asked("docker rm new") != 1 || e.asked("docker rm 1") > 0 {
		t.Errorf("calls %q", e.calls)
	}
	contact(t, m)
	if e.asked("docker rm new") != 1 {
		t.Errorf("it was done again: %q", e.calls)
	}
}

// What a reboot left of a run is no longer put back when another run came since.
func TestLaterRunSettlesContainers(t *testing.T) {
	m, e, l := composeLoad(t)
	pullPlug(t, m, e, l, upBlog, blogs(e, l))

	e.down(true)
	contact(t, m)
	l.Services = slices.DeleteFunc(l.Services, func(s bundle.Service) bool { return s.Name == "blog" })
	l.file("/etc/other", "x")
	twinDeploy(t, m, l.on(1), l, bundle.OutcomeDone)
	e.down(false)
	contact(t, m)
	contact(t, m)
	if e.asked("docker rm new") > 0 {
		t.Errorf("calls %q", e.calls)
	}
}

// An engine that is slow to answer delays no hello. A run waits for it longer.
func TestSlowEngineDelaysNoHello(t *testing.T) {
	m, e, l := composeLoad(t)
	pullPlug(t, m, e, l, upBlog, blogs(e, l))
	l.Services = slices.DeleteFunc(l.Services, func(s bundle.Service) bool { return s.Name == "blog" })
	l.file("/etc/other", "x")
	e.slow = time.Minute / 10
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		contact(t, m)
		if took := time.Since(began); took > stacks.AtContact.Answer || e.asked("docker rm") > 0 {
			t.Errorf("hello took %s, calls %q", took, e.calls)
		}

		twinDeploy(t, m, l.on(1), l, bundle.OutcomeDone)
		if e.asked("docker rm new") != 1 {
			t.Errorf("a run did not wait for the engine: %q", e.calls)
		}
	})
}

// Two runs in a row are cut off while no engine answers: what either left is put back.
func TestTwoRunsOweContainers(t *testing.T) {
	m, _, _ := composeLoad(t)
	d := state.Of(m.Host())
	now, err := d.Current()
	if err != nil {
		t.Fatal(err)
	}

	made := func(id string) state.StackWas {
		return state.StackWas{Project: "blog", Containers: []state.ContainerWas{{ID: id}}}
	}
	wiki := state.StackWas{Project: "wiki"}
	for i, all := range [][]state.StackWas{{made("one")}, {made("two"), wiki}} {
		if err := stacks.Owe(d, &state.Journal{Run: []string{"one", "two"}[i], Stacks: all}); err != nil {
			t.Fatal(err)
		}
	}
	owed, err := d.OwedStacks()
	if err != nil || len(owed.Stacks) != 2 || owed.Stacks[0].Containers[0].ID != "one" || owed.Generation != now.Generation {
		t.Errorf("owed %+v (%v), want blog as the first run found it, and wiki", owed, err)
	}
}

// The name of an image that a pull moved means again what it meant when a reboot cut the run off, and a
// container that came up with the new one meanwhile is made anew.
func TestRebootPutsNamesOfImagesBack(t *testing.T) {
	m, e, l := composeLoad(t)
	l.Services[len(l.Services)-1].Compose.Containers[0].Pull = containers.PullAlways
	pullPlug(t, m, e, l, "up -d --no-build", func() { e.states[0].ID, e.states[0].Image = "2", "sha256:2" })
	contact(t, m)

	i, j := e.first("docker tag sha256:1 app:1"), e.first("up -d --no-build --pull never -- app")
	if i < 0 || j < i {
		t.Errorf("the name at call %d, the container at %d: %q", i, j, e.calls)
	}
}

// A rollback brings the images that ran then, and asks no registry: its newest is what one goes back from.
func TestRollbackBringsFormerImages(t *testing.T) {
	m, e, l := composeLoad(t)
	wiki := l.Services[len(l.Services)-1].Compose
	wiki.Containers[0].Pull = containers.PullAlways
	first := l.on(1)
	twinDeploy(t, m, first, l, bundle.OutcomeDone)
	l.file("/etc/other", "x")
	e.change(func(s *containers.State) { s.Image = "sha256:2" })
	wiki.Containers[0].Definition = "another"
	twinDeploy(t, m, l.on(2), l, bundle.OutcomeDone)

	damaged := m.Path(state.GenDir + "/9") // which is not the one that is asked for
	if err := os.WriteFile(damaged, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}

	e.calls = nil
	o := first
	o.Run, o.Base, o.NoBefore = "run-back", 3, true
	twinDeploy(t, m, o, l, bundle.OutcomeDone)
	if e.asked("docker pull") > 0 || e.first("docker tag sha256:") < 0 {
		t.Errorf("calls %q", slices.DeleteFunc(e.calls, func(c string) bool { return strings.Contains(c, " inspect") }))
	}
}
