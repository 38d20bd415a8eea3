package fleet_test

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet"
)

const system1, system2 = "/nix/store/0ajz40m7nklbncf2czaz0iinq4frg726-nixos-system-a", "/nix/store/82q1z98fnlj65lmh9fs2dlq60kycq3fb-nixos-system-a"

// nixosFleet has a NixOS host a, one with services b, and a host c that is none.
func nixosFleet(services string) fstest.MapFS {
	return tree(map[string]string{
		"bellhop.yaml": "network: n\nhosts:\n" +
			"  a: { address: 10.0.0.1, host_key: " + hostKey("a") + ", nixos: .#a, services: " + services + " }\n" +
			"  b: { address: 10.0.0.2, host_key: " + hostKey("b") + ", nixos: { file: hosts/b.nix, attr: nodes.b } }\n" +
			"  c: { address: 10.0.0.3, host_key: " + hostKey("c") + " }\n",
		"services/keys/service.yaml": "keys: { k: { source: secrets/k.age, user: web } }\n",
		"services/web/web.service":   plainUnit,
		"secrets/k.age":              "value of k",
		"secrets/db.age":             "value of db",
	})
}

// A nixWorld answers for Nix.
type nixWorld struct {
	asked   []string // hosts of each call
	results map[string]*fleet.HostSystem
}

func (w *nixWorld) loader() *fleet.Loader {
	l := loader()
	l.Systems = func(_ context.Context, _ fs.FS, commit string, hosts []*fleet.Host) map[string]*fleet.HostSystem {
		var names []string
		for _, h := range hosts {
			names = append(names, h.Name+"="+h.NixOS.File+"#"+h.NixOS.Attr)
		}
		w.asked = append(w.asked, commit+": "+strings.Join(names, " "))
		return w.results
	}
	return l
}

func TestBundleHasTheSystem(t *testing.T) {
	w := &nixWorld{results: map[string]*fleet.HostSystem{
		"a": {Path: system1, Keys: []fleet.SystemKey{
			{Key: bundle.Key{Name: "db", Path: "/run/keys/db", User: "blog", Group: "root", Mode: 0o400}, File: "secrets/db.age"},
			{Key: bundle.Key{Name: "text", Path: "/run/keys/text", User: "root", Group: "root", Mode: 0o400}, Value: func() ([]byte, error) { return []byte("t"), nil }},
		}},
		"b": {Err: &fleet.SystemError{Text: "the disk is too small", Lines: []string{"error: the disk is too small"}}},
	}}
	l := w.loader()
	f, err := l.Load(t.Context(), nixosFleet("{ keys: true }"))
	if err != nil {
		t.Fatal(err)
	}
	f.ResolveSystems(t.Context(), "c1")
	if want := []string{"c1: a=#a b=hosts/b.nix#nodes.b"}; !slices.Equal(w.asked, want) {
		t.Errorf("asked for %q, want %q", w.asked, want)
	}

	a, err := f.Bundle("a")
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, k := range a.Keys {
		keys = append(keys, k.Name+" of "+k.Service)
		if k.Digest == "" {
			t.Errorf("key %s has no digest", k.Name)
		}
	}
	if a.System == nil || a.System.Path != system1 || !slices.Equal(keys, []string{"db of nixos", "k of keys", "text of nixos"}) {
		t.Errorf("the bundle has system %v and keys %v", a.System, keys)
	}
	for name, want := range map[string]string{"db": "value of db", "k": "value of k", "text": "t"} {
		if v, err := a.Key(name); err != nil || string(v) != want {
			t.Errorf("Key(%s) = %q, %v", name, v, err)
		}
	}
	for _, f := range a.Files {
		if !strings.HasPrefix(f.Path, bundle.RunUnitDir+"/") {
			t.Errorf("a NixOS host gets the file %s, where /etc is read-only", f.Path)
		}
	}
	if i := slices.IndexFunc(a.Units, func(u bundle.Unit) bool { return u.Name == "k-key.service" }); i < 0 ||
		!slices.Equal(a.Units[i].Files, []string{bundle.RunUnitDir + "/k-key.service"}) || len(a.Files) == 0 {
		t.Errorf("units %+v, files %+v: want the key unit of k below /run", a.Units, a.Files)
	}
	if got := a.KeySources("db"); !slices.Equal(got, []string{"secrets/db.age"}) {
		t.Errorf("KeySources(db) = %v", got)
	}

	var failed *fleet.SystemError
	if _, err := f.Bundle("b"); !errors.As(err, &failed) || len(failed.Lines) != 1 {
		t.Errorf("Bundle(b): %v, want the error of its system", err)
	}
	if c, err := f.Bundle("c"); err != nil || c.System != nil {
		t.Errorf("a host that is none: %v, %v", c, err)
	}
}

