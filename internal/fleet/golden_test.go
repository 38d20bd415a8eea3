package fleet_test

import (
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/rogpeppe/go-internal/txtar"

	"bellhop/internal/bundle"
)

// goldenDigests are the digests that the first release gave to the hosts of golden.txtar. They never
// change: a release that computes another one restarts services on every host that it takes over. What
// a later release adds is left out of the digest where a repo does not use it.
var goldenDigests = map[string]string{
	"chrysalis": "b04fbbe47bd817bf310af9a3a9dfadebb20c3a9128f4e3433066e81b89c0d270",
	"kos-mos":   "9bb989d5abcb5c064f3a09084c2fce2445b6b062cbac9dd298aa4cde30876ec3",
	"lufta":     "f0a78bd3efd756421a01ec97f82d0de4f61d22e956876900793561e42e701bc4",
	"ontos":     "b2d530edc29637b0b30be61de53ca7b0ba3c6a33bb1580723cc8f6e4d66f796f",
}

// goldenTree is testdata/golden.txtar with real keys in it.
func goldenTree(t *testing.T) fs.FS {
	t.Helper()
	a, err := txtar.ParseFile("testdata/golden.txtar")
	if err != nil {
		t.Fatal(err)
	}

	files := map[string]string{}
	for _, f := range a.Files {
		text := strings.ReplaceAll(string(f.Data), "DEPLOYERKEY", hostKey("deployer"))
		for _, h := range []string{"chrysalis", "kos-mos", "lufta", "ontos"} {
			text = strings.ReplaceAll(text, "HOSTKEY "+h, hostKey(h))
		}
		files[f.Name] = text
	}

	m := tree(files)
	m["services/jobs/jobs.sh"].Mode = 0o755
	m["services/web/files/etc/web/link"] = &fstest.MapFile{Mode: fs.ModeSymlink | 0o777, Data: []byte("peers")}
	return m
}

// A repo that uses nothing new keeps the digests of its bundles over an upgrade.
func TestGoldenDigests(t *testing.T) {
	f := mustLoad(t, goldenTree(t))

	for _, h := range f.Hosts {
		b := mustBundle(t, f, h.Name)
		if b.Digest != goldenDigests[h.Name] {
			t.Errorf("digest of %s is %q, was %q", h.Name, b.Digest, goldenDigests[h.Name])
			for _, file := range b.Files {
				if data, err := b.File(file.Digest); err == nil && file.User == "root" {
					t.Logf("%s %s %s\n%s", h.Name, file.Path, bundle.DigestBytes(data)[:12], data)
				}
			}
		}
	}
	if len(f.Hosts) != len(goldenDigests) {
		t.Errorf("%d hosts, want %d", len(f.Hosts), len(goldenDigests))
	}
}
