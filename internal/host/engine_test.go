package host_test

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/host/containers"
	"bellhop/internal/host/machine"
	"bellhop/internal/host/restart"
	"bellhop/internal/host/state"
	"bellhop/internal/lab"
)

// An engine answers for docker and podman of a twin.
type engine struct {
	mu     sync.Mutex
	states []containers.State // of the only project
	pulls  map[string]string  // by reference: what the pull fails with
	logs   string
	moved  map[string]string // by reference: the image that it means since a pull
	calls  []string
	isDown bool          // it does not answer
	slow   time.Duration // that each call takes
	plug   *plug
	of     map[string]string // the project of a container, by its id, where it is not wiki
	config string            // that compose renders
	lacks  string            // the network or volume that it does not have: "network ext"
	logins map[string]string // by what was run: the logins that its environment led to
}

// A plug is pulled in the middle of a call that has this text, once the call has done its work.
type plug struct {
	call   string
	work   func()
	pulled chan struct{}
}

func (e *engine) Run(ctx context.Context, p machine.Program) (machine.Output, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if pull := e.plug; pull != nil && strings.Contains(strings.Join(p.Argv, " "), pull.call) {
		e.plug = nil
		pull.work()
		close(pull.pulled)
		e.mu.Unlock()
		<-ctx.Done()
		e.mu.Lock()
		panic("the plug was pulled")
	}
	if e.slow > 0 {
		select {
		case <-ctx.Done():
			return machine.Output{}, ctx.Err()
		case <-time.After(e.slow):
		}
	}
	if !e.isDown {
		e.calls = append(e.calls, strings.Join(p.Argv, " "))
	}
	e.readLogins(p)

	last := p.Argv[len(p.Argv)-1]
	switch {
	case e.isDown:
		return machine.Output{Exit: 1, Stderr: "Cannot connect to the Docker daemon\n"}, nil
	case p.Argv[1] == "pull" && e.pulls[last] != "":
		return machine.Output{Exit: 1, Stderr: e.pulls[last] + "\n"}, nil
	case p.Argv[1] == "image" && p.Argv[0] == containers.Podman:
		return machine.Output{Exit: 1, Stderr: "Error: no such image\n"}, nil
	case p.Argv[1] == "pull":
		if e.moved == nil {
			e.moved = map[string]string{}
		}
		e.moved[last] = "sha256:2"
	case p.Argv[1] == "tag":
		e.moved[last] = p.Argv[2]
	case p.Argv[1] == "image" && e.moved[last] != "":
		return machine.Output{Stdout: e.moved[last] + "\n"}, nil
	case p.Argv[1] == "image":
		return machine.Output{Stdout: "sha256:1\n"}, nil
	case p.Argv[1] == "compose" && last == "--short":
		return machine.Output{Stdout: "2.26.1\n"}, nil
	case p.Argv[1] == "compose" && last == "config":
		return machine.Output{Stdout: e.config}, nil
	case e.lacks != "" && p.Argv[1]+" "+last == e.lacks:
		return machine.Output{Exit: 1, Stderr: "Error response from daemon: network ext not found\n"}, nil
	case p.Argv[1] == "compose" && last == "*":
		return e.lines(func(s *containers.State) string { return s.Service + " " + s.Hash }), nil
	case p.Argv[1] == "ps":
		_, project, _ := strings.Cut(last, "project=")
		return e.lines(func(s *containers.State) string {
			if cmp.Or(e.of[s.ID], "wiki") != project {
				return ""
			}
			return s.ID
		}), nil
	case p.Argv[1] == "inspect":
		return e.lines(func(s *containers.State) string {
			if !slices.Contains(p.Argv, s.ID) {
				return ""
			}
			text, _ := json.Marshal(s)
			return string(text)
		}), nil
	case p.Argv[1] == "logs":
		return machine.Output{Stdout: e.logs}, nil
	}
	return machine.Output{}, nil
}