func TestSystemIsInTheDigest(t *testing.T) {
	w := &nixWorld{results: map[string]*fleet.HostSystem{"a": {Path: system1}, "b": {Path: system1}}}
	l := w.loader()
	load := func() (*fleet.Fleet, *fleet.Bundle) {
		f, err := l.Load(t.Context(), nixosFleet("{}"))
		if err != nil {
			t.Fatal(err)
		}
		f.ResolveSystems(t.Context(), "c1")
		b, err := f.Bundle("a")
		if err != nil {
			t.Fatal(err)
		}
		return f, b
	}
	f1, first := load()
	_, again := load()
	if again != first {
		t.Error("the same tree and system made another bundle")
	}
	w.results["a"] = &fleet.HostSystem{Path: system2}
	f2, other := load()
	if other == first || other.Digest == first.Digest || other.Kind() == first.Kind() {
		t.Error("another system made the same bundle")
	}
	if !slices.ContainsFunc(f2.Changed(f1), func(h *fleet.Host) bool { return h.Name == "a" }) {
		t.Error("Changed leaves out the NixOS host, whose system differs")
	}
	if got := other.Composed(first.Manifest, nil, nil).Wanted(); got != other.Digest {
		t.Errorf("a bundle composed of it wants %s, want %s", got, other.Digest)
	}
}

func TestSystemFollowsTheValueOfItsKeys(t *testing.T) {
	key := fleet.SystemKey{Key: bundle.Key{Name: "db", Path: "/run/keys/db", User: "root", Group: "root", Mode: 0o400}, File: "secrets/db.age"}
	w := &nixWorld{results: map[string]*fleet.HostSystem{"a": {Path: system1, Keys: []fleet.SystemKey{key}}, "b": {Path: system1}}}
	l := w.loader()
	l.Open = fs.ReadFile
	var digests []string
	for _, value := range []string{"one", "two"} {
		tree := nixosFleet("{}")
		tree["secrets/db.age"] = &fstest.MapFile{Data: []byte(value)}
		f, err := l.Load(t.Context(), tree)
		if err != nil {
			t.Fatal(err)
		}
		f.ResolveSystems(t.Context(), "")
		b, err := f.Bundle("a")
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, b.Digest)
	}
	if digests[0] == digests[1] {
		t.Error("another value of a key made the same bundle")
	}
}

func TestNixOSHostTakesOnlyKeysFromServices(t *testing.T) {
	w := &nixWorld{results: map[string]*fleet.HostSystem{"a": {Path: system1}, "b": {Path: system1}}}
	f, err := w.loader().Load(t.Context(), nixosFleet("{ web: true }"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Bundle("a"); err == nil || !strings.Contains(err.Error(), "service web brings the unit web.service") {
		t.Errorf("a unit on a NixOS host: %v", err)
	}
}

func TestNixOSProblems(t *testing.T) {
	for text, want := range map[string]string{
		"a":                                  "want .#NAME",
		".#":                                 "want .#NAME",
		".#a b":                              "want the name of one",
		"\".#a;builtins\"":                   "want the name of one",
		"{ file: ../x.nix }":                 "want a Nix file of this repo",
		"{ file: /etc/x.nix }":               "want a Nix file of this repo",
		"{ file: x.txt }":                    "want a Nix file of this repo",
		"{ file: x.nix, attr: \"a b\" }":     "want attributes",
		"{ file: x.nix, build_on: moon }":    "want build_on: target",
		"{ flie: x.nix }":                    "flie",
		"{ attr: \"a${builtins.currentS}\"}": "want the name of one",
		"[]":                                 "want text",
	} {
		m := tree(map[string]string{"bellhop.yaml": "network: n\nhosts:\n  a:\n    address: 10.0.0.1\n    host_key: " + hostKey("a") + "\n    nixos: " + text + "\n"})
		l := loader()
		if _, err := l.Load(t.Context(), m); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "bellhop.yaml:6:") {
			t.Errorf("nixos: %s: %v, want %q at line 6", text, err, want)
		}
	}
}
