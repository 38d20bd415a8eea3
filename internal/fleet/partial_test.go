package fleet

import (
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"slices"
	"testing"
	"testing/fstest"

	"bellhop/internal/bundle"
)

func partialTree(more map[string]string) fstest.MapFS {
	files := map[string]string{
		"bellhop.yaml":                    "network: n\nhosts:\n  a: { address: 10.0.0.1, host_key: " + boundsKey + ", services: { one: true, two: true, three: true } }\n",
		"services/one/service.yaml":       "keys: [db]\nuser: { name: app, extra_groups: [media] }\nneeds: [git]\n",
		"services/one/one.service":        "[Service]\nExecStart=/bin/one\n[Install]\nWantedBy=multi-user.target\n",
		"services/two/service.yaml":       "keys: [db]\nuser: app\nneeds: [git]\n",
		"services/two/two.service":        "[Service]\nExecStart=/bin/two\n[Install]\nWantedBy=multi-user.target\n",
		"services/three/service.yaml":     "settings: { port: 80 }\n",
		"services/three/files/etc/3.conf": "three\n",
		"services/three/files/etc/t.tmpl": "{{.Settings.port}} {{.Host.Name}}\n",
		"services/three/three.service":    "[Service]\nExecStart=/bin/three\n[Install]\nWantedBy=multi-user.target\n",
		"secrets/db.age":                  "value of db",
	}
	for name, text := range more {
		files[name] = text
	}
	m := fstest.MapFS{}
	for name, text := range files {
		m[name] = &fstest.MapFile{Data: []byte(text), Mode: 0o644}
	}
	return m
}

// What two services claim is listed, the same by the process that loads and by this one.
func TestSharedThings(t *testing.T) {
	far := farLoader(t)
	here := &Loader{Open: far.Open, KeyDigest: far.KeyDigest, Arch: far.Arch}
	want := []bundle.Shared{}
	both := []string{"one", "two"}
	for _, thing := range []string{"account:app", "file:/etc/systemd/system/db-key.service", "group:app", "group:media", "key:db", "need:git", "unit:db-key.service"} {
		want = append(want, bundle.Shared{Resource: thing, Services: both})
	}
	want[3].Services = []string{"one"}

	for _, l := range []*Loader{here, far} {
		f, err := l.Load(t.Context(), partialTree(nil))
		if err != nil {
			t.Fatal(err)
		}
		b, err := f.Bundle("a")
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(b.Shared, want) {
			t.Errorf("shared:\n%+v\nwant\n%+v", b.Shared, want)
		}
	}
}

// A host with a service that can't be made has a partial bundle, of this process and of the other: it
// says which service, and the others compose.
func TestPartial(t *testing.T) {
	far := farLoader(t)
	open := func(tree fs.FS, path string) ([]byte, error) {
		if path == "secrets/bad.age" {
			return nil, errors.New("no identity opens it")
		}
		return fs.ReadFile(tree, path)
	}
	far.Open = open
	here := &Loader{Open: open, KeyDigest: far.KeyDigest, Arch: far.Arch}
	broken := partialTree(map[string]string{"services/two/service.yaml": "keys: [db, bad]\nuser: app\nneeds: [git]\n", "secrets/bad.age": "x", "services/three/files/etc/3.conf": "new\n"})

	for _, l := range []*Loader{here, far} {
		f, err := l.Load(t.Context(), partialTree(nil))
		if err != nil {
			t.Fatal(err)
		}
		old, err := f.Bundle("a")
		if err != nil {
			t.Fatal(err)
		}

		if f, err = l.Load(t.Context(), broken); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Bundle("a"); err == nil {
			t.Fatal("Bundle gave a host whole of which a secret does not open")
		}
		b, err := f.Partial("a")
		if err != nil {
			t.Fatal(err)
		}
		bad := b.Broken()
		if len(bad) != 1 || len(bad["two"]) != 1 || bad["two"][0].Error() != "secrets/bad.age: a: key bad: no identity opens it" {
			t.Errorf("broken: %v", bad)
		}

		c := bundle.Compose(b.Manifest, old.Manifest, []string{"two"})
		if !c.Holds("one") || !c.Holds("two") || c.Holds("three") {
			t.Errorf("held: %+v", c.Held)
		}
		composed := b.Composed(c.Manifest, []string{"one", "two"}, func() ([]*Bundle, error) { return []*Bundle{old}, nil })
		for _, f := range composed.Files {
			if p, err := composed.File(f.Digest); err != nil || bundle.DigestBytes(p) != f.Digest {
				t.Errorf("%s: %q, %v", f.Path, p, err)
			}
		}
		if v, err := composed.Key("db"); err != nil || string(v) != "value of db" || len(composed.Keys) != 1 {
			t.Errorf("key db of %v: %q, %v", composed.Keys, v, err)
		}
		if composed.Kind() == b.Kind() || composed.Digest != c.Manifest.Digest() {
			t.Error("the composed bundle is taken for the partial one")
		}
	}
}

// The value of a key that an older bundle is asked for, and does not have, is an error of its own.
func TestComposedWithoutOlder(t *testing.T) {
	l := &Loader{Open: func(tree fs.FS, path string) ([]byte, error) { return fs.ReadFile(tree, path) }, KeyDigest: func(v []byte) string { return fmt.Sprintf("%x", v) }}
	f, err := l.Load(t.Context(), partialTree(nil))
	if err != nil {
		t.Fatal(err)
	}
	b, err := f.Bundle("a")
	if err != nil {
		t.Fatal(err)
	}

	last := b.Manifest
	last.Keys = slices.Clone(last.Keys)
	last.Keys[0].Digest = "another value"
	c := bundle.Compose(b.Manifest, last, []string{"one"})
	for _, older := range []func() ([]*Bundle, error){
		func() ([]*Bundle, error) { return nil, errors.New("git is away") },
		func() ([]*Bundle, error) { return []*Bundle{b}, nil },
	} {
		if _, err := b.Composed(c.Manifest, []string{"one", "two"}, older).Key("db"); !errors.Is(err, ErrKeptKey) {
			t.Errorf("Key = %v, want %v", err, ErrKeptKey)
		}
	}
}
