package bellhop_test

import (
	"os"
	"os/exec"
	"slices"
	"testing"

	"bellhop/internal/fleet"
)

// The example is a repo that check takes without a word, and its host gets what its README says.
func TestComposeExampleIsARepo(t *testing.T) {
	out, err := exec.Command("go", "run", "./cmd/bellhop", "check", "examples/compose").CombinedOutput()
	if got := string(out); err != nil || got != "ok hexagone: 1 host\n" {
		t.Errorf("bellhop check examples/compose: %v\n%s", err, got)
	}

	f, err := (&fleet.Loader{}).Load(t.Context(), os.DirFS("examples/compose"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := f.Bundle("chrysalis")
	if err != nil {
		t.Fatal(err)
	}
	project := b.ServiceOf("wiki").Compose
	if project == nil || len(project.Containers) != 2 || !slices.Equal(project.ContainerOf("wiki").Files, []string{"/opt/stacks/wiki/wiki.conf"}) {
		t.Errorf("the project is %+v, want two containers, and wiki mounting wiki.conf", project)
	}
	if len(b.Keys) != 1 || b.Keys[0].Path != "/run/keys/wiki-password" {
		t.Errorf("keys %+v, want wiki-password", b.Keys)
	}
}
