package fleet_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/dotenv"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet"
)

const wikiStack = `services:
  app:
    image: registry.lan/app@sha256:4355a46b19d348dc2f57c046f8ef63d4538ebb936000f3c9ee954a27460dd865
    volumes: [./app.conf:/etc/app.conf, ./site:/srv, /run/keys/k:/key]
    environment: { PORT: "${port}", PASS: "${PASS}" }
  db: { image: "registry.lan/db:${TAG}" }
`

// stacked is a repo whose service svc is a compose project, and what else is in its folder.
func stacked(service string, more map[string]string) map[string]string {
	m := map[string]string{
		"services/svc/svc.service":  "",
		"services/svc/compose.yaml": wikiStack,
		"services/svc/app.conf":     "listen",
		"services/svc/site/a.tmpl":  "port {{.Settings.port}}",
		"services/svc/values.env":   "TAG=1\n",
		"services/svc/README.md":    "for people",
		"secrets/env.age":           "PASS=value of env\n",
	}
	for name, data := range more {
		m[name] = data
	}
	return m
}

const stackedService = "keys: { k: { source: secrets/k.age } }\nsettings: { port: 80 }\ncompose: { env: [secrets/env.age, values.env] }\n"

func loadStack(t *testing.T, service string, more map[string]string) (*fleet.Fleet, error) {
	t.Helper()
	l := loader()
	return l.Load(t.Context(), small(service, stacked(service, more)))
}

// A compose service is a unit, the files that the compose file names, and what the host is to ask compose for.
func TestComposeService(t *testing.T) {
	f, err := loadStack(t, stackedService, nil)
	if err != nil {
		t.Fatal(err)
	}
	b := mustBundle(t, f, "a")

	var paths []string
	for _, f := range b.Files {
		paths = append(paths, f.Path)
	}
	if want := []string{
		"/etc/bellhop/compose/svc/keys.yaml", "/etc/bellhop/compose/svc/settings.env",
		"/etc/systemd/system/k-key.service", "/etc/systemd/system/svc-env-key.service",
		"/etc/systemd/system/svc.service", "/etc/systemd/system/svc.service.d/50-bellhop.conf",
		"/opt/stacks/svc/app.conf", "/opt/stacks/svc/compose.yaml", "/opt/stacks/svc/site/a", "/opt/stacks/svc/values.env",
	}; !slices.Equal(paths, want) {
		t.Errorf("files %v\nwant %v", paths, want)
	}
	if got := text(t, b, "/opt/stacks/svc/site/a"); got != "port 80" {
		t.Errorf("site/a = %q", got)
	}

	s := b.ServiceOf("svc")
	if s.Compose == nil {
		t.Fatal("the manifest has no compose project")
	}
	if want := []string{"/run/keys/svc-env", "/opt/stacks/svc/values.env", "/etc/bellhop/compose/svc/settings.env"}; !slices.Equal(s.Compose.Env, want) {
		t.Errorf("Env = %v, want %v", s.Compose.Env, want)
	}
	app := s.Compose.ContainerOf("app")
	if want := []string{"/opt/stacks/svc/app.conf", "/opt/stacks/svc/site/a"}; !slices.Equal(app.Files, want) {
		t.Errorf("files of app = %v, want %v", app.Files, want)
	}
	if !slices.Equal(app.Keys, []string{"k"}) || !slices.Equal(app.EnvKeys, []string{"svc-env"}) {
		t.Errorf("keys of app = %v and %v, want k and svc-env", app.Keys, app.EnvKeys)
	}
	if got := s.Compose.ContainerOf("db").Image; got != "registry.lan/db:1" {
		t.Errorf("image of db = %s", got)
	}
	if want := []bundle.Need{{Command: "docker", Service: "svc"}}; !slices.Equal(b.Needs, want) {
		t.Errorf("Needs = %v, want %v", b.Needs, want)
	}

	unit := text(t, b, "/etc/systemd/system/svc.service")
	for _, want := range []string{
		"ExecStart=/usr/bin/env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root /usr/bin/docker compose --progress plain --ansi never --project-name svc --project-directory /opt/stacks/svc" +
			" -f /opt/stacks/svc/compose.yaml -f /etc/bellhop/compose/svc/keys.yaml --env-file /run/keys/svc-env --env-file /opt/stacks/svc/values.env --env-file /etc/bellhop/compose/svc/settings.env up -d --no-build --pull never --remove-orphans\n",
		"Requires=docker.service\n", "RequiresMountsFor=/opt/stacks/svc\n", "RemainAfterExit=yes\n", "WantedBy=multi-user.target\n",
	} {
		if !strings.Contains(unit, want) {
			t.Errorf("the unit lacks %q:\n%s", want, unit)
		}
	}
	if gate := text(t, b, "/etc/systemd/system/svc.service.d/50-bellhop.conf"); !strings.Contains(gate, "Requires=k-key.service svc-env-key.service\n") {
		t.Errorf("the unit does not wait for its keys: %s", gate)
	}
	for _, u := range b.Units {
		if u.Name == "svc.service" && (u.OnChange != bundle.None || !u.Start || !u.Enable) {
			t.Errorf("unit %+v: want it enabled, started, and never restarted for a change", u)
		}
	}
}

