package compose_test

import (
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet/compose"
)

// source is a service wiki of these files; main is its compose.yaml.
func source(main string, files ...string) compose.Source {
	all := map[string]string{"compose.yaml": main}
	for i := 0; i < len(files); i += 2 {
		all[files[i]] = files[i+1]
	}

	src := compose.Source{Folder: "services/wiki", Service: "wiki", Project: "wiki", Dir: "/opt/stacks/wiki", Files: []string{"compose.yaml"}}
	for name := range all {
		src.Names = append(src.Names, name)
	}
	slices.Sort(src.Names)
	src.Read = func(name string) ([]byte, error) {
		text, ok := all[name]
		if !ok {
			return nil, fs.ErrNotExist
		}
		return []byte(text), nil
	}
	src.Sum = func(name string) string { return bundle.DigestBytes([]byte(all[name])) }
	return src
}

func read(t *testing.T, src compose.Source) compose.Result {
	t.Helper()
	r := compose.Read(src)
	if len(r.Project.Containers) == 0 {
		t.Fatalf("Read found problems:\n%v", r.Problems)
	}
	return r
}

const stack = `services:
  app:
    image: registry.lan/app:1
    restart: unless-stopped
    env_file: app.env
    volumes:
      - ./app.conf:/etc/app.conf:ro
      - ./html:/srv/html
      - data:/data
      - /run/keys/token:/token
    depends_on:
      db: { condition: service_healthy, restart: true }
    configs: [motd]
  db:
    image: registry.lan/db@sha256:4355a46b19d348dc2f57c046f8ef63d4538ebb936000f3c9ee954a27460dd865
    healthcheck: { test: "exit 0" }
    secrets: [pass]
    volumes: [dbdata:/var/lib/db, ./data:/extra]
  migrate:
    image: registry.lan/app:1
    network_mode: service:app
configs:
  motd: { file: motd.txt }
secrets:
  pass: { file: /run/keys/dbpass }
volumes:
  data:
  dbdata: { name: wiki-db, driver_opts: { type: nfs } }
`

