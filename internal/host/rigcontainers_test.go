package host_test

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"bellhop/internal/bundle"
	"bellhop/internal/lab"
)

// What only real engines show. A stack here is what the deployer would make of a folder with a compose.yaml.

// A rigStack is a compose service of the stories: db, app that needs it and mounts a file, web that needs
// app, and two more.
type rigStack struct {
	ref      string // image of db
	appImage string
	conf     string // that app mounts
	args     string // of app, beside "run, /conf"
	more     string // lines below services:
	extra    []bundle.Container
}

func (s rigStack) load() *load {
	l := newLoad()
	add := func(path, text string) {
		l.file(path, text)
		l.Files[len(l.Files)-1].Service = "wiki"
	}
	app := s.appImage
	if app == "" {
		app = s.ref
	}
	text := fmt.Sprintf(`services:
  db: { image: %[1]q, command: [run], restart: always, volumes: ["data:/data"] }
  app: { image: %[2]q, command: [run, /conf%[3]s], restart: always, depends_on: [db], volumes: ["./conf:/conf:ro"] }
  web: { image: %[1]q, command: [run], restart: always, depends_on: [app] }
  one: { image: %[1]q, command: [run], restart: unless-stopped }
  job: { image: %[1]q, command: [once], restart: "no" }
%[4]svolumes: { data: {} }
`, s.ref, app, s.args, s.more)
	add("/opt/stacks/wiki/compose.yaml", text)
	add("/opt/stacks/wiki/conf", s.conf)

	c := &bundle.ComposeProject{Project: "wiki", Dir: "/opt/stacks/wiki", Files: []string{"/opt/stacks/wiki/compose.yaml"}}
	define := func(parts ...string) string { return bundle.DigestBytes([]byte(strings.Join(parts, " "))) }
	c.Containers = []bundle.Container{
		{Name: "app", Image: app, Definition: define(app, s.args), Files: []string{"/opt/stacks/wiki/conf"}},
		{Name: "db", Image: s.ref, Definition: define(s.ref), Volumes: []string{"data:/data"}},
		{Name: "job", Image: s.ref, Definition: define(s.ref), Once: true},
		{Name: "one", Image: s.ref, Definition: define(s.ref)},
		{Name: "web", Image: s.ref, Definition: define(s.ref)},
	}
	c.Containers = append(c.Containers, s.extra...)
	slices.SortFunc(c.Containers, func(a, b bundle.Container) int { return strings.Compare(a.Name, b.Name) })
	settle := int64(1500)
	l.Services = append(l.Services, bundle.Service{Name: "wiki", Settle: &settle, Compose: c})

	unit := bundle.UnitDir + "/wiki.service"
	compose := "/usr/bin/docker compose --project-name wiki --project-directory /opt/stacks/wiki --env-file /dev/null -f /opt/stacks/wiki/compose.yaml"
	add(unit, `[Unit]
Requires=docker.service
After=docker.service
RequiresMountsFor=/opt/stacks/wiki
[Service]
Type=oneshot
RemainAfterExit=yes
WorkingDirectory=/opt/stacks/wiki
Environment=COMPOSE_PROGRESS=plain COMPOSE_ANSI=never HOME=/root
ExecStart=`+compose+` up -d --no-build --pull never --remove-orphans
ExecReload=`+compose+` up -d --no-build --pull never --remove-orphans
ExecStop=/bin/sh -c '[ "$(systemctl show -P SubState docker.service)" != running ] || exec `+compose+` stop'
TimeoutStartSec=5min
TimeoutStopSec=2min
[Install]
WantedBy=multi-user.target
`)
	l.Units = append(l.Units, bundle.Unit{Name: "wiki.service", Service: "wiki", Enable: true, Start: true, OnChange: bundle.None, Files: []string{unit}})
	return l
}