// readLogins reads the logins as the engines do.
func (e *engine) readLogins(p machine.Program) {
	for _, v := range p.Env {
		for _, prefix := range []string{"DOCKER_CONFIG=", "REGISTRY_AUTH_FILE="} {
			file, is := strings.CutPrefix(v, prefix)
			if !is {
				continue
			}
			if prefix == "DOCKER_CONFIG=" {
				file += "/config.json"
			}
			text, err := os.ReadFile(file)
			if err != nil {
				text = []byte(err.Error())
			}
			if e.logins == nil {
				e.logins = map[string]string{}
			}
			e.logins[strings.Join(p.Argv, " ")] = string(text)
		}
	}
}

func (e *engine) lines(of func(s *containers.State) string) machine.Output {
	var text strings.Builder
	for i := range e.states {
		text.WriteString(of(&e.states[i]) + "\n")
	}
	return machine.Output{Stdout: text.String()}
}

// down has it answer no more, or again.
func (e *engine) down(is bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.isDown = is
}

// asked is how many calls begin so while it answered.
func (e *engine) asked(call string) (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range e.calls {
		if strings.HasPrefix(c, call) {
			n++
		}
	}
	return n
}

// first is the place of the first call that has the text; -1 for none.
func (e *engine) first(text string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.IndexFunc(e.calls, func(c string) bool { return strings.Contains(c, text) })
}

// change edits the containers.
func (e *engine) change(edit func(s *containers.State)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range e.states {
		edit(&e.states[i])
	}
}

// A service whose image may come by itself later is not blamed for one whose image never will.
func TestImagesThatDoNotCome(t *testing.T) {
	load := func() *load {
		l := newLoad()
		l.file(bundle.QuadletDir+"/one.container", "[Container]\nImage=reg.example/one:1\n").of("one")
		l.file(bundle.QuadletDir+"/two.container", "[Container]\nImage=reg.example/two:1\n").of("two")
		return l
	}
	const quota, none = "Error: toomanyrequests: slow down", "Error: manifest unknown"
	for _, c := range []struct {
		name, one, two string
		refused        string
		failing        []string
	}{
		{"one never comes", none, quota, bundle.RefusedBundle, []string{"one"}},
		{"both may come", quota, quota, bundle.RefusedRegistry, []string{"one", "two"}},
		{"neither comes", none, none, bundle.RefusedBundle, []string{"one", "two"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := lab.NewMachine(t.TempDir())
			m.Host().Programs = &engine{pulls: map[string]string{"reg.example/one:1": c.one, "reg.example/two:1": c.two}}
			l := load()
			res := twinDeploy(t, m, l.offer(), l, bundle.OutcomeRefused).res
			if res.Refused != c.refused || !slices.Equal(res.Failing, c.failing) {
				t.Errorf("refused by %s, due to %q (%s); want %s, due to %q", res.Refused, res.Failing, res.Error, c.refused, c.failing)
			}
			if !strings.Contains(res.Error, "service one: ") || !strings.Contains(res.Error, "service two: ") {
				t.Errorf("the error is %q, want what came of both", res.Error)
			}
		})
	}
}

// composeTwin is a twin that runs the compose service wiki, of one container, and its engine.
func composeTwin(t *testing.T) (*lab.Machine, *engine) {
	t.Helper()
	m, e, _ := composeLoad(t)
	return m, e
}

// composeLoad is composeTwin, with what was deployed there.
func composeLoad(t *testing.T) (*lab.Machine, *engine, *load) {
	t.Helper()
	m := lab.NewMachine(t.TempDir())
	e := &engine{logs: "login with first-first-first\nit broke\n", states: []containers.State{
		{ID: "1", Service: "app", Image: "sha256:1", Ref: "app:1", Hash: "h", Status: "running", Policy: "always", Started: time.Now().Add(-time.Hour)}}}
	m.Host().Programs = e

	l := rigBot("one", "first-first-first")
	l.file("/opt/stacks/wiki/compose.yaml", "services: {}\n").of("wiki")
	unit := bundle.UnitDir + "/wiki.service"
	l.file(unit, "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/x\n[Install]\nWantedBy=multi-user.target\n").of("wiki")
	l.Units = append(l.Units, bundle.Unit{Name: "wiki.service", Service: "wiki", Enable: true, Start: true, OnChange: bundle.Restart, Files: []string{unit}, Triggers: []string{"file:" + unit}})
	settle := int64(1)
	l.Services = append(l.Services, bundle.Service{Name: "wiki", Settle: &settle, Compose: &bundle.ComposeProject{Project: "wiki", Dir: "/opt/stacks/wiki",
		Files: []string{"/opt/stacks/wiki/compose.yaml"}, Containers: []bundle.Container{{Name: "app", Image: "app:1"}}}})
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	return m, e, l
}