// A project is resolved to its containers, with what reaches each of them.
func TestRead(t *testing.T) {
	src := source(stack, "app.env", "A=1\n", "app.conf", "x", "html/a.html", "a", "html/b.html", "b", "motd.txt", "hello", "notes.txt", "n")
	src.Keys = []string{"token", "dbpass", "other"}
	r := read(t, src)

	got := r.Project
	for i := range got.Containers {
		if got.Containers[i].Definition == "" {
			t.Errorf("container %s has no definition", got.Containers[i].Name)
		}
		got.Containers[i].Definition = ""
	}
	for i := range got.Volumes {
		got.Volumes[i].Definition = ""
	}
	for i := range got.Networks {
		got.Networks[i].Definition = ""
	}

	want := bundle.ComposeProject{
		Project: "wiki", Dir: "/opt/stacks/wiki", Files: []string{"/opt/stacks/wiki/compose.yaml"},
		Containers: []bundle.Container{
			{Name: "app", Image: "registry.lan/app:1", RestartWith: []string{"db"}, Keys: []string{"token"}, Volumes: []string{"data:/data"},
				Files:  []string{"/opt/stacks/wiki/app.conf", "/opt/stacks/wiki/html/a.html", "/opt/stacks/wiki/html/b.html", "/opt/stacks/wiki/motd.txt"},
				Inputs: []string{"/opt/stacks/wiki/app.env"}},
			{Name: "db", Image: "registry.lan/db@sha256:4355a46b19d348dc2f57c046f8ef63d4538ebb936000f3c9ee954a27460dd865", Check: true, Once: true, Keys: []string{"dbpass"}, Volumes: []string{"dbdata:/var/lib/db"}},
			{Name: "migrate", Image: "registry.lan/app:1", NetworkOf: "app", Once: true, RestartWith: []string{"app"}},
		},
		Volumes:  []bundle.ComposeVolume{{Key: "data", Name: "wiki_data"}, {Key: "dbdata", Name: "wiki-db"}},
		Networks: []bundle.ComposeVolume{{Key: "default", Name: "wiki_default"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Project (-want +got):\n%s", diff)
	}

	if want := []string{"app.conf", "app.env", "compose.yaml", "html/a.html", "html/b.html", "motd.txt"}; !slices.Equal(r.Travels, want) {
		t.Errorf("Travels = %v, want %v", r.Travels, want)
	}
	if len(r.Unpinned) != 2 || !strings.Contains(r.Unpinned[0].Error(), "services/wiki/compose.yaml:3:5: warning: image registry.lan/app:1 has no digest") {
		t.Errorf("Unpinned = %v, want two, the first at line 3", r.Unpinned)
	}

	override := "# Written by bellhop: mounts of keys, which Docker must not make folders for.\nservices:\n  \"app\":\n    volumes:\n" +
		"      - type: bind\n        source: \"/run/keys/token\"\n        target: \"/token\"\n        bind:\n          create_host_path: false\n"
	if string(r.Override) != override {
		t.Errorf("Override = %s\nwant %s", r.Override, override)
	}
}

// definitions are those of the containers of a project, by name.
func definitions(t *testing.T, src compose.Source) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, c := range read(t, src).Project.Containers {
		out[c.Name] = c.Definition
	}
	return out
}

// The definition of a container changes with what compose makes a new container for, and with nothing else.
func TestDefinitions(t *testing.T) {
	files := []string{"app.env", "A=1\n", "app.conf", "x", "motd.txt", "hello"}
	with := func(main string, files ...string) compose.Source {
		src := source(main, files...)
		src.Keys = []string{"token", "dbpass"}
		return src
	}
	before := definitions(t, with(stack, files...))

	for _, test := range []struct {
		name    string
		src     compose.Source
		changed string
	}{
		{"a mounted file", with(stack, "app.env", "A=1\n", "app.conf", "other", "motd.txt", "other"), ""},
		{"an env file", with(stack, "app.env", "A=2\n", "app.conf", "x", "motd.txt", "hello"), "app"},
		{"an image", with(strings.Replace(stack, "app:1\n    restart", "app:2\n    restart", 1), files...), "app"},
		{"a restart policy", with(strings.Replace(stack, "unless-stopped", "always", 1), files...), "app"},
		{"pull_policy", with(strings.Replace(stack, "    restart: unless", "    pull_policy: always\n    restart: unless", 1), files...), ""},
		{"a volume's options", with(strings.Replace(stack, "type: nfs", "type: cifs", 1), files...), ""},
		{"the place of a line", with(strings.Replace(stack, "    restart: unless-stopped\n", "", 1)[:0]+"# a comment\n"+stack, files...), ""},
	} {
		var changed []string
		for name, d := range definitions(t, test.src) {
			if before[name] != d {
				changed = append(changed, name)
			}
		}
		if got := strings.Join(changed, " "); got != test.changed {
			t.Errorf("%s changed the definitions of [%s], want [%s]", test.name, got, test.changed)
		}
	}
}

// What an inline config or secret holds is a label of the containers that use it, since no hash of compose
// has it.
func TestInlineConfigsAreLabels(t *testing.T) {
	const main = "services:\n  app: { image: a:1, configs: [motd], secrets: [pass] }\n  web: { image: w:1 }\n" +
		"configs: { motd: { content: \"hello ${port}\" } }\nsecrets: { pass: { environment: word } }\n"
	override := func(port, word string) string {
		src := source(main)
		src.Settings = map[string]string{"port": port, "word": word}
		r := read(t, src)
		if want := []string{"port", "word"}; !slices.Equal(r.Settings, want) {
			t.Errorf("Settings = %v, want %v", r.Settings, want)
		}
		return string(r.Override)
	}

	before := override("80", "x")
	if !strings.Contains(before, "  \"app\":\n    labels:\n      bellhop.inline: \"") || strings.Contains(before, "web") {
		t.Errorf("Override = %s\nwant a label of app alone", before)
	}
	if before == override("81", "x") || before == override("80", "y") {
		t.Error("another text of a config or secret leaves the label as it was")
	}
}

// A value that only the host knows can't make an inline config count.
func TestInlineConfigsOfSecretValues(t *testing.T) {
	for main, want := range map[string]string{
		"services:\n  app: { image: a:1, configs: [c] }\nconfigs:\n  c:\n    content: x ${PASS}\n": "services/wiki/compose.yaml:5:5: configs.c.content takes a value of the secret env file",
		"services:\n  app: { image: a:1, secrets: [c] }\nsecrets:\n  c:\n    environment: PASS\n":  "services/wiki/compose.yaml:5:5: secrets.c.environment takes a value of the secret env file",
	} {
		src := source(main)
		src.EnvKey, src.Keys = "wiki-env", []string{"wiki-env"}
		if r := compose.Read(src); !strings.Contains(r.Problems.Error(), want) {
			t.Errorf("problems %v, want %q", r.Problems, want)
		}
	}
}

// Compose starts no container that takes a config or secret from a variable which nothing sets; one that none takes is
// no problem.
func TestInlineConfigsOfNoVariable(t *testing.T) {
	const objects = "configs: { c: { environment: NONE } }\nsecrets: { s: { environment: NONE } }\n"
	for take, want := range map[string]string{
		"configs: [c]":                   "services/wiki/compose.yaml:3:17: configs.c.environment: nothing sets NONE",
		"secrets: [s]":                   "services/wiki/compose.yaml:4:17: secrets.s.environment: nothing sets NONE",
		"labels: [x]":                    "",
		"profiles: [none], secrets: [s]": "",
	} {
		r := compose.Read(source("services:\n  app: { image: a:1, " + take + " }\n" + objects))
		if got := r.Problems.Error(); !strings.Contains(got, want) || want == "" && len(r.Problems) > 0 {
			t.Errorf("%s: problems %q, want %q", take, got, want)
		}
	}
}

// A service that no profile switches on is known, with its files, and is not started.
func TestProfiles(t *testing.T) {
	src := source("services:\n  app: { image: a:1 }\n  debug: { image: d:1, profiles: [tools], volumes: [\"./debug.conf:/c\"], env_file: debug.env }\n", "debug.conf", "x", "debug.env", "A=1\n")
	r := read(t, src)
	if len(r.Project.Containers) != 2 || r.Project.Containers[0].Idle || !r.Project.Containers[1].Idle {
		t.Errorf("containers %+v, want app and an idle debug", r.Project.Containers)
	}
	if want := []string{"compose.yaml", "debug.conf", "debug.env"}; !slices.Equal(r.Travels, want) {
		t.Errorf("Travels = %v, want %v", r.Travels, want)
	}
}

// Values come from the declared env files and settings, and from nothing else.
func TestValues(t *testing.T) {
	t.Setenv("FROM_PROCESS", "leaked")
	t.Setenv("TAG", "leaked")
	main := "services:\n  app:\n    image: app:${TAG}\n    environment:\n      PORT: ${port}\n      X: ${FROM_PROCESS:-none}\n      Y: $$TAG\n"
	src := source(main, "values.env", "TAG=1.0\n", ".env", "FROM_PROCESS=stray\n", "compose.override.yaml", "services: { app: { image: other } }\n")
	src.Env, src.Settings = []string{"values.env"}, map[string]string{"port": "80", "unused": "1"}
	r := read(t, src)

	if got := r.Project.Containers[0].Image; got != "app:1.0" {
		t.Errorf("Image = %s, want app:1.0", got)
	}
	if want := []string{"port"}; !slices.Equal(r.Settings, want) {
		t.Errorf("Settings = %v, want %v", r.Settings, want)
	}
	if want := []string{"/opt/stacks/wiki/values.env"}; !slices.Equal(r.Project.Env, want) {
		t.Errorf("Env = %v, want %v", r.Project.Env, want)
	}
	text := r.Problems.Error()
	for _, want := range []string{"services/wiki/.env: warning: is ignored", "services/wiki/compose.override.yaml: warning: is ignored"} {
		if !strings.Contains(text, want) {
			t.Errorf("problems lack %q:\n%s", want, text)
		}
	}

	src.Settings["port"] = "81"
	if a, b := r.Project.Containers[0].Definition, read(t, src).Project.Containers[0].Definition; a == b {
		t.Error("another value of a setting leaves the definition as it was")
	}
}

// The values of a secret env file are in no definition; what uses them is known.
func TestSecretEnv(t *testing.T) {
	src := source("services:\n  app:\n    image: app:1\n    environment: { PASS: \"${PASS}\" }\n  web:\n    image: web:1\n")
	src.EnvKey, src.Keys = "wiki-env", []string{"wiki-env"}
	r := read(t, src)
	if got := r.Project.Containers[0].EnvKeys; !slices.Equal(got, []string{"wiki-env"}) {
		t.Errorf("EnvKeys of app = %v, want wiki-env", got)
	}
	if got := r.Project.Containers[1].EnvKeys; len(got) != 0 {
		t.Errorf("EnvKeys of web = %v, want none", got)
	}
}

// Included files and bases of services are taken from the folder.
func TestParts(t *testing.T) {
	main := "include: [more/extra.yaml]\nservices:\n  app:\n    extends: { file: common/base.yaml, service: web }\n    environment: { B: app }\n"
	src := source(main,
		"more/extra.yaml", "services:\n  cache:\n    image: cache:1\n    volumes: [./cache.conf:/c]\n    environment: { PRICE: \"5$$\" }\nvolumes: { shared: {} }\n",
		"more/cache.conf", "c",
		"common/base.yaml", "services:\n  web:\n    extends: { file: deep/root.yaml, service: root }\n    volumes: [./web.conf:/w]\n    environment: { A: base, B: base }\n",
		"common/web.conf", "w",
		"common/deep/root.yaml", "services:\n  root:\n    image: root:1\n    restart: always\n")
	r := read(t, src)

	names := []string{}
	for _, c := range r.Project.Containers {
		names = append(names, c.Name)
	}
	if want := []string{"app", "cache"}; !slices.Equal(names, want) {
		t.Fatalf("containers %v, want %v", names, want)
	}
	app, cache := r.Project.ContainerOf("app"), r.Project.ContainerOf("cache")
	if app.Image != "root:1" || app.Once || !slices.Equal(app.Files, []string{"/opt/stacks/wiki/common/web.conf"}) {
		t.Errorf("app = %+v, want the image and policy of the root and the mount of the base", app)
	}
	if !slices.Equal(cache.Files, []string{"/opt/stacks/wiki/more/cache.conf"}) {
		t.Errorf("cache mounts %v", cache.Files)
	}
	if want := []string{"common/base.yaml", "common/deep/root.yaml", "common/web.conf", "compose.yaml", "more/cache.conf", "more/extra.yaml"}; !slices.Equal(r.Travels, want) {
		t.Errorf("Travels = %v, want %v", r.Travels, want)
	}
}

// What can't be is told with file and line.
func TestProblems(t *testing.T) {
	one := func(fields string) string { return "services:\n  app:\n    image: app:1\n" + fields }
	for _, test := range []struct {
		name, main, want string
		files            []string
	}{
		{"no YAML", "services: [", "services/wiki/compose.yaml:2:1: did not find", nil},
		{"no mapping", "- a\n", "compose.yaml:1:1: want a mapping with services:", nil},
		{"empty", "", "compose.yaml: is empty", nil},
		{"two documents", "services: {}\n---\nservices: {}\n", "more than one document", nil},
		{"unknown field", one("    imag: x\n"), "compose.yaml:4:5: services.app.imag is no field that compose knows", nil},
		{"bad port", one("    ports: [\"x:y\"]\n"), "compose.yaml:", nil},
		{"no image", "services:\n  app: { restart: always }\n", `compose.yaml:2:3: service "app" has neither an image nor a build context`, nil},
		{"unset variable", one("    hostname: ${NAME}\n"), "compose.yaml:4:15: ${NAME} is set nowhere", nil},
		{"variable of a process", one("    hostname: ${HOME:-x}\n"), "compose.yaml:4:15: ${HOME} is not filled in", nil},
		{"remote include", "include: [oci://example.org/x]\n", `compose.yaml:1:11: include: "oci://example.org/x" is not a file`, nil},
		{"absolute include", "include: [/etc/x.yaml]\n", `"/etc/x.yaml" is an absolute path`, nil},
		{"include outside", "include: [../x.yaml]\n", `"../x.yaml" leaves services/wiki`, nil},
		{"include of nothing", "include: [x.yaml]\n", "there is no x.yaml in services/wiki", nil},
		{"include twice", "include: [x.yaml]\n" + one(""), "services.app is in this file and in an included one", []string{"x.yaml", one("")}},
		{"include cycle", "include: [x.yaml]\n", "includes or extends itself", []string{"x.yaml", "include: [compose.yaml]\n"}},
		{"include with .env", "include: [x.yaml]\n", "would look for V in a file .env", []string{"x.yaml", one("    hostname: ${V:-a}\n")}},
		{"extends outside", "services:\n  app:\n    extends: { file: ../x.yaml, service: a }\n", `compose.yaml:3:22: extends: file "../x.yaml" leaves services/wiki`, nil},
		{"extends of nobody", "services:\n  app:\n    extends: { file: x.yaml, service: b }\n", "there is no service b in x.yaml", []string{"x.yaml", one("")}},
		{"extends cycle", "services:\n  app:\n    extends: { file: x.yaml, service: a }\n", "extends itself", []string{"x.yaml", "services: { a: { extends: b }, b: { extends: a } }\n"}},
		{"extends in an anchor", "x-a: &a\n  extends: { file: x.yaml, service: b }\nservices:\n  app:\n    <<: *a\n", "compose.yaml:2:3: extends: with file:", []string{"x.yaml", one("")}},
		{"env_file outside", one("    env_file: ../x.env\n"), "compose.yaml:4:5: services.app.env_file: /opt/stacks/x.env is outside", nil},
		{"absolute env_file", one("    env_file: /etc/x.env\n"), "/etc/x.env is outside", nil},
		{"no env_file", one("    env_file: x.env\n"), "there is no x.env in services/wiki", nil},
		{"unknown key", one("    volumes: [/run/keys/tokn:/t]\n"), `compose.yaml:4:15: services.app.volumes: the service has no key tokn: name it under keys: in service.yaml; did you mean "token"?`, nil},
		{"no secret file", one("") + "secrets: { a: { file: a.txt } }\n", "secrets.a: there is no a.txt in services/wiki", nil},
		{"swarm's secret", one("") + "secrets: { a: { external: true } }\n", "only Docker Swarm has those", nil},
		{"file of the root", one("    volumes: [./files/etc/x:/x]\n"), "name /etc/x", []string{"files/etc/x", "x"}},
		{"one letter", one("    volumes: [dd:/d]\n") + "volumes: { dd: {}, d: {} }\n", "volume d: compose takes a name of one letter", nil},
		{"home", one("    volumes: [\"~/x:/x\"]\n"), "begins with ~", nil},
		{"another name", "name: other\n" + one(""), "compose.yaml:1:1: name: other: the project is called wiki", nil},
		{"bad image", one("    labels: [a]\n") + "  b: { image: \"A B\" }\n", `services.b.image "A B"`, nil},
		{"remote build", "services:\n  app:\n    build: https://example.org/x.git\n", "is not a folder: bellhop fetches nothing", nil},
		{"pull policy", one("    pull_policy: daily\n"), `pull_policy "daily": want missing`, nil},
		{"provider", "services:\n  app:\n    provider: { type: x }\n", "a program of the host would act here", nil},
	} {
		src := source(test.main, test.files...)
		src.Keys = []string{"token"}
		r := compose.Read(src)
		if len(r.Project.Containers) > 0 {
			t.Errorf("%s: Read gave a project", test.name)
		}
		if got := r.Problems.Error(); !strings.Contains(got, test.want) {
			t.Errorf("%s: problems are\n%s\nwant %q", test.name, got, test.want)
		}
	}
}

// A small file that stands for a large one is refused before it is one.
func TestBombs(t *testing.T) {
	bomb := "x-a: &a [1,1,1,1,1,1,1,1,1,1]\n"
	for c := 'b'; c < 'k'; c++ {
		up := "*" + string(c-1)
		bomb += "x-" + string(c) + ": &" + string(c) + " [" + strings.Repeat(up+",", 9) + up + "]\n"
	}
	env := "A0=xxxxxxxxxx\n"
	for c := '1'; c <= '9'; c++ {
		env += "A" + string(c) + "=" + strings.Repeat("$A"+string(c-1), 20) + "\n"
	}
	image := "services:\n  app:\n    image: app\n"

	for name, src := range map[string]compose.Source{
		"more than 100,000 values": source(bomb + image),
		"nested too deep":          source("x-a: " + strings.Repeat("[", 100) + strings.Repeat("]", 100) + "\n" + image),
		"come to more than":        source(image+"    env_file: a.env\n", "a.env", env),
		"is larger than 256 KiB":   source(image + strings.Repeat("# comment\n", 30_000)),
		"MiB into":                 source(image+"    labels:\n"+strings.Repeat("      - ${V}\n", 60), "v.env", "V="+strings.Repeat("x", 60_000)+"\n"),
	} {
		if name == "MiB into" {
			src.Env = []string{"v.env"}
		}
		if got := compose.Read(src).Problems.Error(); !strings.Contains(got, name) {
			t.Errorf("problems are\n%s\nwant %q", got, name)
		}
	}
}

// Whatever a compose file says, Read comes to an end, and asks for no file but those of the folder.
func FuzzRead(f *testing.F) {
	f.Add(stack, "A=1\nB=${A}\n")
	f.Add("include: [x.env]\nservices: { a: { extends: { file: x.env, service: b } } }\n", "services: { b: { image: x } }\n")
	f.Add("x-a: &a { build: . }\nservices:\n  app:\n    <<: *a\n    volumes: [\".:/x\", \"a:/b:ro\"]\n", "")
	f.Add("services: !reset null\n", "")
	f.Fuzz(func(t *testing.T, main, other string) {
		if len(main) > 4<<10 || len(other) > 4<<10 {
			t.Skip()
		}
		src := source(main, "x.env", other)
		inner := src.Read
		src.Read = func(name string) ([]byte, error) {
			data, err := inner(name)
			if err != nil && (strings.HasPrefix(name, "/") || strings.HasPrefix(name, "..")) {
				t.Errorf("it asked for %q", name)
			}
			return data, err
		}
		src.Env, src.Keys = []string{"x.env"}, []string{"token", "dbpass"}

		a, b := compose.Read(src), compose.Read(src)
		if diff := cmp.Diff(a.Project, b.Project); diff != "" {
			t.Errorf("two readings differ:\n%s", diff)
		}
	})
}
