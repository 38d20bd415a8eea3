package host_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"bellhop/internal/bundle"
	"bellhop/internal/host/machine"
	"bellhop/internal/host/state"
	"bellhop/internal/lab"
)

// A podman has one tag, which each pull moves on, and one container, of the unit one.service.
type podman struct {
	mu    sync.Mutex
	tags  map[string]string // image by reference
	runs  string            // image of the container
	pulls int
	log   []string // what names of images it gave and took, and when it pulled
}

const podRef = "reg.example/one:1"

func (p *podman) Run(_ context.Context, prog machine.Program) (machine.Output, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := prog.Argv[len(prog.Argv)-1]
	switch verb := strings.Join(prog.Argv[:2], " "); verb {
	case "podman pull":
		p.pulls++
		p.tags[podRef] = fmt.Sprintf("image%d", p.pulls)
		p.log = append(p.log, "pull")
	case "podman tag":
		p.tags[last] = prog.Argv[2]
		p.log = append(p.log, prog.Argv[2]+" is "+last)
	case "podman rmi":
		p.log = append(p.log, "rmi "+last)
	case "podman ps":
		if p.runs == "" {
			return machine.Output{}, nil
		}
		return machine.Output{Stdout: fmt.Sprintf(`{"ID":"c","Image":%q,"Ref":%q,"Status":"running","Unit":"one.service","Name":"systemd-one"}`+"\n"+
			`{"ID":"d","Image":"x","Ref":"localhost/x","Status":"running","Unit":"another.service","Name":"x"}`+"\n", p.runs, podRef)}, nil
	case "podman image":
		return p.image(prog.Argv[2], last), nil
	}
	return machine.Output{}, nil
}

func (p *podman) image(verb, last string) machine.Output {
	if verb == "ls" {
		return machine.Output{Stdout: "bellhop.keep/one:one.service.1\n" + podRef + "\n"}
	}
	if id := p.tags[last]; id != "" {
		return machine.Output{Stdout: id + "\n"}
	}
	if strings.HasPrefix(last, "image") {
		return machine.Output{Stdout: last + " reg.example/one@sha256:of-" + last + "\n"}
	}
	return machine.Output{Exit: 125, Stderr: "Error: no such image\n"}
}

// once empties the log, and returns it.
func (p *podman) once() (log []string) {
	log, p.log = p.log, nil
	return log
}

// quadletOne is a service with one quadlet, whose tag is asked for each time.
func quadletOne(text string) *load {
	l := newLoad()
	f := bundle.QuadletDir + "/one.container"
	l.file(f, "[Container]\nImage="+podRef+"\nPull=always\n#"+text+"\n[Install]\nWantedBy=multi-user.target\n").of("one")
	l.Units = append(l.Units, bundle.Unit{Name: "one.service", Service: "one", Start: true, OnChange: bundle.Restart, Files: []string{f}, Triggers: []string{"file:" + f}})
	return l
}