// newDockerRig is a rig whose host has Docker, and a registry that it reaches, which lets users in alone.
func newDockerRig(t *testing.T, users ...string) (*rig, *registry) {
	r := newRig(t)
	if _, err := r.try("command -v docker"); err != nil {
		t.Skip("this host has no docker")
	}
	r.sh("systemctl -q enable docker.socket docker.service; systemctl start docker; rm -rf /opt/stacks")
	t.Cleanup(func() {
		r.try("docker ps -aq | xargs -r docker rm -f; docker volume ls -q | xargs -r docker volume rm; docker system prune -af; systemctl disable -q docker.socket docker.service; systemctl stop docker.socket docker.service; rm -rf /opt/stacks")
	})
	ip, _, _ := strings.Cut(r.sh("echo $SSH_CONNECTION"), " ")
	return r, newRegistry(t, ip, users...)
}

// ids are the containers of the stack, "NAME ID STATE" by line.
func (r *rig) ids() map[string]string {
	r.t.Helper()
	all := map[string]string{}
	for line := range strings.Lines(r.sh(`docker ps -a --no-trunc --filter label=com.docker.compose.project=wiki --format '{{.Label "com.docker.compose.service"}} {{.ID}} {{.State}}'`)) {
		name, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		all[name] = rest
	}
	return all
}