// A restart of a compose service is judged by its containers: its unit says only that they were started.
func TestRestartWatchesContainers(t *testing.T) {
	m, e := composeTwin(t)
	if _, res := askRestart(t, m, "wiki"); res.Outcome != bundle.OutcomeDone {
		t.Fatalf("outcome %s (%s), want done", res.Outcome, res.Error)
	}
	e.change(func(s *containers.State) { s.Status, s.Exit, s.Policy = "exited", 7, "no" })
	_, res := askRestart(t, m, "wiki")
	if res.Outcome != bundle.OutcomeFailed || !strings.Contains(res.Error, "container wiki:app ended with status 7") || !slices.Equal(res.Failing, []string{"wiki"}) {
		t.Fatalf("result %s (%s) due to %q, want failed by the container", res.Outcome, res.Error, res.Failing)
	}
	if len(res.Evidence) != 1 || res.Evidence[0].Unit != "wiki:app" || !slices.Contains(res.Evidence[0].Lines, "it broke") {
		t.Fatalf("evidence %+v, want the container's lines", res.Evidence)
	}
	if text := strings.Join(res.Evidence[0].Lines, "\n"); strings.Contains(text, "first-first") {
		t.Errorf("evidence has the value of a key: %s", text)
	}
}

// A container that never gets healthy fails the restart at its time limit, with what it wrote.
func TestRestartOfAContainerThatHangs(t *testing.T) {
	m, e := composeTwin(t)
	e.change(func(s *containers.State) { s.Health = "starting" })
	synctest.Test(t, func(t *testing.T) {
		res, err := restart.Service(t.Context(), state.Of(m.Host()), "wiki", func(string, string) {})
		if err != nil || res.Outcome != bundle.OutcomeFailed || !strings.Contains(res.Error, "container wiki:app is not healthy after ") {
			t.Fatalf("Restart = %+v, %v; want failed by the container", res, err)
		}
		if len(res.Evidence) != 1 || !slices.Contains(res.Evidence[0].Lines, "it broke") {
			t.Errorf("evidence %+v, want the container's lines", res.Evidence)
		}
	})
}

// Pulls find the logins of the bundle that comes, also while their key waits; nothing else does. A key that
// another run brought is found where it stands.
func TestLoginsOfPulls(t *testing.T) {
	m, e, l := composeLoad(t)
	unit := bundle.UnitDir + "/registries-key.service"
	l.file(unit, "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/x\n").of("")
	l.Units = append(l.Units, bundle.Unit{Name: "registries-key.service", KeyUnit: true, OnChange: bundle.None, Files: []string{unit}})
	l.Keys = append(l.Keys, bundle.Key{Name: "registries", Path: bundle.KeyDir + "/registries", User: "root", Group: "root", Mode: 0o400})
	l.keys["registries"], l.Logins = "first logins", bundle.KeyDir+"/registries"
	wiki := l.Services[len(l.Services)-1].Compose
	wiki.Containers[0].Pull = containers.PullAlways
	l.file(bundle.QuadletDir+"/one.container", "[Container]\nImage=reg.example/one:1\n").of("one")

	twinDeploy(t, m, l.on(1), l, bundle.OutcomeDone)
	want := map[string]string{"docker pull -q app:1": "first logins", "podman pull -q reg.example/one:1": "first logins"}
	if !maps.Equal(e.logins, want) {
		t.Errorf("logins %q, want %q", e.logins, want)
	}

	e.logins = nil
	wiki.Containers[0].Image = "app:2"
	twinDeploy(t, m, l.on(2), l, bundle.OutcomeDone)
	if want := map[string]string{"docker pull -q app:2": "first logins"}; !maps.Equal(e.logins, want) {
		t.Errorf("later logins %q, want %q", e.logins, want)
	}

	l.Keys = slices.DeleteFunc(l.Keys, func(k bundle.Key) bool { return k.Name == "registries" })
	o := l.on(3)
	if got, err := talk(m.Host(), o, l); err == nil && (got.res == nil || got.res.Outcome != bundle.OutcomeRefused) {
		t.Errorf("logins of no key: %+v", got.res)
	}
}

