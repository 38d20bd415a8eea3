package fleet_test

import (
	"io/fs"
	"maps"
	"strings"
	"testing"
	"testing/fstest"
)

// sharedTree is a fleet of one host whose one template is tmpl.
func sharedTree(tmpl string, more map[string]string) fstest.MapFS {
	m := map[string]string{
		"services/svc/files/etc/out.tmpl": tmpl,
		"shared/peer.tmpl":                "[Peer]\nName={{ .Name }}\nKey={{ public (printf \"secrets/wg/%s.age\" .Name) }}\n",
		"shared/deep/greet.tmpl":          `hello {{ .Host.Name }} of {{ .Settings.x }}{{ include "shared/tail.tmpl" . }}`,
		"shared/tail.tmpl":                "!",
		"shared/secret.tmpl":              `{{ key "k" }}`,
		"shared/loop.tmpl":                `{{ include "shared/loop.tmpl" . }}`,
		"shared/mutual.tmpl":              `{{ include "shared/mutual2.tmpl" . }}`,
		"shared/mutual2.tmpl":             `{{ include "shared/mutual.tmpl" . }}`,
		"shared/broken.tmpl":              "one\n{{ if }}\n",
		"shared/define.tmpl":              `{{ define "x" }}<{{ . }}>{{ end }}{{ template "x" .Host.Name }}`,
		"shared/big.tmpl":                 strings.Repeat("x", 900_000),
		"shared/grow.tmpl":                `{{ include "shared/big.tmpl" . }}{{ include "shared/grow.tmpl" . }}`,
		"secrets/wg/a.pub":                "PUBLIC-OF-A\n",
		"secrets/wg/a.age":                "private",
	}
	maps.Copy(m, more)
	return small("settings: { x: 0077 }\n", m)
}

func TestIncludeAndPublic(t *testing.T) {
	for tmpl, want := range map[string]string{
		`{{ include "shared/deep/greet.tmpl" . }}`:                                 "hello a of 0077!",
		`{{ range .Fleet.Hosts }}{{ include "shared/peer.tmpl" . }}{{ end }}`:      "[Peer]\nName=a\nKey=PUBLIC-OF-A\n",
		`{{ public "secrets/wg/a.pub" }} {{ public "secrets/wg/a.age" }}`:          "PUBLIC-OF-A PUBLIC-OF-A",
		`{{ . | include "shared/tail.tmpl" | upper }}`:                             "!",
		`{{ indent 2 (include "shared/peer.tmpl" .Host) }}`:                        "[Peer]\n  Name=a\n  Key=PUBLIC-OF-A\n  ",
		`{{ include "shared/define.tmpl" . }}{{ include "shared/define.tmpl" . }}`: "<a><a>",
		`{{ len (include "shared/big.tmpl" .) }}`:                                  "900000",
	} {
		b := mustBundle(t, mustLoad(t, sharedTree(tmpl, nil)), "a")
		if got := fileText(t, b, "/etc/out"); got != want {
			t.Errorf("%s is %q, want %q", tmpl, got, want)
		}
	}
}

// A key that a shared template names makes a key of the file that includes it.
func TestIncludeOfAKey(t *testing.T) {
	f := mustLoad(t, sharedTree(`x={{ include "shared/secret.tmpl" . }}`, nil))
	b := mustBundle(t, f, "a")
	if v, err := b.Key("files-etc-out"); string(v) != "x=value of k" || err != nil {
		t.Errorf("the key is %q, %v", v, err)
	}
	for _, file := range b.Files {
		if file.Path == "/etc/out" {
			t.Error("the file with a key in it is a plain file")
		}
	}
}

func TestIncludeProblems(t *testing.T) {
	for tmpl, want := range map[string]string{
		`{{ include "shared/pear.tmpl" . }}`:                   `services/svc/files/etc/out.tmpl:1:4: include: no file shared/pear.tmpl; did you mean "shared/peer.tmpl"?`,
		`{{ include "secrets/wg/a.age" . }}`:                   "want a file below shared/",
		`{{ include "shared/../secrets/k.age" . }}`:            "want a file below shared/",
		`{{ include "/etc/passwd" . }}`:                        "want a file below shared/",
		`{{ include .Settings.x . }}`:                          "want the path of a template written out",
		`{{ include (printf "shared/%s" "tail.tmpl") . }}`:     "want the path of a template written out",
		`{{ include "shared/broken.tmpl" . }}`:                 "shared/broken.tmpl:2:",
		`{{ include "shared/loop.tmpl" . }}`:                   "templates call each other more than 500 deep",
		`{{ include "shared/mutual.tmpl" . }}`:                 "templates call each other more than 500 deep",
		`{{ include "shared/grow.tmpl" . }}`:                   "functions make more than 16 MiB of text",
		`{{ include "shared/peer.tmpl" . }}`:                   "shared/peer.tmpl:2:",
		`{{ public "secrets/wg/b.pub" }}`:                      "no file secrets/wg/b.pub; `bellhop secret generate` writes",
		`{{ public "secrets/k.age" }}`:                         "no file secrets/k.pub",
		`{{ public "secrets/wg/../wg/a.pub" }}`:                "no file",
		`{{ public "bellhop.yaml" }}`:                          "no file bellhop.yaml",
		`{{ range $i := .Settings.x }}{{ end }}{{ public . }}`: "",
	} {
		if _, err := loader().Load(t.Context(), sharedTree(tmpl, nil)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v\nwant %s", tmpl, err, want)
		}
	}

	m := sharedTree(`{{ include "shared/link.tmpl" . }}`, nil)
	m["shared/link.tmpl"] = &fstest.MapFile{Mode: fs.ModeSymlink | 0o777, Data: []byte("tail.tmpl")}
	if _, err := loader().Load(t.Context(), m); err == nil || !strings.Contains(err.Error(), "shared/link.tmpl") {
		t.Errorf("a link: %v", err)
	}

	unit := sharedTree("", nil)
	unit["services/svc/svc.service"] = nil
	delete(unit, "services/svc/svc.service")
	unit["services/svc/svc.service.tmpl"] = file(plainUnit + `# {{ include "shared/secret.tmpl" . }}`)
	if _, err := loader().Load(t.Context(), unit); err == nil || !strings.Contains(err.Error(), "a unit file is readable by all, so it can't name a key") {
		t.Errorf("a key in a unit by way of a shared template: %v", err)
	}
}

// What a template reads from outside its folder changes the file when it changes, also where the tree
// knows that the folder did not.
func TestOutsideChanges(t *testing.T) {
	const tmpl = `{{ include "shared/tail.tmpl" . }} {{ public "secrets/wg/a.pub" }}`
	for name, known := range map[string]bool{"hashes known": true, "hashes unknown": false} {
		l := loader()
		text := func(m fstest.MapFS) string {
			t.Helper()
			var tree fs.FS = m
			if known {
				tree = hashed(m)
			}
			f, err := l.Load(t.Context(), tree)
			if err != nil {
				t.Fatal(err)
			}
			return fileText(t, mustBundle(t, f, "a"), "/etc/out")
		}

		got := []string{text(sharedTree(tmpl, nil)), text(sharedTree(tmpl, map[string]string{"shared/tail.tmpl": "?"})),
			text(sharedTree(tmpl, map[string]string{"secrets/wg/a.pub": "OTHER"})), text(sharedTree(tmpl, nil))}
		want := "! PUBLIC-OF-A|? PUBLIC-OF-A|! OTHER|! PUBLIC-OF-A"
		if s := strings.Join(got, "|"); s != want {
			t.Errorf("%s: %s, want %s", name, s, want)
		}
	}
}
