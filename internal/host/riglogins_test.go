package host_test

import (
	"slices"
	"strings"
	"testing"

	"bellhop/internal/bundle"
	"bellhop/internal/registry/login"
)

// withLogins is a stack and a quadlet from one registry, and the login there.
func withLogins(s rigStack, quadlet, registry, user string) *load {
	l := s.load()
	l.file(bundle.QuadletDir+"/rigquad.container", "[Container]\nImage="+quadlet+"\nExec=run\n[Install]\nWantedBy=multi-user.target\n").of("quad")
	l.Units = append(l.Units, bundle.Unit{Name: "rigquad.service", Service: "quad", Start: true, OnChange: bundle.Restart, Files: []string{bundle.QuadletDir + "/rigquad.container"}})
	if user == "" {
		return l
	}

	parsed, _ := login.Parse(registry, []byte(user))
	unit := bundle.UnitDir + "/registries-key.service"
	l.file(unit, "[Unit]\nDefaultDependencies=no\nRequiresMountsFor=/run/keys\n[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh -c 'test -f /run/keys/registries'\n").of("")
	l.Units = append(l.Units, bundle.Unit{Name: "registries-key.service", KeyUnit: true, OnChange: bundle.None, Files: []string{unit}})
	l.Keys = append(l.Keys, bundle.Key{Name: "registries", Path: "/run/keys/registries", User: "root", Group: "root", Mode: 0o400})
	l.keys["registries"] = string(login.Config([]login.Login{parsed}))
	l.Logins = "/run/keys/registries"
	return l
}

// Images come from a registry that asks who one is. Another login is no reason to touch a container, and
// nothing of one is left beside its key.
func TestRigLogins(t *testing.T) {
	r, reg := newDockerRig(t, "pusher:right", "cadey:sesame-open", "mara:let-me-in")
	ref := reg.push("tiny", "1", "1")
	s := rigStack{ref: ref, conf: "one"}
	load := func(user string) *load { return withLogins(s, ref, reg.addr, user) }

	for _, user := range []string{"", "cadey:wrong"} {
		got := r.deploy(load(user), bundle.OutcomeRefused)
		if got.res.Refused != bundle.RefusedBundle || !strings.Contains(got.res.Error, "its registry refuses") {
			t.Errorf("as %q: %s: %s", user, got.res.Refused, got.res.Error)
		}
	}

	r.deploy(load("cadey:sesame-open"), bundle.OutcomeDone)
	ids, quadlet, asked := r.ids(), r.sh("podman ps -q --no-trunc"), reg.asked()
	if len(ids) != 5 || quadlet == "" {
		t.Fatalf("containers %v, quadlet %q", ids, quadlet)
	}
	r.want("ls /root/.docker /run/bellhop-scratch /run/containers/0/auth.json 2>&1 | grep -vc 'No such file'", "0")

	got := r.deploy(load("mara:let-me-in"), bundle.OutcomeDone)
	if d := differ(ids, r.ids()); len(d) > 0 || r.sh("podman ps -q --no-trunc") != quadlet || reg.asked() != asked {
		t.Errorf("another login touched %v, the quadlet is %s, before %s, and there were %d pulls", d, r.sh("podman ps -q --no-trunc"), quadlet, reg.asked()-asked)
	}
	if slices.Contains(got.res.Restarted, "rigquad.service") || slices.Contains(got.events, "containers") {
		t.Errorf("restarted %q, events %q", got.res.Restarted, got.events)
	}

	// What is pulled from then on is pulled with it.
	s.appImage = reg.push("tiny", "2", "2")
	r.deploy(load("mara:let-me-in"), bundle.OutcomeDone)
	if d := differ(ids, r.ids()); !slices.Equal(d, []string{"app"}) {
		t.Errorf("other containers: %v, want app", d)
	}
}
