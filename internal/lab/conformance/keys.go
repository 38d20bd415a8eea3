package conformance

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"bellhop/internal/bundle"
)

// The place for keys, and the sealed copies that outlive a reboot.

// writable tries the helper's own way into the place for keys: what is made there is seen by its
// path, and where the place is closed nothing can be made by that path.
func (b *bench) writable() {
	b.Helper()
	f, err := b.m.Mounts.Writable(b.ctx)
	b.must(err)
	defer f.Close()
	at := fmt.Sprintf("/proc/self/fd/%d/bhconf-key", f.Fd())
	defer os.Remove(at)
	b.must(os.WriteFile(at, []byte("value"), 0o600))
	if got, err := os.ReadFile(b.path(bundle.KeyDir + "/bhconf-key")); string(got) != "value" {
		b.Errorf("what was made is seen as %q, %v", got, err)
	}

	err = os.WriteFile(b.path(bundle.KeyDir+"/bhconf-other"), nil, 0o600)
	os.Remove(b.path(bundle.KeyDir + "/bhconf-other"))
	if real := b.m.Root == "/"; real && b.m.Mounts.Open() == nil && !errors.Is(err, unix.EROFS) {
		b.Errorf("write by path: %v, want it read-only", err)
	}
}

func placeForKeys(b *bench) {
	for range 2 {
		kind, err := b.m.Mounts.Keys(b.ctx)
		if err != nil || kind != "ramfs" && kind != "tmpfs" {
			b.Fatalf("Keys() = %q, %v", kind, err)
		}
	}

	fi, err := os.Stat(b.path(bundle.KeyDir))
	b.must(err)
	if !fi.IsDir() || fi.Mode().Perm() != 0o750 {
		b.Errorf("%s has mode %v, want 0750", bundle.KeyDir, fi.Mode())
	}

	b.owned(bundle.KeyDir, "root", bundle.KeyGroup)
	b.writable()
	b.writeKey("bhconf-stays", "x")
	if _, err := b.m.Mounts.Keys(b.ctx); err != nil {
		b.Error(err)
	}
	if _, err := os.Stat(b.path(bundle.KeyDir + "/bhconf-stays")); err != nil {
		b.Errorf("Keys() lost a key: %v", err)
	}
}

func sealedCopies(b *bench) {
	p := b.path(bundle.SealedDir)
	b.paths = append(b.paths, bundle.SealedDir+"/bhconf-one", bundle.SealedDir+"/bhconf-two")
	m := b.m.Mounts
	for _, value := range []string{"first\x00value\n", "", strings.Repeat("x", 100_000)} {
		b.must(m.Seal(b.ctx, "bhconf-one", []byte(value)))
		if !m.Opens(b.ctx, "bhconf-one", []byte(value)) {
			b.Errorf("the copy of %d bytes does not open", len(value))
		}
		if m.Opens(b.ctx, "bhconf-one", []byte(value+"x")) {
			b.Error("the copy opens as another value")
		}
	}

	fi, err := os.Stat(p + "/bhconf-one")
	b.must(err)
	if fi.Mode().Perm() != 0o600 {
		b.Errorf("sealed copy has mode %o, want 600", fi.Mode().Perm())
	}
	if es, _ := filepath.Glob(p + "/.new*"); len(es) > 0 {
		b.Errorf("left behind: %v", es)
	}

	b.must(m.Seal(b.ctx, "bhconf-one", []byte("v")))
	text, err := os.ReadFile(p + "/bhconf-one")
	b.must(err)
	b.must(os.WriteFile(p+"/bhconf-two", text, 0o600))
	if m.Opens(b.ctx, "bhconf-two", []byte("v")) {
		b.Error("a copy opens under another name")
	}

	text[len(text)-5] ^= 1
	b.must(os.WriteFile(p+"/bhconf-one", text, 0o600))
	if m.Opens(b.ctx, "bhconf-one", []byte("v")) || m.Opens(b.ctx, "bhconf-none", []byte("v")) {
		b.Error("a broken or missing copy opens")
	}
}
