package host_test

import (
	"os"
	"testing"

	"bellhop/internal/bundle"
)

// The root that a copy left stays until the system has one of its own, and leaves with the end of the run.
func TestNixOSRootOfTheCopy(t *testing.T) {
	const next = "/nix/var/nix/gcroots/bellhop/next"
	for outcome, change := range map[string]func(*load){
		bundle.OutcomeDone:       func(*load) {},
		bundle.OutcomeRolledBack: func(l *load) { l.keyOf("nobody-makes-it", "token", "x") },
	} {
		m := newNixOS(t, topTwo())
		if err := os.MkdirAll(m.Path("/nix/var/nix/gcroots/bellhop"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(systemTwo, m.Path(next)); err != nil {
			t.Fatal(err)
		}

		atSet := ""
		m.Host().Reached = func(step string) {
			if step == "system set" {
				atSet, _ = os.Readlink(m.Path(next))
			}
		}
		l := systemLoad(systemTwo, "")
		change(l)
		twinDeploy(t, m, l.offer(), l, outcome)
		if atSet != systemTwo {
			t.Errorf("%s: when the profile was set the root was %q", outcome, atSet)
		}
		if _, err := os.Lstat(m.Path(next)); err == nil {
			t.Errorf("%s: the root of the copy is left", outcome)
		}
	}
}
