//go:build e2e

package e2e

import (
	"strings"
	"testing"
)

const stackOfParts = `services:
  app: { image: "tiny:1", command: [run, /motd], restart: always, env_file: /run/keys/token, configs: [{ source: motd, target: /motd }] }
  built: { build: { context: ./ctx, args: { V: one } }, command: [run], restart: always }
  debug: { image: "tiny:1", command: [run], profiles: [tools] }
configs: { motd: { content: "hello one" } }
`

// What no hash of compose holds reaches its container all the same: what build: says, the files of its
// context, and inline configs. A new service takes a key by env_file, and what a profile switches on is left
// to whoever does that.
func composeBuilds(t *testing.T, w *world) {
	w.sh(w.work, "git rm -rq --ignore-unmatch services/x")
	if out, code := w.tryIn(strings.NewReader("PASS=sesame"), "secret", "set", "token"); code != 0 {
		t.Fatal(out)
	}
	w.write(map[string]string{"services/x/service.yaml": "keys: [token]\nsettle: 1s\n", "services/x/compose.yaml": stackOfParts, "services/x/ctx/Dockerfile": "FROM tiny:1\nARG V\nLABEL v=$V\n"})
	w.deployStack("a new project", "current")
	ids := containers(t)
	if len(ids) != 2 {
		t.Fatalf("containers %q", ids)
	}
	if env := on(t, "host1", "docker inspect -f '{{.Config.Env}}' x-app-1"); !strings.Contains(env, "PASS=sesame") {
		t.Errorf("the environment of app is %s", env)
	}

	onlyNew := func(when string, place int) {
		t.Helper()
		now := containers(t)
		if len(now) != 2 || now[place] == ids[place] || now[1-place] != ids[1-place] {
			t.Errorf("%s: containers %q, before %q", when, now, ids)
		}
		ids = now
	}
	text := strings.Replace(stackOfParts, "V: one", "V: two", 1)
	w.write(map[string]string{"services/x/compose.yaml": text})
	w.deployStack("another argument", "current")
	onlyNew("after another argument of build:", 1)

	w.write(map[string]string{"services/x/ctx/Dockerfile": "FROM tiny:1\nARG V\nLABEL v=$V w=1\n"})
	w.deployStack("another Dockerfile", "current")
	onlyNew("after another Dockerfile", 1)

	on(t, "host1", "docker run -d --name debug --label com.docker.compose.project=x --label com.docker.compose.service=debug --label com.docker.compose.oneoff=False tiny:1 run")
	w.write(map[string]string{"services/x/compose.yaml": strings.Replace(text, "hello one", "hello two", 1)})
	w.deployStack("another inline config", "current")
	if state := on(t, "host1", "docker inspect -f '{{.State.Status}}' debug; docker rm -f debug >/dev/null"); state != "running" {
		t.Errorf("a container of a profile is %s", state)
	}
	onlyNew("after another inline config", 0)
	if s := said(t, "app"); !strings.Contains(s, "hello two") {
		t.Errorf("app says %s", s)
	}
	w.leaves()
}