// The name of an image that a refused run pulled means again what it meant.
func TestRefusedRunMovesNoImages(t *testing.T) {
	m, e, l := composeLoad(t)
	wiki := l.Services[len(l.Services)-1].Compose
	wiki.Containers[0].Pull = containers.PullAlways
	l.file(bundle.QuadletDir+"/one.container", "[Container]\nImage=reg.example/one:1\n").of("one")
	e.pulls = map[string]string{"reg.example/one:1": "Error: manifest unknown"}

	twinDeploy(t, m, l.on(1), l, bundle.OutcomeRefused)
	if !slices.Contains(e.calls, "docker pull -q app:1") || e.moved["app:1"] != "sha256:1" {
		t.Errorf("app:1 means %q after a refused run, want sha256:1; calls %q", e.moved["app:1"], e.calls)
	}
}

// A network that compose does not make is missed before anything is touched, unless another project of the host makes it, or a
// unit that comes before may.
func TestExternalNetworkIsNotThere(t *testing.T) {
	const maker, beside = "[Unit]\nBefore=wiki.service\n", "[Unit]\nBefore=other.service\n"
	for _, c := range []struct{ name, lacks, made, unit, dropIn, outcome string }{
		{"not there", "network ext", "", "", "", bundle.OutcomeRefused},
		{"there", "", "", "", "", bundle.OutcomeDone},
		{"made by the run", "network ext", "ext", "", "", bundle.OutcomeDone},
		{"a unit that comes before", "network ext", "", maker, "", bundle.OutcomeDone},
		{"one that comes before by a drop-in", "network ext", "", beside, "[Unit]\nAfter=docker.service net.service\n", bundle.OutcomeDone},
		{"one that does not", "network ext", "", beside, "[Unit]\nAfter=docker.service\n", bundle.OutcomeRefused},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, e, l := composeLoad(t)
			e.lacks = c.lacks
			e.config = "name: wiki\nservices:\n  app:\n    image: app:1\n    external: true\n    name: no\nnetworks:\n  a:\n    name: ext\n    external: true\n  b:\n    name: wiki_b\nvolumes:\n  v:\n    name: other\n"
			wiki := l.Services[len(l.Services)-1].Compose
			wiki.Containers[0].Definition = "another"
			if c.made != "" {
				wiki.Networks = []bundle.ComposeVolume{{Key: "x", Name: c.made}}
			}
			if c.unit != "" {
				l.service("net.service", c.unit+"[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n")
			}
			if c.dropIn != "" {
				i := slices.IndexFunc(l.Units, func(u bundle.Unit) bool { return u.Name == "wiki.service" })
				p := bundle.UnitDir + "/wiki.service.d/10-net.conf"
				l.file(p, c.dropIn).of("wiki")
				l.Units[i].Files = append(l.Units[i].Files, p)
			}

			e.calls = nil
			res := twinDeploy(t, m, l.on(1), l, c.outcome).res
			isTold := strings.Contains(res.Error, "service wiki: the network ext is external: and not on this host; make it there with: docker network create ext; nothing was touched")
			if isTold != (c.outcome == bundle.OutcomeRefused) {
				t.Errorf("the error is %q", res.Error)
			}
			if n := e.asked("docker network inspect") + e.asked("docker volume inspect"); n != 1 && c.made+c.unit == "" {
				t.Errorf("the engine was asked for %d networks and volumes, want the one that is external: %q", n, e.calls)
			}
		})
	}
}

