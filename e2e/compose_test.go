//go:build e2e

package e2e

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// dockerHost is oneHost with Docker on Debian 13, and the images tiny:1 and tiny:2 of the stories' app. The
// host reaches no registry.
func dockerHost(t *testing.T) *world {
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

// A push brings a compose project up, changes exactly what differs, goes back when it fails, and survives a
// reboot with its keys; when it leaves, its data stays.
func TestComposeService(t *testing.T) {
	w := dockerHost(t)
	if out, code := w.tryIn(strings.NewReader("sesame"), "secret", "set", "token"); code != 0 {
		t.Fatal(out)
	}
	w.write(map[string]string{"services/x/service.yaml": "keys: [token]\nsettle: 1s\n", "services/x/compose.yaml": stackOfX, "services/x/conf": "one\n"})
	w.deploy("a compose project", "current")
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
	w.deploy("a mounted file", "current")
	same("after a change of a mounted file")
	if s := said(t, "app"); !strings.Contains(s, "two") {
		t.Errorf("app says %s", s)
	}
	if out := w.bellhop("logs", "chrysalis", "x:app"); !strings.Contains(out, "two") {
		t.Errorf("bellhop logs says %s", out)
	}

	w.write(map[string]string{"services/x/compose.yaml": strings.Replace(stackOfX, "tiny:1", "nope.invalid/tiny:1", 1)})
	w.deploy("an image that nobody has", "pending")
	same("with an image that can't be had")

	w.write(map[string]string{"services/x/compose.yaml": strings.Replace(stackOfX, "command: [run, /conf", "command: [crash, /conf", 1)})
	out := w.deploy("a container that crashes", "rolled-back")
	if now := containers(t); len(now) != 3 || now[1] != ids[1] || now[2] != ids[2] || !strings.Contains(out, "x:app") {
		t.Errorf("containers %q, before %q\n%s", now, ids, out)
	}

	w.write(map[string]string{"services/x/compose.yaml": stackOfX})
	w.deploy("good again", "current")
	ids = containers(t)
	rig(t, "reboot", "host1")
	eventually(t, 90*time.Second, "the containers are back with their key", func() bool { return len(containersOrNone()) == 3 })
	same("after a reboot")

	w.sh(w.work, "git rm -rq services/x && mkdir -p services/x")
	w.write(map[string]string{"services/x/files/etc/x": "x\n", "services/x/service.yaml": "settle: 1s\n"})
	if out := w.deploy("it leaves", "current"); !strings.Contains(out, "docker volume rm x_data") {
		t.Errorf("nobody is told of the volume:\n%s", out)
	}
	if left := on(t, "host1", "docker ps -aq; docker volume ls -q"); left != "x_data" {
		t.Errorf("left on the host: %s", left)
	}
}

func containersOrNone() []string {
	out, err := exec.Command("rig/rig", "ssh", "host1", "docker ps -q --filter label=com.docker.compose.project=x").Output()
	if err != nil {
		return nil
	}
	return strings.Fields(string(out))
}
