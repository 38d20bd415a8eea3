package fleet_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet"
)

// registryTree is a host with a compose service, one with a quadlet, one with neither, and registries:.
func registryTree(registries string, more map[string]string) fstest.MapFS {
	m := map[string]string{
		"bellhop.yaml": "network: n\n" + registries + "hosts:\n" +
			"  a: { address: 10.0.0.1, host_key: " + hostKey("a") + ", services: { stack: true } }\n" +
			"  b: { address: 10.0.0.2, host_key: " + hostKey("b") + ", services: { quad: true } }\n" +
			"  c: { address: 10.0.0.3, host_key: " + hostKey("c") + ", services: { plain: true } }\n",
		"services/stack/compose.yaml": "services: { app: { image: \"ghcr.io/x/app@sha256:4355a46b19d348dc2f57c046f8ef63d4538ebb936000f3c9ee954a27460dd865\" } }\n",
		"services/quad/q.container":   "[Container]\nImage=ghcr.io/x/q:1\n[Install]\nWantedBy=multi-user.target\n",
		"services/plain/files/etc/x":  "x\n",
		"secrets/ghcr.age":            "cadey:token of cadey\n",
		"secrets/lan.age":             "x:y",
	}
	maps.Copy(m, more)
	return tree(m)
}

const twoRegistries = "registries:\n  ghcr.io: secrets/ghcr.age\n  registry.lan:5000: secrets/lan.age\n"

// Each host that pulls images gets one key with all logins; no unit waits for it, and no service has it.
func TestRegistries(t *testing.T) {
	l := loader()
	f, err := l.Load(t.Context(), registryTree(twoRegistries, nil))
	if err != nil {
		t.Fatal(err)
	}
	if got := f.Secrets(); !slices.Equal(got, []string{"secrets/ghcr.age", "secrets/lan.age"}) {
		t.Errorf("secrets in use: %q", got)
	}

	const want = `{"auths":{"ghcr.io":{"auth":"Y2FkZXk6dG9rZW4gb2YgY2FkZXk="},"registry.lan:5000":{"auth":"eDp5"}}}` + "\n"
	for _, host := range []string{"a", "b"} {
		b := mustBundle(t, f, host)
		v, err := b.Key("registries")
		if err != nil || string(v) != want || b.Logins != "/run/keys/registries" {
			t.Errorf("%s: logins at %q: %s, %v\nwant %s", host, b.Logins, v, err, want)
		}
		if k := b.Keys[0]; len(b.Keys) != 1 || k.Service != "" || k.Mode != 0o400 || k.User != "root" || k.Digest == "" {
			t.Errorf("%s: keys %+v", host, b.Keys)
		}
		for _, u := range b.Units {
			if u.WaitsForKeys() {
				t.Errorf("%s: %s waits for the logins", host, u.Name)
			}
		}
		if got := b.Ingredients(); string(got["secrets/ghcr.age password"]) != "token of cadey" {
			t.Errorf("%s: texts are filtered for %d values, the token not among them", host, len(got))
		}
	}
	if c := mustBundle(t, f, "c"); len(c.Keys) > 0 || c.Logins != "" {
		t.Errorf("a host without containers has %+v, logins %q", c.Keys, c.Logins)
	}

	// Another token changes the key of those hosts, and nothing else of them.
	g, err := l.Load(t.Context(), registryTree(twoRegistries, map[string]string{"secrets/ghcr.age": "cadey:another token"}))
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"a", "b", "c"} {
		var things []string
		for _, c := range bundle.Diff(mustBundle(t, f, host).Manifest, mustBundle(t, g, host).Manifest) {
			things = append(things, c.Resource())
		}
		if want := []string{"key:registries"}; host != "c" && !slices.Equal(things, want) || host == "c" && len(things) > 0 {
			t.Errorf("%s: changes %q", host, things)
		}
	}
	if changed := g.Changed(f); len(changed) != 2 {
		t.Errorf("%d hosts are looked at, want 2", len(changed))
	}

	// The same once more: nothing is made anew.
	again, err := l.Load(t.Context(), registryTree(twoRegistries, map[string]string{"secrets/ghcr.age": "cadey:another token"}))
	if err != nil || mustBundle(t, again, "a") != mustBundle(t, g, "a") {
		t.Errorf("the bundle was made again, %v", err)
	}

	// And without registries all is as before they came.
	none, err := l.Load(t.Context(), registryTree("", nil))
	if err != nil || len(mustBundle(t, none, "a").Keys) > 0 {
		t.Errorf("without registries: %v", err)
	}
}

