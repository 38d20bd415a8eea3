//go:build e2e

package e2e

import (
	"slices"
	"strings"
	"testing"
)

// A project that somebody started by hand becomes a service, and no container of it is made anew. The one that mounts a
// file which is a key from now on is restarted. The next plan has nothing to change.
func composeAdopt(t *testing.T, w *world) {
	w.sh(w.work, "git rm -rq --ignore-unmatch services/x")
	const stack = `services:
  db: { image: "tiny:1", command: [run], restart: always, environment: { PASS: "${PASS}", SMTP_PASSWORD: sesame }, volumes: ["data:/data"] }
  app:
    image: "tiny:1"
    command: [run, /conf, /run/secrets/token]
    restart: always
    env_file: app.env
    environment: { PORT: "${PORT}" }
    depends_on: [db]
    volumes: ["./conf:/conf:ro", "./files-of-app:/files"]
    secrets: [token]
secrets: { token: { file: ./token.txt } }
volumes: { data: {} }
`
	on(t, "host1", "mkdir -p /opt/stacks/x/files-of-app && cd /opt/stacks/x && cat >compose.yaml <<'END'\n"+stack+"END\n"+
		"printf 'PORT=80\\nPASS=\"a $$ b\"\\n' >.env; echo A=1 >app.env; echo one >conf; printf sesame >token.txt; echo page >files-of-app/page; docker compose up -d 2>&1")
	ids := containers(t)
	const dbStarted = "docker inspect -f '{{.State.StartedAt}}' x-db-1"
	started := on(t, "host1", dbStarted)

	config := w.read("bellhop.yaml")
	w.write(map[string]string{"bellhop.yaml": strings.Replace(config, "    services: { x: true }\n", "", 1)})
	out := w.bellhop("adopt", "chrysalis", "--compose", "/opt/stacks/x", "--plain", "PORT")
	w.write(map[string]string{"bellhop.yaml": config})
	if !strings.Contains(out, "no container is made anew") {
		t.Errorf("adopt does not say that the containers are as the files say:\n%s", out)
	}
	if strings.Contains(out, "sesame") || strings.Contains(w.sh(w.work, "cat $(find services -type f)"), "sesame") {
		t.Errorf("a value is shown, or stands in the repo:\n%s", out)
	}
	w.deployStack("adopt x", "current")
	if now := containers(t); len(ids) != 2 || !slices.Equal(now, ids) {
		t.Errorf("containers %q, before %q", now, ids)
	}
	if now := on(t, "host1", dbStarted); now != started {
		t.Errorf("db was started at %q, before %q", now, started)
	}
	if out, code := w.try("plan"); code != 0 {
		t.Errorf("the plan has something to do:\n%s", out)
	}
	if left := on(t, "host1", "cat /opt/stacks/x/files-of-app/page; stat -c %F /opt/stacks/x/token.txt"); left != "page\nsymbolic link" {
		t.Errorf("on the host: %s", left)
	}

	w.write(map[string]string{"services/x/conf": "two\n"})
	w.deployStack("a mounted file", "current")
	if now := containers(t); !slices.Equal(now, ids) || !strings.Contains(said(t, "app"), "two") {
		t.Errorf("containers %q, before %q; app says %s", now, ids, said(t, "app"))
	}
}
