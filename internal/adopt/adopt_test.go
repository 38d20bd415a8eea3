package adopt_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bellhop/internal/adopt"
	"bellhop/internal/fleet"
)

// A stackHost is a host of the tests: a folder, and a docker that knows labels alone.
type stackHost struct {
	dir  string // of the project
	path string
}

// newStackHost has a project of those files, and what docker ps says of its containers.
func newStackHost(t *testing.T, files map[string]string, labels ...string) *stackHost {
	t.Helper()
	root := t.TempDir()
	h := &stackHost{dir: root + "/stacks/wiki", path: root + "/bin"}
	for name, text := range files {
		p := filepath.Join(h.dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(strings.ReplaceAll(text, "DIR", h.dir)), 0o644); err != nil {
			t.Fatal(err)
		}
	}

	said := strings.ReplaceAll(strings.Join(labels, "\n"), "DIR", h.dir)
	script := fmt.Sprintf("#!/bin/sh\ncase \"$*\" in\n*working_dir=%s\\ *) cat <<'END'\n%s\nEND\n;;\n*--hash*) cat \"%[3]s/hashes\" ;;\nps*oneoff*) cat \"%[3]s/ran\" ;;\nesac 2>/dev/null\ntrue\n", h.dir, said, root)
	if err := os.MkdirAll(h.path, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(h.path+"/docker", []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *stackHost) host() *adopt.Host {
	return &adopt.Host{Name: "chrysalis", Run: func(ctx context.Context, line string) (string, error) {
		cmd := exec.CommandContext(ctx, "/bin/sh", "-c", "echo 'Welcome to Debian'; "+line)
		cmd.Env = []string{"PATH=" + h.path + ":" + os.Getenv("PATH")}
		out, err := cmd.Output()
		return string(out), err
	}}
}

// adoptInto adopts the project into a repo, and gives the repo and the sealed values.
func adoptInto(t *testing.T, h *stackHost, secret ...string) (dir string, sealed map[string]string) {
	t.Helper()
	var asked []string
	o := adopt.Options{Dir: h.dir + "/", IsSecret: func(v string, _ bool) (bool, error) {
		asked = append(asked, v)
		return slices.Contains(secret, v), nil
	}}
	s, err := adopt.Read(t.Context(), h.host(), o)
	if err != nil {
		t.Fatal(err)
	}
	if len(slices.Compact(slices.Sorted(slices.Values(asked)))) != len(asked) {
		t.Errorf("asked of %q", asked)
	}

	dir, sealed = t.TempDir(), map[string]string{}
	err = s.Write(dir, func(name string, value []byte) error {
		sealed[name] = string(value)
		if err := os.MkdirAll(dir+"/secrets", 0o755); err != nil {
			return err
		}
		return os.WriteFile(dir+"/secrets/"+name+".age", []byte("age-encryption.org/v1\nsealed"), 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir, sealed
}

// loaded is the fleet of the repo, with a host that has the service.
func loaded(t *testing.T, dir string) *fleet.Fleet {
	t.Helper()
	key := "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKq0xoQZL6pFM8qYcF1CTYvWb8hQ3a1Qpi6oK4pjcCLe"
	text := "network: n\nhosts:\n  chrysalis: { address: 10.0.0.1, host_key: " + key + ", services: { wiki: true } }\n"
	if err := os.WriteFile(dir+"/bellhop.yaml", []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := (&fleet.Loader{}).Load(t.Context(), os.DirFS(dir))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// filesOf are the files of a folder, with what they hold.
func filesOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(p)
		name, _ := filepath.Rel(dir, p)
		all[name] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

const wiki = `services:
  app:
    image: wiki:1
    env_file: app.env
    environment: { PASS: "${DB_PASSWORD}", PORT: "${PORT}" }
    volumes: ["./app.conf:/etc/app.conf:ro", "./data:/data"]
    secrets: [token]
  db: { image: "db:1", environment: { PASS: "${DB_PASSWORD}" } }
secrets: { token: { file: ./token.txt } }
`

// A project comes with the files that it names, less data; what is secret is sealed and stands nowhere else.
func TestAdopt(t *testing.T) {
	h := newStackHost(t, map[string]string{
		"compose.yaml": wiki, "app.env": "A=1\n", "app.conf": "listen\n", "token.txt": "token of the app", ".env": "PORT=80\nBASE=sesame\nDB_PASSWORD=\"${BASE} $$ 'open'\"\n",
		"data/wiki.db": "pages", "notes.txt": "not named",
	}, "wiki|DIR/compose.yaml|", "wiki|DIR/compose.yaml|")
	dir, sealed := adoptInto(t, h, "DB_PASSWORD", "BASE")

	files := filesOf(t, dir+"/services/wiki")
	want := map[string]string{
		"compose.yaml": wiki, "app.env": "A=1\n", "app.conf": "listen\n", "token.txt.tmpl": `{{ key "wiki-token.txt" }}`, "values.env": "PORT=\"80\"\n",
		"service.yaml": "compose: { dir: " + h.dir + ", env: [secrets/wiki.env.age, values.env] }\n",
	}
	for name, text := range files {
		if want[name] != text {
			t.Errorf("%s holds\n%s\nwant\n%s", name, text, want[name])
		}
	}
	if len(files) != len(want) {
		t.Errorf("%d files, want %d", len(files), len(want))
	}
	if sealed["wiki-token.txt"] != "token of the app" || sealed["wiki.env"] != "BASE=\"sesame\"\nDB_PASSWORD=\"sesame \\$ 'open'\"\n" || len(sealed) != 2 {
		t.Errorf("sealed %q", sealed)
	}

	b, err := loaded(t, dir).Bundle("chrysalis")
	if err != nil {
		t.Fatal(err)
	}
	p := b.ServiceOf("wiki").Compose
	if p == nil || p.Dir != h.dir || p.Project != "wiki" || len(p.Containers) != 2 {
		t.Errorf("the project is %+v", p)
	}
}

// An env file that containers read as well is sealed whole, and they read the key in its place.
func TestAdoptEnvFileOfContainers(t *testing.T) {
	for _, line := range []string{"env_file: .env", "env_file: [ .env ]", "env_file:\n      - ./.env", "env_file:\n      - path: '.env'  # all of it"} {
		text := "services:\n  app:\n    image: \"wiki:${TAG}\"\n    " + line + "\n"
		h := newStackHost(t, map[string]string{"docker-compose.yml": text, ".env": "TAG=1\nPASS=sesame\n"}, "wiki|DIR/docker-compose.yml|")
		dir, sealed := adoptInto(t, h, "PASS")

		files := filesOf(t, dir+"/services/wiki")
		if !strings.Contains(files["docker-compose.yml"], "/run/keys/wiki-env") || len(files) != 2 || sealed["wiki.env"] != "TAG=1\nPASS=sesame\n" {
			t.Errorf("%s: files %q, sealed %q", line, files, sealed)
		}
		b, err := loaded(t, dir).Bundle("chrysalis")
		if err != nil {
			t.Fatal(err)
		}
		if c := b.ServiceOf("wiki").Compose.Containers[0]; !slices.Equal(c.EnvKeys, []string{"wiki-env"}) {
			t.Errorf("%s: the container takes keys %q", line, c.EnvKeys)
		}
	}
}

func TestAdoptPlainEnv(t *testing.T) {
	h := newStackHost(t, map[string]string{"stack.yaml": "services: { app: { image: \"wiki:${TAG}\" } }\n", "stack.env": "TAG=1 # the first\n"}, "wiki-2|DIR/stack.yaml|DIR/stack.env")
	dir, sealed := adoptInto(t, h)
	files := filesOf(t, dir+"/services/wiki-2")
	if want := "compose: { dir: " + h.dir + ", files: [stack.yaml], env: [stack.env] }\n"; files["service.yaml"] != want || files["stack.env"] != "TAG=1 # the first\n" || len(sealed) > 0 {
		t.Errorf("files %q, sealed %q", files, sealed)
	}
}

// What can't be adopted is told, and no value is quoted.
func TestAdoptTrouble(t *testing.T) {
	const simple = "services: { app: { image: \"wiki:1\" } }\n"
	for _, c := range []struct {
		files  map[string]string
		labels []string
		want   string
	}{
		{map[string]string{"compose.yaml": simple}, nil, "no container on chrysalis was started by docker compose from "},
		{map[string]string{"compose.yaml": simple}, []string{"a|DIR/compose.yaml|", "b|DIR/compose.yaml|"}, "containers of several projects"},
		{map[string]string{"compose.yaml": simple}, []string{"wiki|/data/compose/3/compose.yaml|"}, "name that with --from"},
		{map[string]string{"compose.yaml": simple, ".env": "A='sesame\n"}, []string{"wiki|DIR/compose.yaml|"}, ".env"},
		{map[string]string{"compose.yaml": "services: { app: { image: \"wiki:1\", env_file: { sesame: 1 } } }\n"}, []string{"wiki|DIR/compose.yaml|"}, "compose.yaml"},
		{map[string]string{"compose.yaml": "services: { app: { image: \"wiki:1\", env_file: &e [.env] } }\n", ".env": "PASS=sesame\n"}, []string{"wiki|DIR/compose.yaml|"}, "app reads .env by env_file:, and some of it is secret"},
	} {
		h := newStackHost(t, c.files, c.labels...)
		_, err := adopt.Read(t.Context(), h.host(), adopt.Options{Dir: h.dir, IsSecret: func(string, bool) (bool, error) { return true, nil }})
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "sesame\n") {
			t.Errorf("%q: %v, want %s", c.labels, err, c.want)
		}
	}
}

// Nothing of a service or a secret that is there is written over.
func TestWriteKeepsWhatIsThere(t *testing.T) {
	s := &adopt.Stack{Service: "wiki", Files: map[string]adopt.File{"compose.yaml": {Data: []byte("x"), Mode: 0o644}}, Secrets: map[string][]byte{"wiki.env": []byte("y")}}
	for _, there := range []string{"services/wiki/README.md", "secrets/wiki.env.age"} {
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, there)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, there), []byte("old"), 0o644); err != nil {
			t.Fatal(err)
		}
		err := s.Write(dir, func(string, []byte) error { t.Error("a value was sealed"); return nil })
		if err == nil || !strings.Contains(err.Error(), "already") || len(filesOf(t, dir)) != 1 {
			t.Errorf("with %s: %v, %q", there, err, filesOf(t, dir))
		}
	}
}

// A person is asked by name alone, and what the name says is the answer of an empty line.
func TestAsk(t *testing.T) {
	var out strings.Builder
	ask := adopt.Ask(strings.NewReader("\n\nwhat\nN\ny\n"), &out, []string{"TAG"})
	var got []bool
	for _, v := range []string{"DB_PASSWORD", "PORT", "TAG", "API_KEY", "NAME"} {
		is, err := ask(v, v != "PORT" && v != "NAME")
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, is)
	}
	if want := []bool{true, false, false, false, true}; !slices.Equal(got, want) || strings.Contains(out.String(), "TAG") {
		t.Errorf("answers %v, want %v; asked %s", got, want, out.String())
	}

	alone := adopt.Ask(nil, &out, []string{"TAG"})
	a, _ := alone("PORT", false)
	b, _ := alone("TAG", true)
	if !a || b {
		t.Errorf("without a person PORT is %v and TAG %v", a, b)
	}
}

// The host's own compose says which containers run something else than the files have by now.
func TestAdoptCompares(t *testing.T) {
	const three = "services: { app: { image: \"wiki:1\" }, db: { image: \"db:1\" }, side: { image: \"s:1\", network_mode: \"service:app\" } }\n"
	for _, c := range []struct {
		hashes, ran string
		compared    bool
		differ      []string
		says        string
	}{
		{"app 1\ndb 2\nside 3\n", "app 1\ndb 2\nside other\n", true, nil, "no container is made anew"},
		{"app 1\ndb 2\nside 3\n", "old 7\napp 1\ndb other\n", true, []string{"db", "old"}, "makes these containers anew, or removes them: they were started by another definition than the files on chrysalis have now: db, old"},
		{"", "app 1\n", false, nil, "look at it"},
	} {
		h := newStackHost(t, map[string]string{"compose.yaml": three}, "wiki|DIR/compose.yaml|")
		for name, text := range map[string]string{"hashes": c.hashes, "ran": c.ran} {
			if err := os.WriteFile(filepath.Join(h.path, "..", name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		s, err := adopt.Read(t.Context(), h.host(), adopt.Options{Dir: h.dir})
		if err != nil {
			t.Fatal(err)
		}
		if s.Compared != c.compared || !slices.Equal(s.Differ, c.differ) || !strings.Contains(s.Text("chrysalis"), c.says) {
			t.Errorf("%q, %q: compared %v, differ %q, says %s", c.hashes, c.ran, s.Compared, s.Differ, s.Text("chrysalis"))
		}
	}
}
