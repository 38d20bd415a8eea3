package nixos_test

import (
	"strings"
	"testing"

	"bellhop/internal/nixos"
)

func TestUnsafeBuilders(t *testing.T) {
	for _, c := range []struct {
		about nixos.About
		want  string
	}{
		{nixos.About{Sandbox: "true"}, ""},
		{nixos.About{Sandbox: "relaxed", Daemon: true}, ""},
		{nixos.About{Sandbox: "false", Root: true}, "as root"},
		{nixos.About{Sandbox: "false", Daemon: true}, "as root"}, // a daemon alone keeps nobody apart
		{nixos.About{Sandbox: "false", Daemon: true, BuildUsers: "nixbld"}, "any user"},
		{nixos.About{Sandbox: "false"}, "the user who asks"},
	} {
		if got := c.about.Unsafe(); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("Unsafe(%+v) = %q, want %q", c.about, got, c.want)
		}
	}
}

// Both names of the question for settings are understood, whichever Nix is here.
func TestDescribe(t *testing.T) {
	needNix(t)
	t.Setenv("NIX_CONFIG", "sandbox = false\nbuild-users-group = builders\n")
	a, err := nixos.Describe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if a.Sandbox != "false" || a.BuildUsers != "builders" || !strings.Contains(a.Version, "nix") {
		t.Errorf("Describe = %+v", a)
	}
}
