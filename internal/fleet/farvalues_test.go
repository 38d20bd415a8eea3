package fleet

import (
	"strings"
	"testing"
	"testing/fstest"
)

// What reads from outside a service's folder, and what keeps the text that was written, is the same in
// a fleet that another process loaded: also after a change, and for the host whose file is missing.
func TestFarValues(t *testing.T) {
	files := map[string]string{
		"bellhop.yaml": "network: n\nall: { vars: { version: 1.10 }, services: { web: true } }\nhosts:\n" +
			"  a: { address: 10.0.0.1, host_key: " + boundsKey + " }\n  b: { address: 10.0.0.2, host_key: " + boundsKey + " }\n",
		"services/web/service.yaml": "user: { name: web, uid: 990 }\nsettings: { umask: 0077 }\nkeys: { wg0: { source: 'secrets/wg/{host}.age' } }\n" +
			"package: { url: 'http://nas.lan/app-linux', sha256: " + strings.Repeat("0", 64) + " }\n",
		"services/web/web.service":      "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n",
		"services/web/files/etc/x.tmpl": `{{ .Settings.umask }} {{ .Vars.version }} {{ include "shared/x.tmpl" . }} {{ public "secrets/wg/a.pub" }}`,
		"shared/x.tmpl":                 "of {{ .Host.Name }}",
		"secrets/wg/a.age":              "value of a",
		"secrets/wg/a.pub":              "PUBLIC\n",
	}
	tree := func() fstest.MapFS {
		m := fstest.MapFS{}
		for name, text := range files {
			m[name] = &fstest.MapFile{Data: []byte(text)}
		}
		return m
	}

	far := farLoader(t)
	text := func() string {
		t.Helper()
		f, err := far.Load(t.Context(), tree())
		if err != nil {
			t.Fatal(err)
		}
		b, err := f.Bundle("a")
		if err != nil {
			t.Fatal(err)
		}
		if v, err := b.Key("wg0"); string(v) != "value of a" || err != nil {
			t.Errorf("wg0 is %q, %v", v, err)
		}
		if p := b.Packages[0]; p.As != "app-linux" || b.Users[0].UID != 990 {
			t.Errorf("package %+v, user %+v", p, b.Users[0])
		}
		if _, err := f.Bundle("b"); err == nil || !strings.Contains(err.Error(), "b: key wg0: no file secrets/wg/b.age") {
			t.Errorf("Bundle(b): %v", err)
		}
		for _, file := range b.Files {
			if file.Path == "/etc/x" {
				data, err := b.File(file.Digest)
				if err != nil {
					t.Fatal(err)
				}
				return string(data)
			}
		}
		return ""
	}

	if got, want := text(), "0077 1.10 of a PUBLIC"; got != want {
		t.Errorf("the file is %q, want %q", got, want)
	}
	files["shared/x.tmpl"], files["secrets/wg/a.pub"] = "by {{ .Host.Name }}", "OTHER\n"
	if got, want := text(), "0077 1.10 by a OTHER"; got != want {
		t.Errorf("after a change the file is %q, want %q", got, want)
	}
}
