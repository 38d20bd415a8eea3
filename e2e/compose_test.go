//go:build e2e

package e2e

import (
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// dockerHost is oneHost with Docker on Debian 13, and the images tiny:1 and tiny:2 of the stories' app. The
// host reaches no registry.
func dockerHost(t testing.TB) *world {
	t.Helper()
	t.Setenv("BELLHOP_RIG_SUITE", "trixie")
	w := oneHost(t)
	on(t, "host1", "systemctl -q enable --now docker.socket docker.service")
	for _, v := range []string{"1", "2"} {
		dir := filepath.Join(rigDir(), "host1/root/root", "tiny"+v)
		if out, err := sh("..", "CGO_ENABLED=0 go build -trimpath -ldflags='-s -w -X main.version="+v+"' -o "+dir+"/app ./e2e/app"); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		on(t, "host1", "tar -C /root/tiny"+v+" -c app | docker import -c 'ENTRYPOINT [\"/app\"]' - tiny:"+v)
	}
	return w
}

const stackOfX = `services:
  db: { image: "tiny:1", command: [run], restart: always, volumes: ["data:/data"] }
  app:
    image: "tiny:1"
    command: [run, /conf, /run/secrets/token]
    restart: always
    depends_on: [db]
    volumes: ["./conf:/conf:ro"]
    secrets: [token]
  web: { image: "tiny:1", command: [run], restart: always, depends_on: [app] }
secrets: { token: { file: /run/keys/token } }
volumes: { data: {} }
`

// containers are "NAME ID" of each container of the project x that runs.
func containers(t testing.TB) []string {
	t.Helper()
	return strings.Fields(strings.ReplaceAll(on(t, "host1", `docker ps --no-trunc --filter label=com.docker.compose.project=x --format '{{.Label "com.docker.compose.service"}}={{.ID}}' | sort`), "\n", " "))
}

func said(t testing.TB, name string) string {
	t.Helper()
	return on(t, "host1", "docker logs --tail 2 $(docker ps -aq --filter label=com.docker.compose.service="+name+") 2>&1")
}

// The stories of compose projects share a host, one after the other: most of the time of each was its installation.
func TestCompose(t *testing.T) {
	w := dockerHost(t)
	for _, story := range []struct {
		name string
		tell func(*testing.T, *world)
	}{{"Service", composeService}, {"PulledPlug", composePulledPlug}, {"BuildsAndInlineConfigs", composeBuilds}, {"Adopt", composeAdopt}} {
		if !t.Run(story.name, func(t *testing.T) {
			w.t = t
			story.tell(t, w)
		}) {
			return // the next one would find what this one left
		}
	}
	w.t = t
}

// deployStack is deploy. The host's compose must see what the plan foretold.
func (w *world) deployStack(msg, state string) string {
	w.t.Helper()
	out := w.deploy(msg, state)
	if strings.Contains(out, "foretold") || strings.Contains(out, "foretell") {
		w.t.Errorf("%s: the host disagrees with the plan:\n%s", msg, out)
	}
	return out
}

// leaves has the service x leave, and its volumes.
func (w *world) leaves() string {
	w.t.Helper()
	w.sh(w.work, "git rm -rq services/x && mkdir -p services/x")
	w.write(map[string]string{"services/x/files/etc/x": "x\n", "services/x/service.yaml": "settle: 1s\n"})
	return w.deployStack("it leaves", "current")
}

// A push brings a compose project up, changes exactly what differs, goes back when it fails, and survives a
// reboot with its keys; when it leaves, its data stays.
func composeService(t *testing.T, w *world) {
	if out, code := w.tryIn(strings.NewReader("sesame"), "secret", "set", "token"); code != 0 {
		t.Fatal(out)
	}
	w.write(map[string]string{"services/x/service.yaml": "keys: [token]\nsettle: 1s\n", "services/x/compose.yaml": stackOfX, "services/x/conf": "one\n"})
	w.deployStack("a compose project", "current")
	ids := containers(t)
	if len(ids) != 3 || !strings.Contains(said(t, "app"), "sesame") {
		t.Fatalf("containers %q, app says %s", ids, said(t, "app"))
	}
	same := func(when string) {
		t.Helper()
		if now := containers(t); !slices.Equal(now, ids) {
			t.Errorf("%s: containers %q, before %q", when, now, ids)
		}
	}

	w.write(map[string]string{"services/x/conf": "two\n"})
	w.deployStack("a mounted file", "current")
	same("after a change of a mounted file")
	if s := said(t, "app"); !strings.Contains(s, "two") {
		t.Errorf("app says %s", s)
	}
	if out := w.bellhop("logs", "chrysalis", "x:app"); !strings.Contains(out, "two") {
		t.Errorf("bellhop logs says %s", out)
	}

	w.write(map[string]string{"services/x/compose.yaml": strings.Replace(stackOfX, "tiny:1", "nope.invalid/tiny:1", 1)})
	w.deployStack("an image that nobody has", "pending")
	same("with an image that can't be had")

	w.write(map[string]string{"services/x/compose.yaml": strings.Replace(stackOfX, "command: [run, /conf", "command: [crash, /conf", 1)})
	out := w.deployStack("a container that crashes", "rolled-back")
	if now := containers(t); len(now) != 3 || now[1] != ids[1] || now[2] != ids[2] || !strings.Contains(out, "x:app") {
		t.Errorf("containers %q, before %q\n%s", now, ids, out)
	}

	waits := strings.Replace(stackOfX, "depends_on: [app] }", "depends_on: { app: { condition: service_completed_successfully } } }", 1)
	w.write(map[string]string{"services/x/compose.yaml": strings.Replace(strings.Replace(waits, "command: [run, /conf", "command: [crash, /conf", 1), "restart: always\n    depends_on", "depends_on", 1)})
	w.deployStack("a container that another waits for crashes", "rolled-back")
	if out := w.bellhop("history", "-n", "1", "--evidence"); !strings.Contains(out, "x:app of x: exited, exit 3") || !strings.Contains(out, "this app always crashes") {
		t.Errorf("nobody is told why the other ended:\n%s", out)
	}

	w.write(map[string]string{"services/x/compose.yaml": stackOfX})
	w.deployStack("good again", "current")
	ids = containers(t)
	rig(t, "reboot", "host1")
	eventually(t, 90*time.Second, "the containers are back with their key", func() bool { return len(containersOrNone()) == 3 })
	same("after a reboot")

	if out := w.leaves(); !strings.Contains(out, "docker volume rm x_data") {
		t.Errorf("nobody is told of the volume:\n%s", out)
	}
	if left := on(t, "host1", "docker ps -aq; docker volume ls -q"); left != "x_data" {
		t.Errorf("left on the host: %s", left)
	}
	on(t, "host1", "docker volume rm x_data")
}

// The plug is pulled while an image comes, and while containers are changed: what ran before runs again.
func composePulledPlug(t *testing.T, w *world) {
	const stack = "services:\n  db: { image: \"tiny:1\", command: [run], restart: always }\n  app: { image: \"tiny:1\", command: [run], restart: always, depends_on: [db] }\n"
	good := map[string]string{"services/x/service.yaml": "settle: 1s\n", "services/x/compose.yaml": stack}
	w.write(good)
	w.deployStack("a project", "current")
	ids := containers(t)

	deploys := func(msg string) (ended chan struct{}) {
		w.commit(msg)
		ended = make(chan struct{})
		go func() { defer close(ended); w.try("deploy", "--retry") }()
		return ended
	}
	plug := func(ended chan struct{}) {
		rig(t, "plug", "host1")
		rig(t, "power", "host1")
		rig(t, "wait", "host1")
		<-ended
	}

	registry, asked := deafRegistry(t)
	w.write(map[string]string{"services/x/compose.yaml": strings.Replace(stack, "tiny:1", registry+"/tiny:three", 1)})
	ended := deploys("an image that never comes")
	<-asked
	plug(ended)
	eventually(t, 2*time.Minute, "what ran before runs again, and no run is open", func() bool {
		_, err := tryOn("host1", "test ! -e /var/lib/bellhop/journal && ! grep -q three /opt/stacks/x/compose.yaml")
		return err == nil && len(containersOrNone()) == 2
	})
	if now := containers(t); !slices.Equal(now, ids) {
		t.Errorf("after the plug in mid-pull: containers %q, before %q", now, ids)
	}

	w.write(map[string]string{"services/x/service.yaml": "settle: 20s\n", "services/x/compose.yaml": strings.Replace(stack, "command: [run], restart: always, depends_on", "command: [run, /three], restart: always, depends_on", 1)})
	ended = deploys("a definition")
	const argsOfApp = "docker inspect -f '{{.Args}}' $(docker ps -q --filter label=com.docker.compose.service=app)"
	eventually(t, 2*time.Minute, "app is made anew", func() bool {
		out, _ := tryOn("host1", argsOfApp)
		return strings.Contains(out, "/three")
	})
	plug(ended)
	eventually(t, 3*time.Minute, "the deployer brings again what was cut off", func() bool { return w.status().state("chrysalis") == "current" })
	if !strings.Contains(w.log.String(), "the run was cut off") {
		t.Error("no run was cut off: this shows nothing")
	}
	if now := containers(t); len(now) != 2 || now[1] != ids[1] || now[0] == ids[0] || !strings.Contains(on(t, "host1", argsOfApp), "/three") {
		t.Errorf("after the plug in mid-up: containers %q, before %q; app runs with %s", now, ids, on(t, "host1", argsOfApp))
	}
	w.leaves()
}

// deafRegistry takes connections and never answers. asked is closed at the first.
func deafRegistry(t *testing.T) (addr string, asked chan struct{}) {
	t.Helper()
	l, err := net.Listen("tcp", machineSide(t)+":5000")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	asked = make(chan struct{})
	first := sync.OnceFunc(func() { close(asked) })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { conn.Close() })
			first()
		}
	}()
	return l.Addr().String(), asked
}

// machineSide is the address of this machine that hosts of the rig see.
func machineSide(t *testing.T) string {
	t.Helper()
	host := addr("host1")
	return host[:strings.LastIndexByte(host, '.')] + ".1"
}

func containersOrNone() []string {
	out, err := exec.Command("rig/rig", "ssh", "host1", "docker ps -q --filter label=com.docker.compose.project=x").Output()
	if err != nil {
		return nil
	}
	return strings.Fields(string(out))
}
