package fleet_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"bellhop/internal/fleet"
)

// wgTree is a fleet of three hosts with a key of their own each; ontos has no file.
func wgTree(service string, more map[string]string) fstest.MapFS {
	m := map[string]string{
		"bellhop.yaml": "network: n\nall: { services: { wg: true } }\nhosts:\n" +
			"  chrysalis: { address: a, host_key: " + hostKey("a") + " }\n" +
			"  kos-mos: { address: b, host_key: " + hostKey("b") + ", services: { wg: { peer: two } } }\n" +
			"  ontos: { address: c, host_key: " + hostKey("c") + " }\n",
		"services/wg/service.yaml":           service,
		"services/wg/wg.service":             plainUnit,
		"secrets/wg/chrysalis.age":           "key of chrysalis",
		"secrets/wg/kos-mos.age":             "key of kos-mos",
		"secrets/peers/one-0077/kos-mos.age": "the peer one of kos-mos",
		"secrets/peers/two-0077/kos-mos.age": "the peer two of kos-mos",
	}
	maps.Copy(m, more)
	return tree(m)
}

const wgService = "settings: { peer: one }\nkeys:\n  wg0: { source: 'secrets/wg/{host}.age' }\n"

// Each host is sent its own file, and the lack of one concerns its host alone.
func TestSourceOfHost(t *testing.T) {
	f := mustLoad(t, wgTree(wgService, nil))

	for _, host := range []string{"chrysalis", "kos-mos"} {
		b := mustBundle(t, f, host)
		v, err := b.Key("wg0")
		if string(v) != "key of "+host || err != nil {
			t.Errorf("wg0 of %s is %q, %v", host, v, err)
		}
		if got, want := b.Keys[0].Source, "secrets/wg/"+host+".age"; got != want {
			t.Errorf("source on %s is %s, want %s", host, got, want)
		}
	}

	_, err := f.Bundle("ontos")
	if err == nil || !strings.Contains(err.Error(), "services/wg/service.yaml:3:3: ontos: key wg0: no file secrets/wg/ontos.age") {
		t.Errorf("Bundle(ontos): %v", err)
	}
	if a, b := mustBundle(t, f, "chrysalis"), mustBundle(t, f, "kos-mos"); a.Digest == b.Digest {
		t.Error("two hosts with other keys have one digest")
	}
}

// Offline, as check and CI load it, the file is missed alike.
func TestSourceOffline(t *testing.T) {
	f, err := (&fleet.Loader{}).Load(t.Context(), wgTree(wgService, nil))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Bundle("ontos"); err == nil || !strings.Contains(err.Error(), "ontos: key wg0: no file secrets/wg/ontos.age") {
		t.Errorf("Bundle(ontos): %v", err)
	}
	mustBundle(t, f, "kos-mos")
}

// A setting in the source takes the value of the host, also within a folder's name, and a template that
// names the key is rendered with the host's own.
func TestSourceOfSetting(t *testing.T) {
	f := mustLoad(t, wgTree("settings: { peer: one, umask: 0077 }\nkeys:\n  psk: { source: 'secrets/peers/{peer}-{umask}/{host}.age' }\n", map[string]string{
		"services/wg/files/etc/wg.conf.tmpl": `psk={{ key "psk" }}`,
	}))

	b := mustBundle(t, f, "kos-mos")
	for name, want := range map[string]string{"psk": "the peer two of kos-mos", "files-etc-wg.conf": "psk=the peer two of kos-mos"} {
		if v, err := b.Key(name); string(v) != want || err != nil {
			t.Errorf("key %s is %q, %v; want %q", name, v, err, want)
		}
	}
}

func TestKeyFiles(t *testing.T) {
	f := mustLoad(t, wgTree(wgService+"  shared: { source: secrets/wg/kos-mos.age }\n", map[string]string{
		"services/wg/files/etc/wg.conf.tmpl": `{{ key "wg0" }}`,
		"services/off/service.yaml":          "keys: { idle: { source: secrets/wg/kos-mos.age }, never: { source: 'secrets/{host}.age' } }\n",
	}))

	own := func(key string) []fleet.KeyFile {
		var out []fleet.KeyFile
		for _, h := range []string{"chrysalis", "kos-mos", "ontos"} {
			out = append(out, fleet.KeyFile{Service: "wg", Key: key, Source: "secrets/wg/{host}.age", File: "secrets/wg/" + h + ".age", Hosts: []string{h}})
		}
		return out
	}
	one := "secrets/wg/kos-mos.age"
	want := slices.Concat(
		[]fleet.KeyFile{{Service: "off", Key: "idle", Source: one, File: one}}, own("files-etc-wg.conf"),
		[]fleet.KeyFile{{Service: "wg", Key: "shared", Source: one, File: one, Hosts: []string{"chrysalis", "kos-mos", "ontos"}}}, own("wg0"),
	)
	if diff := cmp.Diff(want, f.KeyFiles()); diff != "" {
		t.Errorf("KeyFiles (-want +got):\n%s", diff)
	}
	if got := f.Secrets(); !slices.Equal(got, []string{"secrets/wg/chrysalis.age", "secrets/wg/kos-mos.age", "secrets/wg/ontos.age"}) {
		t.Errorf("Secrets: %v", got)
	}
}