// What another port means is told by the definition of the one container that asks for it.
func TestComposeSettings(t *testing.T) {
	defs := func(service string) map[string]string {
		f, err := loadStack(t, service, nil)
		if err != nil {
			t.Fatal(err)
		}
		b, out := mustBundle(t, f, "a"), map[string]string{}
		s := b.ServiceOf("svc")
		for _, c := range s.Compose.Containers {
			out[c.Name] = c.Definition
		}
		return out
	}

	a, b := defs(stackedService), defs(strings.Replace(stackedService, "port: 80", "port: 81", 1))
	if a["app"] == b["app"] || a["db"] != b["db"] {
		t.Errorf("definitions %v, with another port %v: want app alone to differ", a, b)
	}
}

// A setting arrives at compose as it was written, whatever it holds.
func TestComposeSettingsQuoted(t *testing.T) {
	for _, value := range []string{`plain`, ``, ` a b `, `a"b'c`, `$HOME ${X} $$`, `a\b\\n`, "two\nlines", `# no comment`, `x #y`} {
		yaml := `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(value) + `"`
		f, err := loadStack(t, strings.Replace(stackedService, "port: 80", "port: "+yaml, 1), nil)
		if err != nil {
			t.Fatalf("%q: %v", value, err)
		}
		vars, err := dotenv.UnmarshalWithLookup(text(t, mustBundle(t, f, "a"), "/etc/bellhop/compose/svc/settings.env"), nil)
		if err != nil || vars["port"] != value {
			t.Errorf("the setting %q arrives as %q, %v", value, vars["port"], err)
		}
	}
}

// What is wrong with a compose service is told with the others.
func TestComposeProblems(t *testing.T) {
	for _, test := range []struct {
		service string
		more    map[string]string
		want    string
	}{
		{stackedService, map[string]string{"services/svc/compose.yaml": "services: { app: { image: a, imag: b } }\n"}, "services/svc/compose.yaml:1"},
		{stackedService, map[string]string{"services/svc/compose.yml": wikiStack}, "services/svc/compose.yml: there is compose.yaml too"},
		{stackedService, map[string]string{"services/svc/svc.service": plainUnit}, "service svc claims unit svc.service twice"},
		{"compose: { files: [a.yaml] }\n", nil, "services/svc/service.yaml:1:20: compose: files: there is no a.yaml in services/svc"},
		{"compose: { dir: /etc }\n", nil, `compose: dir "/etc" is a place of the system`},
		{"compose: { dir: x }\n", nil, `compose: dir "x": want a clean absolute path`},
		{"compose: { project: A }\n", nil, `compose: project "A": want small letters`},
		{"compose: { env: ../x }\n", nil, `compose: env: "../x": want a file of this folder`},
		{"compose: { env: [secrets/env.age, secrets/k.age] }\n", nil, "one secret file is enough"},
		{"compose: { env: [values.env, secrets/env.age] }\n", nil, "services/svc/service.yaml:1:30: compose: env: write secrets/env.age first"},
		{stackedService + "units: { svc.service: { enable: false } }\n", nil, "services/svc/service.yaml:4:10: units: svc.service is made for the compose project, and takes no rule"},
		{"compose: { folder: x }\n", nil, `unknown field "folder"`},
	} {
		_, err := loadStack(t, test.service, test.more)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q %v: %v\nwant %q", test.service, test.more, err, test.want)
		}
	}
}

// An image without a digest is a warning, or refused where the network wants them pinned.
func TestImagesPinned(t *testing.T) {
	f, err := loadStack(t, stackedService, nil)
	if err != nil {
		t.Fatal(err)
	}
	const want = "services/svc/compose.yaml:6:9: warning: image registry.lan/db:1 has no digest"
	if len(f.Warnings) == 0 || !slices.ContainsFunc(f.Warnings, func(p fleet.Problem) bool { return strings.Contains(p.Error(), want) }) {
		t.Errorf("warnings %v, want %q", f.Warnings, want)
	}

	pinned := "images: pinned\n" + string(small("", nil)["bellhop.yaml"].Data)
	if _, err = loadStack(t, stackedService, map[string]string{"bellhop.yaml": pinned}); err == nil || !strings.Contains(err.Error(), "image registry.lan/db:1 has no digest") {
		t.Errorf("images: pinned: %v, want a refusal", err)
	}
	other := strings.Replace(pinned, "pinned", "pined", 1)
	if _, err = loadStack(t, stackedService, map[string]string{"bellhop.yaml": other}); err == nil || !strings.Contains(err.Error(), `images "pined": want pinned`) {
		t.Errorf("images: pined: %v, want a refusal", err)
	}
}