func TestRegistryProblems(t *testing.T) {
	for _, c := range []struct{ registries, file, text, want string }{
		{"registries: { ghcr: secrets/ghcr.age }\n", "", "", `bellhop.yaml:2:15: registries: "ghcr": want the name that images begin with`},
		{"registries: { hub.docker.com: secrets/ghcr.age }\n", "", "", "write docker.io"},
		{"registries: { ghcr.io: ghcr.age }\n", "", "", `bellhop.yaml:2:24: registries: ghcr.io: source "ghcr.age": want an age file, as in secrets/ghcr.age`},
		{"registries: { ghcr.io: 'secrets/{host}.age' }\n", "", "", "it can't differ from host to host"},
		{"registries: { ghcr.io: }\n", "", "", "want an age file"},
		{"registries: [ghcr.io]\n", "", "", "bellhop.yaml:2"},
		{"registries: { ghcr.io: secrets/gchr.age }\n", "", "", "no file secrets/gchr.age; did you mean"},
		{twoRegistries, "secrets/ghcr.age", "version https://git-lfs.github.com/spec/v1\noid sha256:x\nsize 1\n", "git-lfs pointer"},
	} {
		more := map[string]string{}
		if c.file != "" {
			more[c.file] = c.text
		}
		_, err := loader().Load(t.Context(), registryTree(c.registries, more))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v\nwant %s", c.registries, err, c.want)
		}
	}
}

// What only hosts with containers need keeps only them away.
func TestRegistryProblemsOfHosts(t *testing.T) {
	for _, c := range []struct{ file, text, want string }{
		{"secrets/ghcr.age", "token", "key registries: secrets/ghcr.age, the login at ghcr.io: want USER:PASSWORD in one line"},
		{"services/stack/service.yaml", "keys: { registries: { source: secrets/lan.age } }\n", "registries: the key registries of service stack has the name of the key that is made of them"},
	} {
		f, err := loader().Load(t.Context(), registryTree(twoRegistries, map[string]string{c.file: c.text}))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Bundle("a"); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("a: %v, want %s", err, c.want)
		}
		mustBundle(t, f, "c")
	}
}

// A bad login holds back the services that pull images. The others of the host come, without the key.
func TestRegistryProblemsHoldBackPulls(t *testing.T) {
	m := registryTree(twoRegistries, nil)
	two := strings.Replace(string(m["bellhop.yaml"].Data), "{ stack: true }", "{ stack: true, plain: true }", 1)
	l := loader()
	load := func(login string) *fleet.Fleet {
		f, err := l.Load(t.Context(), registryTree(twoRegistries, map[string]string{"bellhop.yaml": two, "secrets/ghcr.age": login}))
		if err != nil {
			t.Fatal(err)
		}
		return f
	}

	b, err := load("token").Partial("a")
	if err != nil {
		t.Fatal(err)
	}
	if bad := b.Broken(); len(bad) != 1 || len(bad["stack"]) != 1 {
		t.Errorf("broken: %v, want stack, which pulls an image", bad)
	}

	without := mustBundle(t, load("a:b"), "a").Manifest
	without.Keys, without.Logins = nil, ""
	for what, good := range map[string]bundle.Manifest{"a new host": {}, "one without logins": without, "one with logins": mustBundle(t, load("a:b"), "a").Manifest} {
		c := bundle.Compose(b.Manifest, good, []string{"stack"})
		hasKey := slices.ContainsFunc(c.Manifest.Keys, func(k bundle.Key) bool { return k.Path == c.Manifest.Logins })
		if (c.Manifest.Logins != "") != hasKey {
			t.Errorf("%s: logins at %q, keys %+v", what, c.Manifest.Logins, c.Manifest.Keys)
		}
		if (good.Logins != "") != hasKey {
			t.Errorf("%s: keys %+v; a login that works stays with who stays", what, c.Manifest.Keys)
		}
		if !c.Holds("stack") || c.Holds("plain") || c.Holds("") {
			t.Errorf("%s: held %+v, want stack", what, c.Held)
		}
	}
}

// A process that opens no secret asks for the logins as for the keys of a template.
func TestRegistriesOffline(t *testing.T) {
	f, err := (&fleet.Loader{}).Load(t.Context(), registryTree(twoRegistries, nil))
	if err != nil {
		t.Fatal(err)
	}
	if b := mustBundle(t, f, "a"); len(b.Keys) != 1 || b.Keys[0].Digest != "" {
		t.Errorf("keys %+v", b.Keys)
	}
}