// A source that can't be a file is a problem of the service, or of the host whose setting makes it so.
func TestSourceProblems(t *testing.T) {
	for name, c := range map[string]struct{ service, want string }{
		"unknown name":   {"keys: { k: { source: 'secrets/{hots}.age' } }\n", `service.yaml:1:22: key k: source "secrets/{hots}.age": no setting "hots"; did you mean "host"?`},
		"no name":        {"keys: { k: { source: 'secrets/{}.age' } }\n", `no setting ""`},
		"a dash":         {"settings: { a-b: x }\nkeys: { k: { source: 'secrets/{a-b}.age' } }\n", `no setting "a-b"`},
		"an open brace":  {"keys: { k: { source: 'secrets/{host.age' } }\n", "a brace without its partner"},
		"not an age":     {"keys: { k: { source: 'secrets/{host}' } }\n", "want an age file"},
		"out of secrets": {"keys: { k: { source: 'hosts/{host}.age' } }\n", "want an age file"},
		"dots":           {"keys: { k: { source: 'secrets/../{host}.age' } }\n", "want an age file"},
	} {
		if _, err := loader().Load(t.Context(), wgTree(c.service, nil)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v\nwant %s", name, err, c.want)
		}
	}

	for value, want := range map[string]string{
		`a/b`: "no part of a file name", `..`: "no part of a file name", `.x`: "no part of a file name", `'a..b'`: "no part of a file name",
		`''`: "is empty", `"a\nb"`: "no part of a file name", `"a\x7fb"`: "no part of a file name",
	} {
		f := mustLoad(t, wgTree("settings: { peer: "+value+" }\nkeys: { k: { source: 'secrets/{peer}.age' } }\n", map[string]string{"secrets/two.age": "x"}))
		if _, err := f.Bundle("chrysalis"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("peer %s: %v\nwant %s", value, err, want)
		}
		mustBundle(t, f, "kos-mos") // which sets the peer itself
	}

	f := mustLoad(t, wgTree("settings: { peer: one, list: [a], map: { a: b } }\nkeys: { k: { source: 'secrets/{list}{map}.age' } }\n", nil))
	if _, err := f.Bundle("chrysalis"); err == nil || !strings.Contains(err.Error(), "setting list is a list") || !strings.Contains(err.Error(), "setting map is a mapping") {
		t.Errorf("a list and a mapping in a source: %v", err)
	}
}

// Two services that share a key by name share it only where both mean one file.
func TestSourceSharedBySetting(t *testing.T) {
	service := "settings: { who: a }\nkeys: { k: { source: 'secrets/{who}.age', user: root } }\n"
	f := mustLoad(t, tree(map[string]string{
		"bellhop.yaml": "network: n\nhosts:\n  same: { address: a, host_key: " + hostKey("a") + ", services: { one: true, two: true } }\n" +
			"  other: { address: b, host_key: " + hostKey("b") + ", services: { one: true, two: { who: b } } }\n",
		"services/one/service.yaml": service, "services/two/service.yaml": service,
		"secrets/a.age": "a", "secrets/b.age": "b",
	}))
	mustBundle(t, f, "same")
	if _, err := f.Bundle("other"); err == nil || !strings.Contains(err.Error(), "services one and two both have the key k, which comes from secrets/b.age here and from secrets/a.age there") {
		t.Errorf("Bundle(other): %v", err)
	}
}

// A later tree that brings the file, or another value in it, changes the host whose file it is.
func TestSourceComesLater(t *testing.T) {
	l := loader()
	before, err := l.Load(t.Context(), wgTree(wgService, nil))
	if err != nil {
		t.Fatal(err)
	}
	was := mustBundle(t, before, "chrysalis").Digest

	after, err := l.Load(t.Context(), wgTree(wgService, map[string]string{"secrets/wg/ontos.age": "new", "secrets/wg/kos-mos.age": "changed"}))
	if err != nil {
		t.Fatal(err)
	}
	if v, err := mustBundle(t, after, "ontos").Key("wg0"); string(v) != "new" || err != nil {
		t.Errorf("wg0 of ontos is %q, %v", v, err)
	}
	if now := mustBundle(t, after, "chrysalis").Digest; now != was {
		t.Error("the digest of chrysalis changed with the files of others")
	}
	if mustBundle(t, before, "kos-mos").Digest == mustBundle(t, after, "kos-mos").Digest {
		t.Error("the digest of kos-mos stayed with another value")
	}
}
