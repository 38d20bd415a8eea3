package adopt_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"bellhop/internal/adopt"
)

// A file of secrets: is sealed however it is named and wherever, and what can't be told apart is sealed with it.
func TestAdoptFindsFilesOfSecrets(t *testing.T) {
	const app = "services: { app: { image: \"wiki:1\", secrets: [token] } }\n"
	for name, c := range map[string]struct {
		files  map[string]string
		labels string
	}{
		"absolute": {map[string]string{"compose.yaml": app + "secrets: { token: { file: DIR/token.txt } }\n"}, "DIR/compose.yaml"},
		"variable": {map[string]string{"compose.yaml": app + "secrets: { token: { file: \"${WHERE}/token.txt\" } }\n", ".env": "WHERE=.\n"}, "DIR/compose.yaml"},
		"included": {map[string]string{"compose.yaml": "include: [more/part.yaml]\n" + app, "more/part.yaml": "secrets: { token: { file: ../token.txt } }\n"}, "DIR/compose.yaml"},
		"odd entries": {map[string]string{"compose.yaml": app + "secrets:\n  token: { file: ./token.txt }\n", "two.yaml": "services: { app: { ports: !reset [] } }\nsecrets: { token: !override { file: ./token.txt } }\n"},
			"DIR/compose.yaml,DIR/two.yaml"},
		"replaced": {map[string]string{"compose.yaml": strings.Replace(app, "secrets: [token]", "volumes: [\".:/here\"]", 1) + "secrets: { token: { file: ./token.txt } }\n", "two.yaml": "secrets: { token: { file: ./other.txt } }\n", "other.txt": "sesame too"},
			"DIR/compose.yaml,DIR/two.yaml"},
	} {
		c.files["token.txt"] = "sesame"
		h := newStackHost(t, c.files, "wiki|"+c.labels+"|")
		dir, sealed := adoptInto(t, h)

		files := filesOf(t, dir+"/services/wiki")
		for f, text := range files {
			if strings.Contains(text, "sesame") {
				t.Errorf("%s: %s holds what is secret:\n%s", name, f, text)
			}
		}
		if files["token.txt.tmpl"] != `{{ key "wiki-token.txt" }}` || sealed["wiki-token.txt"] != "sesame" {
			t.Errorf("%s: files %q, sealed %q", name, slices.Sorted(maps.Keys(files)), sealed)
		}
	}
}

// An env file of containers alone is asked about as .env is. One with a secret is sealed whole, and they read the key.
func TestAdoptOtherEnvFiles(t *testing.T) {
	const text = "services:\n  app:\n    image: \"wiki:1\"\n    env_file: [ app.env ]\n  db:\n    image: \"db:1\"\n    env_file:\n      - path: db.env\n  ui:\n    image: \"ui:1\"\n    env_file: ui.env\n"
	h := newStackHost(t, map[string]string{"compose.yaml": text, "app.env": "A=1\nPASS=sesame\n", "db.env": "# PASS=sesame\nB=1\n", "ui.env": "A=1\n"}, "wiki|DIR/compose.yaml|")
	dir, sealed := adoptInto(t, h, "PASS")

	files := filesOf(t, dir+"/services/wiki")
	if len(files) != 3 || files["ui.env"] != "A=1\n" || !strings.HasPrefix(files["service.yaml"], "keys: [wiki-app.env, wiki-db.env]\n") {
		t.Errorf("files %q", files)
	}
	if len(sealed) != 2 || sealed["wiki-app.env"] != "A=1\nPASS=sesame\n" || sealed["wiki-db.env"] != "# PASS=sesame\nB=1\n" {
		t.Errorf("sealed %q", sealed)
	}

	b, err := loaded(t, dir).Bundle("chrysalis")
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range [][]string{{"wiki-app.env"}, {"wiki-db.env"}, nil} {
		if c := b.ServiceOf("wiki").Compose.Containers[i]; !slices.Equal(c.EnvKeys, want) {
			t.Errorf("%s takes keys %q, want %q", c.Name, c.EnvKeys, want)
		}
	}
}

// An env file that a container mounts becomes a key that it mounts.
func TestAdoptMountedEnvFile(t *testing.T) {
	h := newStackHost(t, map[string]string{"compose.yaml": "services: { app: { image: \"wiki:1\", volumes: [\"./app/.env:/app/.env:ro\"] } }\n", "app/.env": "PASS=sesame\n"}, "wiki|DIR/compose.yaml|")
	dir, sealed := adoptInto(t, h, "PASS")
	files := filesOf(t, dir+"/services/wiki")
	if len(files) != 3 || files["app/.env.tmpl"] != `{{ key "wiki-app-.env" }}` || sealed["wiki-app-.env"] != "PASS=sesame\n" {
		t.Errorf("files %q, sealed %q", files, sealed)
	}
	if _, err := loaded(t, dir).Bundle("chrysalis"); err != nil {
		t.Error(err)
	}
}

// What is secret and can't be moved to a key is refused, with what to do.
func TestAdoptRefusesToCopySecrets(t *testing.T) {
	for want, files := range map[string]map[string]string{
		"app reads app.env by env_file:, and some": {"compose.yaml": "services: { app: { image: \"wiki:1\", env_file: app.env } }\n"},
		"is read by include: or by a build":        {"compose.yaml": "include: [{ path: part.yaml, env_file: app.env }]\n", "part.yaml": "services: { app: { image: \"wiki:1\" } }\n"},
		"or by a build, and some":                  {"compose.yaml": "services: { app: { build: . } }\n", "Dockerfile": "FROM wiki:1\n"},
		"secrets/wiki-a-b.age, which is taken":     {"compose.yaml": "services: { app: { image: \"wiki:1\", secrets: [a, b] } }\nsecrets: { a: { file: a/b }, b: { file: a-b } }\n", "a/b": "1", "a-b": "2"},
	} {
		files["app.env"] = "PASS=sesame\n"
		h := newStackHost(t, files, "wiki|DIR/compose.yaml|")
		_, err := adopt.Read(t.Context(), h.host(), adopt.Options{Dir: h.dir, IsSecret: func(string, bool) (bool, error) { return true, nil }})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "sesame") {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
