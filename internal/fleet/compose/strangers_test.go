package compose_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bellhop/internal/fleet/compose"
)

// No notation of a compose file has compose-go open a file of this machine, or look for its home.
func TestOpensNothing(t *testing.T) {
	away := filepath.Join(t.TempDir(), "away.yaml")
	if err := os.WriteFile(away, []byte("services: { web: { image: \"taken:1\" } }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	merged := "x-f: &f { file: " + away + " }\n"
	odd := "{ !!binary ZmlsZQ==: " + away + ", service: web }"

	for _, test := range []struct {
		name, main, want string
		files            []string
	}{
		{"merge", merged + "services:\n  app:\n    extends: { <<: *f, service: web }\n", "compose.yaml:4:5: services.app.extends: file: comes by a merge or a tag", nil},
		{"merge of a list", merged + "services:\n  app:\n    extends: { <<: [*f], service: web }\n", "file: comes by a merge or a tag", nil},
		{"key in base64", "services:\n  app:\n    extends: " + odd + "\n", "file: comes by a merge or a tag", nil},
		{"field in base64", "services:\n  app:\n    !!binary ZXh0ZW5kcw==: " + odd + "\n", "file: comes by a merge or a tag", nil},
		{"behind a reset", merged + "x-s: &s { extends: { <<: *f, service: web } }\nservices:\n  app: { <<: *s, extends: !reset null }\n", "file: comes by a merge or a tag", nil},
		{"job", merged + "services: { a: { image: a } }\njobs:\n  app:\n    extends: { <<: *f, service: web }\n", "jobs.app.extends: file: comes by a merge or a tag", nil},
		{"services by a merge", merged + "<<: { services: { app: { extends: { <<: *f, service: web } } } }\n", "file: comes by a merge or a tag", nil},
		{"in an included file", "include: [more.yaml]\n", "more.yaml:4:5: services.app.extends: file: comes by a merge",
			[]string{"more.yaml", merged + "services:\n  app:\n    extends: { <<: *f, service: web }\n"}},
		{"in a base", "services:\n  app:\n    extends: { file: more.yaml, service: app }\n", "is an absolute path",
			[]string{"more.yaml", "x-f: &f { file: ../../../x.yaml }\nservices:\n  app:\n    extends: { <<: *f, service: web }\n"}},
		{"include by a merge", "<<: { include: [more.yaml] }\nservices: { a: { image: a } }\n", "compose.yaml:1:1: include: comes by a merge or a tag",
			[]string{"more.yaml", "services: { b: { image: b } }\n"}},
		{"home by a merge", "x-v: &v { volumes: [\"~/x:/y\"] }\nservices:\n  app: { <<: *v, image: a }\n", "~/x begins with ~", nil},
		{"home by a default", "services:\n  app:\n    image: a\n    volumes: [\"${NONE:-~/x}:/y\"]\n", "compose.yaml:4:15: ~/x begins with ~", nil},
		{"home in a base", "services:\n  app:\n    extends: { file: more.yaml, service: app }\n", "more.yaml:3:15: ~/x begins with ~",
			[]string{"more.yaml", "services:\n  app:\n    volumes: [\"~/x:/y\"]\n    image: a\n"}},
	} {
		r := compose.Read(source(test.main, test.files...))
		if len(r.Project.Containers) > 0 {
			t.Errorf("%s: Read gave a project: %+v", test.name, r.Project.Containers)
		}
		if got := r.Problems.Error(); !strings.Contains(got, test.want) {
			t.Errorf("%s: problems are\n%s\nwant %q", test.name, got, test.want)
		}
	}
}

// A file that is one of the project and is extended by another of it is prepared like any.
func TestSharedFile(t *testing.T) {
	main := "services:\n  app:\n    extends: { file: common.yaml, service: web }\n"
	web := "services:\n  web: { image: \"web:1\", develop: { watch: [] } }\n"

	src := source(main, "common.yaml", web+"  b:\n    extends: { file: /etc/away.yaml, service: web }\n")
	src.Files = []string{"compose.yaml", "common.yaml"}
	want := `common.yaml:4:22: extends: file "/etc/away.yaml" is an absolute path`
	if r := compose.Read(src); !strings.Contains(r.Problems.Error(), want) {
		t.Errorf("problems are\n%s\nwant %q", r.Problems.Error(), want)
	}

	src = source(main, "common.yaml", web+"include: [more.yaml]\n", "more.yaml", "services: { more: { image: \"more:1\" } }\n")
	src.Files = []string{"compose.yaml", "common.yaml"}
	if r := read(t, src); r.Project.ContainerOf("more") == nil || r.Project.ContainerOf("app") == nil {
		t.Errorf("containers are %+v, want more of the included file and app", r.Project.Containers)
	}
}

// What variables of one env file put into others is bounded, however the lines are written.
func TestEnvBombs(t *testing.T) {
	big := "BIG=" + strings.Repeat("x", 100<<10) + "\n"
	uses := strings.Repeat("A=$BIG\n", 1000)
	app := "services:\n  app:\n    image: app\n    env_file: [web.env]\n"
	two := "services:\n  app:\n    image: app\n    env_file: [big.env, web.env]\n"
	lines := "A=\"\nA=\n" + strings.Repeat("x", 100<<10) + "\"\n" + strings.Repeat("B=\"\nA=\n$A\"\n", 100)

	many := "services:\n"
	for _, name := range strings.Fields(strings.Repeat("a ", 100)) {
		many += "  " + name + strings.Repeat("a", strings.Count(many, "\n")) + ": { image: app, env_file: large.env }\n"
	}

	for _, test := range []struct {
		name, main, want string
		files            []string
	}{
		{"of env:", app, "services.app.env_file: the variables of web.env come to more than 256 KiB", []string{".env", big, "web.env", uses}},
		{"of another env_file", two, "the variables of web.env come to more than 256 KiB", []string{".env", "", "big.env", big, "web.env", uses}},
		{"of several lines", app, "the variables of web.env come to more than 256 KiB", []string{".env", "", "web.env", lines}},
		{"of a label_file", strings.Replace(two, "env_file", "label_file", 1), "the variables of web.env come to more than 256 KiB", []string{".env", "", "big.env", big, "web.env", uses}},
		{"of env: itself", app, "the variables of .env come to more than 256 KiB", []string{".env", big + uses, "web.env", ""}},
		{"of many services", many, "come to more than 16 MiB", []string{".env", "", "large.env", "A=" + strings.Repeat("x", 250<<10) + "\n"}},
	} {
		src := source(test.main, test.files...)
		src.Env = []string{".env"}
		if got := compose.Read(src).Problems.Error(); !strings.Contains(got, test.want) {
			t.Errorf("%s: problems are\n%s\nwant %q", test.name, got, test.want)
		}
	}
}

// No name of a service can be an option of docker compose, and no image comes from elsewhere than image:.
func TestRefused(t *testing.T) {
	app := "services:\n  app:\n    image: app:1\n"
	for _, test := range []struct{ name, main, want string }{
		{"short option", "services:\n  -V: { image: a }\n", "compose.yaml:2:3: services.-V: want a name"},
		{"option with a value", "services:\n  -t0: { image: a }\n", "services.-t0: want a name"},
		{"long option", "services:\n  --dry-run: { image: a }\n", "services.--dry-run: want a name"},
		{"dot", "services:\n  .app: { image: a }\n", "services..app: want a name"},
		{"pre_start", app + "    pre_start: [{ image: other, command: x }]\n", "compose.yaml:4:5: services.app.pre_start: is not supported"},
		{"models", app + "    models: [llm]\nmodels: { llm: { model: ai/x } }\n", "compose.yaml:4:5: services.app.models: is not supported"},
		{"models alone", app + "models: { llm: { model: ai/x } }\n", "compose.yaml:4:11: models.llm: is not supported"},
		{"jobs", app + "jobs:\n  clean: { image: other, triggers: { manual: true } }\n", "compose.yaml:5:3: jobs.clean: is not supported"},
		{"volume of an image", app + "    volumes: [{ type: image, source: other, target: /x }]\n", "compose.yaml:4:15: services.app.volumes: type: image is not supported"},
		{"jobs of an included file", "include: [{ path: x.yaml, env_file: x.env }]\n" + app, "include: jobs: of the included file is not supported"},
	} {
		src := source(test.main, "x.env", "", "x.yaml", "services: { b: { image: b } }\njobs: { c: { image: c, triggers: { manual: true } } }\n")
		r := compose.Read(src)
		if len(r.Project.Containers) > 0 {
			t.Errorf("%s: Read gave a project", test.name)
		}
		if got := r.Problems.Error(); !strings.Contains(got, test.want) {
			t.Errorf("%s: problems are\n%s\nwant %q", test.name, got, test.want)
		}
	}
}
