package fleet

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A compose project is the same when a process reads it that can open no file: whatever compose-go would look
// for by itself is not there.
func TestFarStack(t *testing.T) {
	m := boundsTree(map[string]string{
		"services/web/service.yaml":      "keys: [db]\nsettings: { port: 80 }\ncompose: { env: [secrets/env.age, a.env] }\n",
		"services/web/compose.yaml":      "include: [more/extra.yaml]\nservices:\n  app:\n    extends: { file: base.yaml, service: base }\n    env_file: app.env\n    label_file: labels\n    volumes: [./x.tmplout:/x, /run/keys/db:/db]\n    environment: { P: \"${port}\", S: \"${SECRET}\", T: \"${TAG}\" }\n",
		"services/web/more/extra.yaml":   "services: { cache: { image: cache:1 } }\n",
		"services/web/base.yaml":         "services: { base: { image: app:1 } }\n",
		"services/web/app.env":           "A=1\n",
		"services/web/a.env":             "TAG=1\n",
		"services/web/labels":            "a=b\n",
		"services/web/x.tmplout.tmpl":    "port {{.Settings.port}}",
		"services/web/web-extra.timer":   "[Timer]\nOnCalendar=daily\n[Install]\nWantedBy=timers.target\n",
		"services/web/web-extra.service": "[Service]\nExecStart=/bin/true\n",
		"secrets/db.age":                 "value of db",
		"secrets/env.age":                "SECRET=x\n",
	})

	near, far := farLoader(t), farLoader(t)
	near.Confined = nil
	a, err := near.Load(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	b, err := far.Load(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}

	host := a.Hosts[0].Name
	x, err := a.Bundle(host)
	if err != nil {
		t.Fatal(err)
	}
	y, err := b.Bundle(host)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(x.Manifest, y.Manifest); diff != "" || x.Digest != y.Digest {
		t.Errorf("the manifests differ (-near +far):\n%s", diff)
	}
	s := y.ServiceOf("web")
	if s.Compose == nil || len(s.Compose.Containers) != 2 {
		t.Errorf("the project is %+v, want two containers", s.Compose)
	}
	if len(b.Warnings) == 0 || !strings.Contains(b.Warnings[0].Error(), "has no digest") {
		t.Errorf("warnings %v", b.Warnings)
	}
}
