package fleet_test

import (
	"os"
	"regexp"
	"testing"
)

// row is one of docs/repo.md's tables of fields and functions: what it is about, an example, and what
// that gives.
var row = regexp.MustCompile("(?m)^\\| (`[.a-z].*?) \\| .*?\\| `(\\{\\{.*\\}\\})` \\| `(.*)` \\|$")

// Each example of a field or a function of templates in docs/repo.md is true.
func TestDocumentedTemplates(t *testing.T) {
	doc, err := os.ReadFile("../../docs/repo.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := row.FindAllStringSubmatch(string(doc), -1)
	if len(rows) < 30 {
		t.Fatalf("%d rows, want every field and function", len(rows))
	}

	for _, r := range rows {
		f := mustLoad(t, tree(map[string]string{
			"bellhop.yaml": "network: hexagone\nall: { vars: { domain: example.org } }\nhosts:\n" +
				"  chrysalis: { address: [192.168.0.12, chrysalis.lan], host_key: " + hostKey("a") + ", arch: amd64, tags: [edge, bots], vars: { wg_ip: 10.8.0.2 }, services: { web: true, db: true } }\n" +
				"  lufta: { address: lufta.lan, host_key: " + hostKey("b") + ", tags: [edge], vars: { wg_ip: 10.8.0.3 } }\n",
			"services/web/service.yaml":       "settings: { port: 5000, umask: 0077, names: [a.example, b.example], tls: false, motd: \"it's on\" }\n",
			"services/web/files/etc/out.tmpl": r[2],
			"services/db/service.yaml":        "settings: { size: small }\n",
			"shared/greet.tmpl":               "hello {{ .Host.Name }}",
			"secrets/wg/lufta.pub":            "PUBLICKEY\n",
			"secrets/db.age":                  "hunter2",
		}))

		b := mustBundle(t, f, "chrysalis")
		got := ""
		if len(b.Keys) > 0 {
			v, err := b.Key(b.Keys[0].Name)
			if err != nil {
				t.Fatal(err)
			}
			got = string(v)
		} else {
			got = fileText(t, b, "/etc/out")
		}
		if got != r[3] {
			t.Errorf("%s: %s gives %q, docs/repo.md says %q", r[1], r[2], got, r[3])
		}
	}
}
