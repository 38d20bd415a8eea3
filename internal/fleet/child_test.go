package fleet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"bellhop/internal/confine"
	"bellhop/internal/fleet/problem"
)

func farLoader(t testing.TB) *Loader {
	l := &Loader{Confined: ConfinedTest,
		Open:      func(tree fs.FS, path string) ([]byte, error) { return fs.ReadFile(tree, path) },
		KeyDigest: func(v []byte) string { return fmt.Sprintf("%x", len(v)) + strings.ToUpper(string(v[:min(3, len(v))])) },
		Arch:      func(string) string { return "amd64" },
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// TestFarFleet: a fleet from another process is the one from this process.
func TestFarFleet(t *testing.T) {
	m := boundsTree(map[string]string{
		"services/web/service.yaml":          "keys: [db]\nsettings: { port: 80 }\n",
		"services/web/web.service":           "[Service]\nExecStart=/bin/true\nOpenFile=/etc/x\n[Install]\nWantedBy=multi-user.target\n",
		"services/web/files/etc/x.tmpl":      "{{.Host.Name}} {{.Settings.port}}\n",
		"services/web/files/etc/s.conf.tmpl": "password={{key \"pw\"}}\n",
		"secrets/db.age":                     "value of db",
		"secrets/pw.age":                     "hunter2",
	})
	here := &Loader{}
	far := farLoader(t)
	here.Open, here.KeyDigest, here.Arch = far.Open, far.KeyDigest, far.Arch

	a, err := here.Load(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	b, err := far.Load(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	ab, err := a.Bundle("a")
	if err != nil {
		t.Fatal(err)
	}
	bb, err := b.Bundle("a")
	if err != nil {
		t.Fatal(err)
	}
	if ab.Digest != bb.Digest || bb.Manifest.Digest() != bb.Digest {
		t.Errorf("digests %s and %s, and %s of what came", ab.Digest, bb.Digest, bb.Manifest.Digest())
	}
	for _, f := range ab.Files {
		x, err1 := ab.File(f.Digest)
		y, err2 := bb.File(f.Digest)
		if string(x) != string(y) || err1 != nil || err2 != nil {
			t.Errorf("%s is %q, %v here and %q, %v there", f.Path, x, err1, y, err2)
		}
	}
	for _, k := range ab.Keys {
		x, err1 := ab.Key(k.Name)
		y, err2 := bb.Key(k.Name)
		if string(x) != string(y) || err1 != nil || err2 != nil {
			t.Errorf("key %s is %q, %v here and %q, %v there", k.Name, x, err1, y, err2)
		}
		if x, y := ab.KeySources(k.Name), bb.KeySources(k.Name); len(x) == 0 || !slices.Equal(x, y) {
			t.Errorf("key %s is made of %q here and of %q there", k.Name, x, y)
		}
	}
	if here, there := ab.TooNew(252), bb.TooNew(252); len(here) == 0 || !maps.Equal(here, there) {
		t.Errorf("too new for systemd 252: %q here and %q there", here, there)
	}
	if len(ab.Keys) != 2 || fmt.Sprint(a.KeyFiles()) != fmt.Sprint(b.KeyFiles()) {
		t.Errorf("%d keys; files %v here and %v there", len(ab.Keys), a.KeyFiles(), b.KeyFiles())
	}

	far.Close() // the process is gone; what it made is made again
	for _, k := range bb.Keys {
		if v, err := bb.Key(k.Name); err != nil || len(v) == 0 {
			t.Errorf("key %s of a fleet whose process is gone: %q, %v", k.Name, v, err)
		}
	}
}

// TestFarChanges: the next tree costs what differs, and what does not keeps its bundle.
func TestFarChanges(t *testing.T) {
	far := farLoader(t)
	base := boundsTree(map[string]string{
		"bellhop.yaml": "network: n\nhosts:\n" + strings.Join([]string{
			"  a: { address: 10.0.0.1, host_key: " + boundsKey + ", services: { web: true } }",
			"  b: { address: 10.0.0.2, host_key: " + boundsKey + ", services: { other: true } }"}, "\n"),
		"services/other/files/etc/o.conf": "o",
		"services/web/files/etc/y.conf":   "y",
	})
	load := func(m fstest.MapFS) (*Fleet, map[string]*Bundle) {
		t.Helper()
		f, err := far.Load(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		bs := map[string]*Bundle{}
		for _, h := range f.Hosts {
			if bs[h.Name], err = f.Bundle(h.Name); err != nil {
				t.Fatal(err)
			}
		}
		return f, bs
	}
	f1, b1 := load(base)

	next := fstest.MapFS{}
	for k, v := range base {
		next[k] = v
	}
	next["services/web/files/etc/web.conf"] = &fstest.MapFile{Data: []byte("changed")}
	f2, b2 := load(next)
	if b1["b"] != b2["b"] || b1["a"].Digest == b2["a"].Digest {
		t.Errorf("b has another bundle, or a the same")
	}
	if changed := f2.Changed(f1); len(changed) != 1 || changed[0].Name != "a" {
		t.Errorf("Changed = %v, want a", changed)
	}
	if got := b2["a"].Manifest.Digest(); got != b2["a"].Digest {
		t.Errorf("the manifest that was put together has the digest %s, want %s", got, b2["a"].Digest)
	}
	for _, file := range b2["a"].Files {
		if _, err := b2["a"].File(file.Digest); err != nil {
			t.Error(err)
		}
	}

	f3, b3 := load(base)
	if b3["a"].Digest != b1["a"].Digest || len(f3.Changed(f2)) != 1 {
		t.Errorf("back again: %s, want %s; changed %v", b3["a"].Digest, b1["a"].Digest, f3.Changed(f2))
	}
}

// TestFarLastHostLeaves: a fleet may end up with no host, and get one again.
func TestFarLastHostLeaves(t *testing.T) {
	far := farLoader(t)
	with := boundsTree(map[string]string{
		"bellhop.yaml": "network: n\nhosts:\n  a: { address: 10.0.0.1, host_key: " + boundsKey + ", services: { web: true } }\n"})
	without := boundsTree(map[string]string{"bellhop.yaml": "network: n\nhosts:\n"})
	for i, m := range []fstest.MapFS{with, without, without, with} {
		f, err := far.Load(t.Context(), m)
		if err != nil {
			t.Fatalf("load %d: %v", i, err)
		}
		_, has := f.Host("a")
		if want := i == 0 || i == 3; has != want || len(f.Hosts) > 1 {
			t.Errorf("load %d: %d hosts, with a %v, want %v", i, len(f.Hosts), has, want)
		}
	}
}

// TestFarBounds: what no budget foresees ends the process, and the commit is refused by file and
// reason; the next one loads.
func TestFarBounds(t *testing.T) {
	good := boundsTree(nil)
	for name, c := range map[string]struct {
		m       fstest.MapFS
		memory  int64
		timeout time.Duration
		want    string
	}{
		"too much memory": {largeTree(), 64 << 20, DefaultTimeout, "memory"},
		"too long":        {slowTree(good), 0, 5 * time.Second, "takes longer than"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.memory > 0 && !confine.LimitsMemory {
				t.Skip("memory is not limited here")
			}
			l := farLoader(t)
			l.Confined = &confine.Config{Argv: ConfinedTest.Argv, Memory: c.memory}
			l.Timeout = c.timeout
			_, err := l.Load(t.Context(), c.m)
			var ps problem.Problems
			if !errors.As(err, &ps) || len(ps) != 1 || !strings.Contains(ps[0].Message, c.want) || ps[0].File == "" {
				t.Fatalf("Load = %v, want one problem with a file that says %s", err, c.want)
			}
			l.Timeout = 0
			l.Confined = ConfinedTest
			if _, err := l.Load(t.Context(), good); err != nil {
				t.Errorf("the next commit: %v", err)
			}
		})
	}
}

// largeTree has 240 MiB in files, each as large as a file may be, which a load without hashes keeps.
func largeTree() fstest.MapFS {
	large := &fstest.MapFile{Data: bytes.Repeat([]byte("x"), 30<<20), Mode: 0o644}
	m := boundsTree(nil)
	for i := range 8 {
		m[fmt.Sprintf("services/web/files/etc/large%d", i)] = large
	}
	return m
}

// slowTree has a template that turns as long as it may, for many hosts: a load takes minutes.
func slowTree(fstest.MapFS) fstest.MapFS {
	var b strings.Builder
	b.WriteString("network: n\nall:\n  services: { web: true }\nhosts:\n")
	for i := range 200 {
		fmt.Fprintf(&b, "  h%d: { address: 10.0.0.%d, host_key: %s }\n", i, i, boundsKey)
	}
	return boundsTree(map[string]string{"bellhop.yaml": b.String(), "services/web/files/etc/x.tmpl": "{{.Host.Name}}{{range 900000}}{{end}}"})
}

// TestFarCancel: a load ends with its context, and refuses nothing.
func TestFarCancel(t *testing.T) {
	l := farLoader(t)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(300*time.Millisecond, cancel)
	_, err := l.Load(ctx, slowTree(nil))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Load = %v, want it cancelled", err)
	}
}

// TestFarProblems: problems come over as they are here.
func TestFarProblems(t *testing.T) {
	m := boundsTree(map[string]string{"services/web/service.yaml": "usr: x\n", "services/web/files/etc/x.tmpl": "{{.Nope}}"})
	_, here := (&Loader{}).Load(t.Context(), m)
	_, far := farLoader(t).Load(t.Context(), m)
	if here == nil || far == nil || here.Error() != far.Error() {
		t.Errorf("here\n%v\nthere\n%v", here, far)
	}
}

// TestFarManyProblems: the one that counts the rest stays the last.
func TestFarManyProblems(t *testing.T) {
	m := boundsTree(map[string]string{"services/web/service.yaml": strings.Repeat("x: 1\n", 500)})
	var ps problem.Problems
	if _, err := farLoader(t).Load(t.Context(), m); !errors.As(err, &ps) || len(ps) != problem.Max+1 {
		t.Fatalf("%d problems, want 101", len(ps))
	}
	again := ps.Capped()
	if last := again[len(again)-1]; last.Message != "and 400 more" && last.Message != "and 399 more" {
		t.Errorf("the last is %v", last)
	}
}

// BenchmarkFarCold is what a process costs, from its start to the fleet.
func BenchmarkFarCold(b *testing.B) {
	m := boundsTree(nil)
	for b.Loop() {
		l := &Loader{Confined: ConfinedTest}
		if _, err := l.Load(b.Context(), m); err != nil {
			b.Fatal(err)
		}
		l.Close()
	}
}

// TestFarOddNames: a name that is no UTF-8 is told alike, and only where it is read.
func TestFarOddNames(t *testing.T) {
	for name, want := range map[string]bool{
		"junk/caf\xe9": false, "\xff": false, "services/web/files/etc/caf\xe9": true, "services/web/caf\xe9": true, "hosts/caf\xe9": true,
		"hosts/a\x1b[2J.yaml": true, "services/caf\xe9/x": true,
	} {
		m := boundsTree(map[string]string{name: "x"})
		_, here := (&Loader{}).Load(t.Context(), m)
		_, far := farLoader(t).Load(t.Context(), m)
		if (here != nil) != want || fmt.Sprint(here) != fmt.Sprint(far) {
			t.Errorf("%q: %v here and %v there, want an error: %v", name, here, far, want)
		}
	}
}