// The image that a quadlet ran is in the record and keeps a name, and its reference means it again when a run goes back,
// and when a person does.
func TestImagesOfQuadlets(t *testing.T) {
	m := lab.NewMachine(t.TempDir())
	p := &podman{tags: map[string]string{}}
	m.Host().Programs = p
	m.Host().Reached = func(step string) {
		if step == "start" {
			p.runs = p.tags[podRef]
		}
	}
	record := func() []state.ImageRan {
		t.Helper()
		now, err := state.Of(m.Host()).Current()
		if err != nil {
			t.Fatal(err)
		}
		return now.Images
	}

	l := quadletOne("one")
	first := l.offer()
	twinDeploy(t, m, first, l, bundle.OutcomeDone)
	want := []state.ImageRan{{Service: "one", Engine: "podman", Container: "one.service", Ref: podRef, ID: "image1", Digest: "reg.example/one@sha256:of-image1"}}
	if got := record(); !slices.Equal(got, want) {
		t.Fatalf("the record has images %+v, want %+v", got, want)
	}

	p.once()
	bad := quadletOne("bad").service("bad.service", "[Service]\nType=oneshot\nExecStart=/bin/false\n[Install]\nWantedBy=multi-user.target\n")
	twinDeploy(t, m, bad.offer(), bad, bundle.OutcomeRolledBack)
	if got, want := p.once(), []string{"pull", "image1 is bellhop.keep/one:one.service.1", "image1 is " + podRef}; !slices.Equal(got, want) {
		t.Errorf("a run that goes back: %q, want %q", got, want)
	}

	p.runs = p.tags[podRef]
	l = quadletOne("two")
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	if got := record(); len(got) != 1 || got[0].ID != "image3" {
		t.Errorf("after the third pull the record has %+v", got)
	}
	l = quadletOne("two").file("/etc/other", "x")
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	if got := record(); len(got) != 1 || got[0].ID != "image3" {
		t.Errorf("a run that leaves the quadlet alone recorded %+v", got)
	}

	p.once()
	l = quadletOne("one")
	o := first
	o.Run, o.Base, o.NoBefore = "run-back", 3, true
	twinDeploy(t, m, o, l, bundle.OutcomeDone)
	if got, want := p.once(), []string{"image1 is " + podRef, "image3 is bellhop.keep/one:one.service.3"}; !slices.Equal(got, want) {
		t.Errorf("a person who goes back: %q, want %q", got, want)
	}

	l = newLoad().file("/etc/other", "x")
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	if got := record(); len(got) > 0 {
		t.Errorf("the record of a host without quadlets has %+v", got)
	}
	l = quadletOne("one")
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	if log := p.once(); !slices.Contains(log, "rmi bellhop.keep/one:one.service.1") || slices.Contains(log, "rmi "+podRef) {
		t.Errorf("after five generations: %q; want the name of the first dropped, and no other", log)
	}
}

// A run that touched nothing, because an image did not come, leaves no name moved.
func TestRefusedRunMovesNoImageOfAQuadlet(t *testing.T) {
	m := lab.NewMachine(t.TempDir())
	p := &podman{tags: map[string]string{}}
	m.Host().Programs = p
	m.Host().Reached = func(string) { p.runs = p.tags[podRef] }
	l := quadletOne("one")
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)

	m.Host().Programs = failing{p, "two:1"}
	l = quadletOne("two")
	l.file(bundle.QuadletDir+"/two.container", "[Container]\nImage=reg.example/two:1\n").of("two")
	m.Host().Reached = nil
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeRefused)
	if got := p.tags[podRef]; got != "image1" || p.pulls != 2 {
		t.Errorf("after a refused run that pulled, %s is %s after %d pulls, want image1 after 2", podRef, got, p.pulls)
	}
}

// A name of an image that can't be moved back, as its image was removed meanwhile, is a warning of a run that goes back:
// what ran runs again.
func TestImageThatIsGoneWhenARunGoesBack(t *testing.T) {
	m := lab.NewMachine(t.TempDir())
	p := &podman{tags: map[string]string{}}
	m.Host().Programs = p
	m.Host().Reached = func(string) { p.runs = p.tags[podRef] }
	l := quadletOne("one")
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)

	m.Host().Programs = untaggable{p, podRef}
	m.Host().Reached = nil
	bad := quadletOne("bad").service("bad.service", "[Service]\nType=oneshot\nExecStart=/bin/false\n[Install]\nWantedBy=multi-user.target\n")
	res := twinDeploy(t, m, bad.offer(), bad, bundle.OutcomeRolledBack).res
	want := "service one: names of images that were pulled may stay moved: "
	if got := strings.Join(res.Warnings, "\n"); strings.Count(got, want) != 1 || strings.Contains(res.Error, want) {
		t.Errorf("warnings %q of a run that ended with %q, want %q once among them", got, res.Error, want)
	}
}

// untaggable gives one name to no image.
type untaggable struct {
	*podman
	ref string
}

func (u untaggable) Run(ctx context.Context, p machine.Program) (machine.Output, error) {
	if p.Argv[1] == "tag" && p.Argv[len(p.Argv)-1] == u.ref {
		return machine.Output{Exit: 125, Stderr: "Error: image not known\n"}, nil
	}
	return u.podman.Run(ctx, p)
}

// failing fails the pulls of one image.
type failing struct {
	*podman
	ref string
}

func (f failing) Run(ctx context.Context, p machine.Program) (machine.Output, error) {
	if p.Argv[1] == "pull" && strings.HasSuffix(p.Argv[len(p.Argv)-1], f.ref) {
		return machine.Output{Exit: 125, Stderr: "Error: manifest unknown\n"}, nil
	}
	return f.podman.Run(ctx, p)
}
