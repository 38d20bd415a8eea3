package look_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"bellhop/internal/bundle"
	"bellhop/internal/host/look"
	"bellhop/internal/host/owned"
	"bellhop/internal/host/state"
	"bellhop/internal/lab"
)

// looked is what a look sees on m.
func looked(t *testing.T, m *lab.Machine, ask bundle.Look) *bundle.Seen {
	t.Helper()
	s, err := look.Host(t.Context(), state.Of(m.Host()), ask)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A kernel whose modules an upgrade removed can load none any more. A container has the kernel of another
// machine, and a host without any modules may have all in its kernel.
func TestRunningKernelWithoutModules(t *testing.T) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	kernel := unix.ByteSliceToString(u.Release[:])

	for _, c := range []struct {
		name  string
		files []string
		want  bool
	}{
		{"no modules at all", nil, false},
		{"its own", []string{"/lib/modules/" + kernel + "/modules.dep"}, false},
		{"its own and newer ones", []string{"/lib/modules/" + kernel + "/modules.dep", "/lib/modules/99.0/modules.dep"}, false},
		{"newer ones alone", []string{"/lib/modules/99.0/modules.dep"}, true},
		{"in a container", []string{"/lib/modules/99.0/modules.dep", "/run/systemd/container"}, false},
	} {
		m := lab.NewMachine(t.TempDir())
		for _, f := range c.files {
			if err := m.Plant(f, "x"); err != nil {
				t.Fatal(err)
			}
		}
		s := looked(t, m, bundle.Look{})
		if s.RebootRequired != c.want || strings.Contains(s.RebootReason, kernel) != c.want {
			t.Errorf("%s: reboot required %v (%s), want %v", c.name, s.RebootRequired, s.RebootReason, c.want)
		}
	}
}

// A host without a record has nothing of bellhop's.
func TestLookWithoutARecord(t *testing.T) {
	m := lab.NewMachine(t.TempDir())
	s := looked(t, m, bundle.Look{Contents: []string{"/etc/passwd"}})
	if s.Generation != 0 || s.DriftCount() != 0 || s.Working || s.Contents[0].Why != bundle.WhyNotOwned {
		t.Errorf("seen = %+v, want nothing", s)
	}
}

// What a look says has an end, however much differs and is asked for.
func TestLookIsBounded(t *testing.T) {
	m := lab.NewMachine(t.TempDir())
	dir := state.Of(m.Host())
	if err := dir.Make(); err != nil {
		t.Fatal(err)
	}

	g := state.Generation{Record: bundle.Record{Generation: 1}, Run: "run-1", Owned: state.OwnedList{Paths: map[string]state.OwnedPath{}}}
	long := strings.Repeat("x", 200)
	for i := range 3000 {
		p := fmt.Sprintf("/etc/%d/%s", i, long)
		g.Owned.Paths[p] = state.OwnedPath{Now: owned.Entry{Kind: owned.File, Digest: bundle.DigestBytes(nil), Mode: 0o644, User: "root", Group: "root"}}
	}
	if err := dir.Commit(g, state.Generation{}); err != nil {
		t.Fatal(err)
	}

	s := looked(t, m, bundle.Look{})
	if s.DriftCount() != 3000 || len(s.Drift) > bundle.MaxDrift || len(s.Drift) < 500 {
		t.Errorf("%d differ, %d are listed; want 3000 and at most %d", s.DriftCount(), len(s.Drift), bundle.MaxDrift)
	}
	if _, err := look.Host(t.Context(), dir, bundle.Look{Contents: make([]string, bundle.MaxLookPaths+1)}); err == nil {
		t.Error("the bytes of too many files were not refused")
	}
}

// Files that are large come not at all, and together no more than one look brings.
func TestLargeContents(t *testing.T) {
	m := lab.NewMachine(t.TempDir())
	dir := state.Of(m.Host())
	if err := dir.Make(); err != nil {
		t.Fatal(err)
	}

	g := state.Generation{Record: bundle.Record{Generation: 1}, Run: "run-1", Owned: state.OwnedList{Paths: map[string]state.OwnedPath{}}}
	var ask bundle.Look
	for i, size := range []int{bundle.MaxLookFile + 1, bundle.MaxLookFile, bundle.MaxLookFile, bundle.MaxLookFile, bundle.MaxLookFile, 1} {
		p := fmt.Sprintf("/etc/%d", i)
		if err := os.WriteFile(filepath.Join(m.Dir(), p), make([]byte, size), 0o644); err != nil {
			t.Fatal(err)
		}
		g.Owned.Paths[p] = state.OwnedPath{Now: owned.Entry{Kind: owned.File}}
		ask.Contents = append(ask.Contents, p)
	}
	if err := dir.Commit(g, state.Generation{}); err != nil {
		t.Fatal(err)
	}

	var got []string
	for _, c := range looked(t, m, ask).Contents {
		got = append(got, fmt.Sprintf("%d%s", len(c.Bytes), c.Why))
	}
	const whole = "262144"
	want := []string{"0" + bundle.WhyTooLarge, whole, whole, whole, whole, "0" + bundle.WhyTooLarge}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("contents = %q, want %q", got, want)
	}
}

// Of a user that was on the host before bellhop, what the repo says of it is compared, and nothing else.
func TestAccountsOfTheHostsOwn(t *testing.T) {
	m := lab.NewMachine(t.TempDir())
	m.AddUser("bot", "bot", "/srv/bot")
	a, _ := m.Account("bot")
	a.Shell, a.UID, a.GID = "/bin/sh", 4711, 4712
	lab.SetAccount(m, a, "daemon")
	g := state.Generation{Record: bundle.Record{Generation: 1}, Run: "run-1", Owned: state.OwnedList{Paths: map[string]state.OwnedPath{}}}
	g.Manifest.Users = []bundle.User{{Name: "bot", Group: "bot", Home: "/srv/bot", UID: 900, GID: 901}}
	dir := state.Of(m.Host())
	if err := dir.Make(); err != nil {
		t.Fatal(err)
	}
	if err := dir.Commit(g, state.Generation{}); err != nil {
		t.Fatal(err)
	}

	var got []string
	for _, d := range looked(t, m, bundle.Look{}).Drift {
		got = append(got, d.Name+" "+d.What+" "+d.Want+" "+d.Is)
	}
	if want := "bot gid 901 4712, bot uid 900 4711"; strings.Join(got, ", ") != want {
		t.Errorf("drift = %q, want %s", got, want)
	}
}
