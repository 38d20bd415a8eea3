package conformance

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/host/machine"
)

// A bench is one test's machine, and what must leave it.
type bench struct {
	*testing.T
	m     *machine.Machine
	ctx   context.Context
	units []string
	paths []string
	users []string
}

func (b *bench) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func (b *bench) path(p string) string { return filepath.Join(b.m.Root, p) }

// write puts a file on the machine for the length of the test.
func (b *bench) write(p, text string) {
	b.Helper()
	b.must(os.MkdirAll(filepath.Dir(b.path(p)), 0o755))
	b.must(os.WriteFile(b.path(p), []byte(text), 0o644))
	b.paths = append(b.paths, p)
}

// inKeys calls f with the place for keys as the helper writes to it: by its path it is read-only.
func (b *bench) inKeys(f func(dir string)) {
	b.Helper()
	dir, err := b.m.Mounts.Writable(b.ctx)
	b.must(err)
	defer dir.Close()
	f(fmt.Sprintf("/proc/self/fd/%d", dir.Fd()))
}

// writeKey puts a key there until the test ends.
func (b *bench) writeKey(name, value string) {
	b.Helper()
	b.inKeys(func(dir string) { b.must(os.WriteFile(dir+"/"+name, []byte(value), 0o600)) })
	b.Cleanup(func() {
		b.ctx = context.Background() // that of the test is over
		b.inKeys(func(dir string) { os.Remove(dir + "/" + name) })
	})
}

// removeKey takes a key away.
func (b *bench) removeKey(name string) {
	b.Helper()
	b.inKeys(func(dir string) { b.must(os.Remove(dir + "/" + name)) })
}

// unit installs a unit file; the name gets its prefix.
func (b *bench) unit(name, text string) string {
	b.Helper()
	name = "bhconf-" + name
	b.write(bundle.UnitDir+"/"+name, strings.ReplaceAll(text, "@@", "bhconf-"))
	b.units = append(b.units, name)
	return name
}

func (b *bench) reload() { b.Helper(); b.must(b.m.Systemd.Reload(b.ctx)) }

func (b *bench) job(verb string, names ...string) map[string]error {
	return b.m.Systemd.Job(b.ctx, verb, names)
}

func (b *bench) ok(verb string, names ...string) {
	b.Helper()
	for n, err := range b.job(verb, names...) {
		b.Fatalf("Job(%s) of %s: %v, want done", verb, n, err)
	}
}

func (b *bench) refused(verb, name string) {
	b.Helper()
	if err := b.job(verb, name)[name]; err == nil {
		b.Errorf("Job(%s) of %s is done, want an error", verb, name)
	} else if !strings.Contains(err.Error(), name) {
		b.Errorf("Job(%s) of %s: %q does not name the unit", verb, name, err)
	}
}

func (b *bench) state(name string) machine.UnitState {
	b.Helper()
	states, err := b.m.Systemd.Units(b.ctx, []string{name})
	b.must(err)
	st, ok := states[name]
	if !ok {
		b.Fatalf("Units(%s) has no entry for it", name)
	}
	return st
}

func (b *bench) want(name, active string) machine.UnitState {
	b.Helper()
	st := b.state(name)
	for end := time.Now().Add(time.Minute); st.Active != active && time.Now().Before(end); st = b.state(name) {
		time.Sleep(20 * time.Millisecond)
	}
	if st.Active != active {
		b.Errorf("%s is %s (%s, %s), want %s", name, st.Active, st.Sub, st.Result, active)
	}
	return st
}

func (b *bench) clean() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for _, u := range b.units {
		if !strings.Contains(u, "@.") {
			b.m.Systemd.Job(ctx, "stop", []string{u})
		}
	}

	b.m.Systemd.Disable(ctx, b.units)
	b.m.Systemd.ResetFailed(ctx, b.units)
	for _, p := range b.paths {
		os.RemoveAll(b.path(p))
		if strings.HasSuffix(filepath.Dir(p), ".service.d") {
			os.Remove(filepath.Dir(b.path(p)))
		}
	}

	b.m.Systemd.Reload(ctx)
	if b.m.Root == "/" {
		for _, u := range b.users {
			exec.Command("userdel", u).Run()
			exec.Command("groupdel", u).Run()
		}
	}

	b.m.Systemd.Close()
}