// differ are the names whose container is another one.
func differ(a, b map[string]string) (names []string) {
	for n := range a {
		if a[n] != b[n] {
			names = append(names, n)
		}
	}
	for n := range b {
		if _, ok := a[n]; !ok {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	return names
}

func (r *rig) started(name string) string {
	r.t.Helper()
	return r.sh(`docker inspect -f '{{.State.StartedAt}}' $(docker ps -aq --filter label=com.docker.compose.service=` + name + `)`)
}

func (r *rig) said(name string) string {
	r.t.Helper()
	return r.sh(`docker logs --tail 1 $(docker ps -aq --filter label=com.docker.compose.service=` + name + `) 2>&1`)
}

func TestRigStack(t *testing.T) {
	r, reg := newDockerRig(t)
	ref := reg.push("tiny", "1", "1")
	s := rigStack{ref: ref, conf: "one"}

	got := r.deploy(s.load(), bundle.OutcomeDone)
	ids := r.ids()
	if len(ids) != 5 || !slices.Contains(got.events, "pulled") {
		t.Fatalf("containers %v, events %q", ids, got.events)
	}
	r.want("systemctl is-active wiki", "active")
	r.deploy(s.load(), bundle.OutcomeNothing)

	t.Run("a changed mounted file restarts exactly its container", func(t *testing.T) {
		r.t = t
		asked, before, others := reg.asked(), r.started("app"), r.started("db")
		s.conf = "two"
		r.deploy(s.load(), bundle.OutcomeDone)
		if d := differ(ids, r.ids()); len(d) > 0 || reg.asked() != asked {
			t.Errorf("other containers: %v; %d pulls", d, reg.asked()-asked)
		}
		if r.started("app") == before || r.started("db") != others || !strings.Contains(r.said("app"), `"two"`) {
			t.Errorf("app started %s, before %s; db %s, before %s; app says %s", r.started("app"), before, r.started("db"), others, r.said("app"))
		}
	})

	t.Run("a changed definition makes exactly its container anew", func(t *testing.T) {
		r.t = t
		s.args = ", /more"
		r.deploy(s.load(), bundle.OutcomeDone)
		now := r.ids()
		if d := differ(ids, now); !slices.Equal(d, []string{"app"}) {
			t.Errorf("other containers: %v, want app", d)
		}
		ids = now
		r.want("systemctl reload wiki && echo done", "done")
		if d := differ(ids, r.ids()); len(d) > 0 {
			t.Errorf("compose would have changed %v", d)
		}
	})

	t.Run("a new one comes and one leaves", func(t *testing.T) {
		r.t = t
		s.more = fmt.Sprintf("  side: { image: %q, command: [run], network_mode: \"service:app\", restart: always }\n", ref)
		s.extra = []bundle.Container{{Name: "side", Image: ref, Definition: "side", NetworkOf: "app"}}
		r.deploy(s.load(), bundle.OutcomeDone)
		now := r.ids()
		if d := differ(ids, now); !slices.Equal(d, []string{"side"}) {
			t.Errorf("other containers: %v, want side", d)
		}
		s.args = ""
		r.deploy(s.load(), bundle.OutcomeDone)
		if d := differ(now, r.ids()); !slices.Equal(d, []string{"app", "side"}) {
			t.Errorf("other containers: %v, want app and side, which is in its namespace", d)
		}
		s.more, s.extra = "", nil
		now = r.ids()
		r.deploy(s.load(), bundle.OutcomeDone)
		if d := differ(now, r.ids()); !slices.Equal(d, []string{"side"}) {
			t.Errorf("other containers: %v, want side gone", d)
		}
		ids = r.ids()
	})

	t.Run("one that was stopped by hand stays so", func(t *testing.T) {
		r.t = t
		r.sh("docker compose -p wiki stop one")
		ids = r.ids()
		s.conf = "three"
		got := r.deploy(s.load(), bundle.OutcomeDone)
		if d := differ(ids, r.ids()); len(d) > 0 || !slices.Contains(got.res.Drifted, "wiki:one") {
			t.Errorf("other containers: %v; drifted %q", d, got.res.Drifted)
		}
		r.sh("docker compose -p wiki start one")
		ids = r.ids()
	})

	t.Run("leaving keeps the volume", func(t *testing.T) {
		r.t = t
		got := r.deploy(newLoad().file("/etc/rigother", "x"), bundle.OutcomeDone)
		if ids := r.ids(); len(ids) > 0 {
			t.Errorf("containers that stay: %v", ids)
		}
		r.want("docker volume ls -q; docker network ls -q --filter name=wiki; ls /opt/stacks 2>/dev/null", "wiki_data")
		if !slices.ContainsFunc(got.res.Kept, func(k string) bool { return strings.Contains(k, "docker volume rm wiki_data") }) {
			t.Errorf("kept %q, warnings %q", got.res.Kept, got.res.Warnings)
		}
	})
}

// An engine that mounts a key which is not there makes a folder in its place.
func TestTwinReplacesAFolderInAKeysPlace(t *testing.T) {
	m := lab.NewMachine(t.TempDir())
	l := rigBot("one", "first")
	twinDeploy(t, m, l.offer(), l, bundle.OutcomeDone)
	place := m.Host().Root + "/run/keys/rigtoken"
	if err := errors.Join(os.Remove(place), os.Mkdir(place, 0o755)); err != nil {
		t.Fatal(err)
	}

	l = rigBot("one", "first")
	twinDeploy(t, m, keysOffer(l), l, bundle.OutcomeNothing)
	if text, err := os.ReadFile(place); err != nil || string(text) != "TOKEN=first\n" {
		t.Errorf("the key is %q, %v", text, err)
	}

	if err := errors.Join(os.Remove(place), os.MkdirAll(place+"/of-somebody", 0o755)); err != nil {
		t.Fatal(err)
	}
	l = rigBot("one", "first")
	got, err := talk(m.Host(), keysOffer(l), l)
	if _, lost := os.Stat(place + "/of-somebody"); err != nil || lost != nil || !strings.Contains(got.res.Error, "rigtoken") {
		t.Errorf("a folder that holds something: %+v, %v, %v", got.res, err, lost)
	}
}

func TestRigStackFails(t *testing.T) {
	r, reg := newDockerRig(t)
	ref := reg.push("tiny", "1", "1")
	good := rigStack{ref: ref, conf: "one"}
	r.deploy(good.load(), bundle.OutcomeDone)
	ids := r.ids()

	for _, c := range []struct {
		status  int
		tag     string
		refused string
		says    string
	}{
		{0, "nope", bundle.RefusedBundle, "has no such image"},
		{401, "2", bundle.RefusedBundle, "its registry refuses"},
		{403, "2", bundle.RefusedBundle, "shows it to nobody who is not logged in"},
		{404, "2", bundle.RefusedBundle, "has no such image"},
		{429, "3", bundle.RefusedRegistry, "pull no more for now"},
		{500, "4", bundle.RefusedRegistry, "its registry failed"},
	} {
		reg.fails(c.status)
		bad := good
		bad.appImage = strings.TrimSuffix(ref, "1") + c.tag
		got := r.deploy(bad.load(), bundle.OutcomeRefused)
		if got.res.Refused != c.refused || !strings.Contains(got.res.Error, c.says) || !slices.Equal(got.res.Failing, []string{"wiki"}) {
			t.Errorf("with %d: %s, failing %q: %s", c.status, got.res.Refused, got.res.Failing, got.res.Error)
		}
		if d := differ(ids, r.ids()); len(d) > 0 {
			t.Errorf("with %d: containers %v were touched", c.status, d)
		}
	}
	reg.fails(0)

	// There is no room for what is pulled: Docker puts layers here first.
	r.sh("mount -t tmpfs -o size=64k tmpfs /var/lib/docker/tmp")
	t.Cleanup(func() { r.try("umount -q /var/lib/docker/tmp") })
	full := good
	full.appImage = reg.push("tiny", "5", "5")
	noRoom := r.deploy(full.load(), bundle.OutcomeRefused)
	r.sh("umount /var/lib/docker/tmp")
	if d := differ(ids, r.ids()); len(d) > 0 || noRoom.res.Refused != bundle.RefusedBundle || !strings.Contains(noRoom.res.Error, "the host has no room for it") {
		t.Errorf("a full disk: %s, %s; containers %v were touched", noRoom.res.Refused, noRoom.res.Error, d)
	}

	// A registry that takes its time holds up nothing that runs, and the run goes on when it delivers.
	held, release := reg.hangs()
	defer release()
	end := make(chan told, 1)
	go func() {
		l := full.load()
		o := l.offer()
		o.Run = "rig-slow"
		got, _ := r.session(o, l)
		end <- got
	}()
	select {
	case <-held:
	case got := <-end:
		t.Fatalf("the run ended before its image was asked for: %+v", got.res)
	}
	if d := differ(ids, r.ids()); len(d) > 0 {
		t.Errorf("while an image comes: containers %v were touched", d)
	}
	release()
	if got := <-end; got.res == nil || got.res.Outcome != bundle.OutcomeDone {
		t.Fatalf("a slow registry: %+v", got.res)
	}
	good = full
	if d := differ(ids, r.ids()); !slices.Equal(d, []string{"app"}) {
		t.Errorf("other containers than app: %v", d)
	}
	ids = r.ids()

	// A definition that the host's compose can't read.
	bad := good
	bad.more = "  broken: { image: x, command: [run], nonsense: true }\n"
	got := r.deploy(bad.load(), bundle.OutcomeRefused)
	if !strings.Contains(got.res.Error, "nonsense") {
		t.Errorf("a file that compose refuses: %s", got.res.Error)
	}

	// The new version does not stay up: back to the file and the image of before.
	bad = good
	bad.conf, bad.appImage = "two", reg.push("tiny", "crash", "2")
	bad.args = "], entrypoint: [/app, crash], x-rest: [x"
	got = r.deploy(bad.load(), bundle.OutcomeRolledBack)
	now := r.ids()
	if d := differ(ids, now); !slices.Equal(d, []string{"app"}) || !strings.HasSuffix(now["app"], "running") {
		t.Errorf("other containers than app: %v, now %v", d, now)
	}
	if said := r.said("app"); !strings.Contains(said, `"one"`) {
		t.Errorf("app says %s", said)
	}
	lines := ""
	for _, e := range got.res.Evidence {
		lines += e.Unit + ": " + strings.Join(e.Lines, "\n")
	}
	if !slices.Equal(got.res.Failing, []string{"wiki"}) || !strings.Contains(lines, "wiki:app: ") || !strings.Contains(lines, "this app always crashes") {
		t.Errorf("failing %q, evidence %q, error %s", got.res.Failing, lines, got.res.Error)
	}

	// What came with a run that goes back leaves nothing.
	r.deploy(newLoad().file("/etc/rigother", "x"), bundle.OutcomeDone)
	got = r.deploy(bad.load(), bundle.OutcomeRolledBack)
	if left := r.ids(); len(left) > 0 {
		t.Errorf("containers %v of a run that was undone: %s", left, got.res.Error)
	}
}
