package real

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bellhop/internal/host/machine"
)

func TestWithSane(t *testing.T) {
	got := filepath.SplitList(withSane("/opt/x::.:/usr/bin:rel"))
	if got[0] != "/opt/x" || got[1] != "/usr/bin" || !slices.Contains(got, "/usr/sbin") {
		t.Errorf("withSane = %v", got)
	}
	for _, d := range got {
		if !filepath.IsAbs(d) {
			t.Errorf("withSane kept %q", d)
		}
	}
}

func TestCurrentIsBesideTheHelper(t *testing.T) {
	dir := t.TempDir()
	exe := filepath.Join(dir, "9f86")
	if got := current(exe); got != "/usr/local/libexec/bellhop/current" {
		t.Errorf("current without a link = %s", got)
	}
	if err := os.Symlink("9f86", filepath.Join(dir, "current")); err != nil {
		t.Fatal(err)
	}
	if got := current(exe); got != filepath.Join(dir, "current") {
		t.Errorf("current = %s, want the link beside", got)
	}
}

func TestLookups(t *testing.T) {
	a := Accounts{}
	root, ok, err := a.User("root")
	if err != nil || !ok || root.UID != 0 || root.Group != "root" || root.Home == "" {
		t.Errorf("User(root) = %+v, %v, %v", root, ok, err)
	}
	for _, n := range []string{"0", "-h", "--help", "a b", "root:x", "", "nobody\nroot", "no-such-user-here"} {
		if acc, ok, err := a.User(n); ok || err != nil {
			t.Errorf("User(%q) = %+v, %v, %v", n, acc, ok, err)
		}
	}
	if _, _, err := a.ids("4711", "4712"); err != nil {
		t.Errorf("ids of bare numbers: %v", err)
	}
	if _, _, err := a.ids("no-such-user", "root"); err == nil {
		t.Error("ids of an unknown user is no error")
	}
}

// Without a path the tools apply everything on the host; with a name like an option, worse.
func TestToolsGetPathsAndNamesOnly(t *testing.T) {
	ctx := context.Background()
	a := Accounts{}
	if err := a.Tmpfiles(ctx, nil); err != nil {
		t.Error(err)
	}
	if err := a.Sysusers(ctx, []string{"--help"}); err == nil || !strings.Contains(err.Error(), "not absolute") {
		t.Errorf("Sysusers(--help) = %v", err)
	}
	for _, acc := range []machine.Account{
		{Name: "-x", Group: "g", Home: "/"}, {Name: "x", Group: "-g", Home: "/"}, {Name: "x", Group: "g", Home: "rel"}, {Name: "x", Group: "g", Home: "/a:b"},
	} {
		if err := a.Usermod(ctx, acc); err == nil || strings.HasPrefix(err.Error(), "usermod:") {
			t.Errorf("Usermod(%+v) = %v, want it refused before it is run", acc, err)
		}
	}
}