// A changed mounted file costs one call of compose, one look before and one after it, and no question about images:
// no container is another one, so what they run is in the record.
func TestChangedFileAsksTheEngineLittle(t *testing.T) {
	m, e, l := composeLoad(t)
	const conf = "/opt/stacks/wiki/conf"
	l.Services[len(l.Services)-1].Compose.Containers[0].Files = []string{conf}
	l.file(conf, "one").of("wiki")
	twinDeploy(t, m, l.on(1), l, bundle.OutcomeDone)
	ran, err := state.Of(m.Host()).Current()
	if err != nil || len(ran.Images) != 1 {
		t.Fatalf("the record has images %+v, %v", ran.Images, err)
	}

	e.calls = nil
	l.Files = slices.DeleteFunc(l.Files, func(f bundle.File) bool { return f.Path == conf })
	l.file(conf, "two").of("wiki")
	twinDeploy(t, m, l.on(2), l, bundle.OutcomeDone)
	var asked []string
	for _, c := range e.calls {
		f := strings.Fields(c)
		asked = append(asked, f[1])
	}
	if want := []string{"ps", "inspect", "compose", "ps", "inspect"}; !slices.Equal(asked, want) || !strings.Contains(e.calls[2], " restart --no-deps -- app") {
		t.Errorf("the engine was asked %q, want %q", e.calls, want)
	}
	if now, err := state.Of(m.Host()).Current(); err != nil || now.Generation != 3 || !slices.Equal(now.Images, ran.Images) {
		t.Errorf("generation %d has images %+v, %v; want %+v", now.Generation, now.Images, err, ran.Images)
	}
}

// A starting is systemd while it still starts a unit, which it has done after some glances.
type starting struct {
	machine.Systemd
	unit    string
	glances int
	begun   func() // when the unit has started
}

func (s *starting) Glance(ctx context.Context, names []string) (map[string]machine.UnitState, error) {
	all, err := s.Systemd.Glance(ctx, names)
	if s.glances--; s.glances == 0 {
		s.begun()
	}
	return s.of(all), err
}

func (s *starting) Units(ctx context.Context, names []string) (map[string]machine.UnitState, error) {
	all, err := s.Systemd.Units(ctx, names)
	return s.of(all), err
}

func (s *starting) Steady(ctx context.Context, names []string) (map[string]machine.UnitState, error) {
	all, err := s.Systemd.Steady(ctx, names)
	if s.glances > 0 {
		delete(all, s.unit)
	}
	return all, err
}

func (s *starting) of(all map[string]machine.UnitState) map[string]machine.UnitState {
	if u, ok := all[s.unit]; ok && s.glances > 0 {
		u.Active, u.Sub = "activating", "start"
		all[s.unit] = u
	}
	return all
}

// A project that its unit is still bringing up, as after a boot, is listed when that has ended: what the unit does to containers
// would else be taken for what the run wants.
func TestStackThatStartsIsWaitedFor(t *testing.T) {
	m, e, l := composeLoad(t)
	const conf = "/opt/stacks/wiki/conf"
	l.Services[len(l.Services)-1].Compose.Containers[0].Files = []string{conf}
	l.file(conf, "one").of("wiki")
	twinDeploy(t, m, l.on(1), l, bundle.OutcomeDone)

	e.calls = nil
	before := -1
	s := &starting{Systemd: m.Host().Systemd, unit: "wiki.service", glances: 3}
	s.begun = func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		before = len(e.calls)
	}
	m.Host().Systemd = s
	l.Files = slices.DeleteFunc(l.Files, func(f bundle.File) bool { return f.Path == conf })
	l.file(conf, "two").of("wiki")
	twinDeploy(t, m, l.on(2), l, bundle.OutcomeDone)
	if before != 0 || !slices.ContainsFunc(e.calls, func(c string) bool { return strings.Contains(c, " restart --no-deps -- app") }) {
		t.Errorf("%d calls of the engine before the unit had started, of %q", before, e.calls)
	}
}
