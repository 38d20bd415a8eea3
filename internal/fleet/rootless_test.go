package fleet_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bellhop/internal/bundle"
)

const rootlessUser = "user: { name: app, home: /srv/app, linger: true }\n"

// quadlets is a service of quadlets, and what else is in its folder.
func quadlets(more map[string]string) map[string]string {
	m := map[string]string{
		"services/svc/svc.service":   "",
		"services/svc/web.container": "[Container]\nImage=reg.example/web:1\n[Install]\nWantedBy=default.target\n",
		"services/svc/data.volume":   "[Volume]\n",
	}
	for name, data := range more {
		m[name] = data
	}
	return m
}

// With linger the quadlets of a service are its user's, in the user's home, and so are their units.
func TestRootlessService(t *testing.T) {
	l := loader()
	f, err := l.Load(t.Context(), small(rootlessUser+"units: { web.container: { on_change: none } }\n", quadlets(map[string]string{
		"services/svc/web.container.d/x.conf": "[Container]\nEnvironment=A=b\n",
	})))
	if err != nil {
		t.Fatal(err)
	}
	b := mustBundle(t, f, "a")

	var files []string
	for _, f := range b.Files {
		files = append(files, fmt.Sprintf("%s %04o %s", f.Path, f.Mode, f.User))
	}
	if d := cmp.Diff([]string{
		"/etc/sysusers.d/bellhop-svc.conf 0644 root",
		"/etc/tmpfiles.d/bellhop-svc.conf 0644 root",
		"/srv/app/.config/containers/systemd/data.volume 0644 root",
		"/srv/app/.config/containers/systemd/web.container 0644 root",
		"/srv/app/.config/containers/systemd/web.container.d/x.conf 0644 root",
		bundle.LingerDir + "/app 0644 root",
	}, files); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(map[string]string{"app/data-volume.service": "", "app/web.service": "s none"}, act(b)); d != "" {
		t.Error(d)
	}
	if got := b.UnitUsers(); !slices.Equal(got, []string{"app"}) {
		t.Errorf("users with units of their own are %q", got)
	}
}

// What a user's own systemd can't have, or bellhop does not bring there yet, is refused by name.
func TestRootlessRefused(t *testing.T) {
	for name, c := range map[string]struct {
		service string
		more    map[string]string
		want    string
	}{
		"no home":      {"user: { name: app, linger: true }\n", nil, "linger: user app needs a home"},
		"no quadlet":   {rootlessUser, map[string]string{"services/svc/web.container": "", "services/svc/data.volume": "", "services/svc/files/etc/x": "x"}, "linger is for quadlets, and this folder has none"},
		"a unit":       {rootlessUser, map[string]string{"services/svc/a.timer": "[Timer]\nOnCalendar=daily\n"}, "has quadlets alone"},
		"a drop-in":    {rootlessUser, map[string]string{"services/svc/web.service.d/x.conf": "[Service]\n"}, "has quadlets alone"},
		"kube":         {rootlessUser, map[string]string{"services/svc/a.kube": "[Kube]\nYaml=/x\n"}, "a .kube is not there yet for a user with linger"},
		"build":        {rootlessUser, map[string]string{"services/svc/a.build": "[Build]\nImageTag=localhost/a\n"}, "a .build is not there yet for a user with linger"},
		"keys":         {rootlessUser + "keys: { k: { source: secrets/k.age } }\n", nil, "keys are not there yet"},
		"groups":       {"user: { name: app, home: /srv/app, linger: true, extra_groups: [video] }\n", nil, "extra_groups are not there yet"},
		"compose":      {rootlessUser, map[string]string{"services/svc/compose.yaml": "services: { a: { image: a:1 } }\n"}, "docker runs compose projects, as root"},
		"other unit":   {rootlessUser + "units: { nginx.service: { enable: true } }\n", nil, "units: nginx.service is none of this folder"},
		"wrong target": {rootlessUser, map[string]string{"services/svc/web.container": "[Container]\nImage=a:1\n[Install]\nWantedBy=multi-user.target\n"}, "WantedBy=multi-user.target: a user's own systemd has no such target"},
	} {
		t.Run(name, func(t *testing.T) {
			l := loader()
			_, err := l.Load(t.Context(), small(c.service, quadlets(c.more)))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v; want %q", err, c.want)
			}
		})
	}
}
